"""The inputs of a model as images: whether it reads single ones, and the first that are kept."""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

LABEL = "calibration batch"
"""What a batch is called in messages, before its index."""
# Where `calibrate` leaves inputs in a prepared model's `meta` for steps that need data again.
_KEPT_INPUTS = "repq_fx_calibration_inputs"
# At least 32 images, and of small ones as many as have the pixels of 32 of 224 x 224.
KEPT_IMAGES = 32
_KEPT_PIXELS = 32 * 224 * 224
_MOST_KEPT_IMAGES = 1024
_AXES_OF_ONE = ((nn.Linear, 1), (nn.Conv1d, 2), (nn.Conv2d, 3), (nn.Conv3d, 4))
"""Layers of torch that also take one sample without an axis before it, and how many axes it has."""


def leave_inputs(prepared: Any, inputs: tuple[Tensor, ...] | None) -> None:
    """Leave in a prepared graph what later steps shall refine it with, in place of what was."""
    prepared.meta[_KEPT_INPUTS] = inputs


def inputs_left(prepared: Any) -> tuple[Tensor, ...] | None:
    """What `leave_inputs` has left last; None if nothing."""
    found: tuple[Tensor, ...] | None = prepared.meta.get(_KEPT_INPUTS)
    return found


def images_worth_keeping(inputs: tuple[Tensor, ...]) -> int:
    """How many images of this size are enough to choose ranges and round weights with."""
    pixels = max(value[0, :1].numel() if value.dim() > 2 else 1 for value in inputs)
    return min(max(KEPT_IMAGES, _KEPT_PIXELS // pixels), _MOST_KEPT_IMAGES)


class FirstImages:
    """The first images of several batches that can be joined; those of another size do not count.

    Inputs that are not all batches of the same length cannot be joined: then the first are all.

    Args:
        most: How many images are enough.
    """

    def __init__(self, most: int) -> None:
        self._missing = most
        self._batches: list[tuple[Tensor, ...]] = []

    @property
    def are_complete(self) -> bool:
        """Whether no further inputs can add to them."""
        return self._missing <= 0

    @property
    def label(self) -> str:
        """What they are called in messages."""
        return f"{LABEL} 0" if len(self._batches) == 1 else "calibration batches joined to one"

    def take_whole(self, inputs: tuple[Tensor, ...]) -> None:
        """Take `inputs` as they are, and nothing else."""
        self._batches, self._missing = [inputs], 0

    def add(self, inputs: tuple[Tensor, ...]) -> None:
        """Take what is missing from `inputs`, unless they are of another size."""
        if not self._batches and not _are_batches(inputs):
            self.take_whole(inputs)
        elif not self.are_complete and self._fits(inputs):
            self._batches.append(tuple(value[: self._missing] for value in inputs))
            self._missing -= len(inputs[0])

    def _fits(self, inputs: tuple[Tensor, ...]) -> bool:
        first = self._batches[0] if self._batches else inputs
        sizes = zip(first, inputs, strict=True)
        return _are_batches(inputs) and all(a.shape[1:] == b.shape[1:] for a, b in sizes)

    def joined(self) -> tuple[Tensor, ...]:
        """All as one batch."""
        if len(self._batches) == 1:
            return self._batches[0]
        return tuple(torch.cat(values) for values in zip(*self._batches, strict=True))


def _are_batches(inputs: tuple[Tensor, ...]) -> bool:
    return all(value.dim() > 0 and len(value) == len(inputs[0]) for value in inputs)


class SingleImages:
    """Notices, while a model runs inside its block, whether it reads `inputs` as single images.

    Only the layers tell: of an input with three axes a convolution in two dimensions that reads
    three axes takes the first for channels.

    Attributes:
        are_possible: Whether the model has layers that could.
        are_read: Whether one did.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        ranks = {value.dim() for value in inputs}
        self._layers: dict[nn.Module, int] = {
            layer: axes
            for layer in model.modules()
            for kind, axes in _AXES_OF_ONE
            if axes in ranks and isinstance(layer, kind)
        }
        self._hooks: list[RemovableHandle] = []
        self.are_possible = bool(self._layers)
        self.are_read = False

    def __enter__(self) -> "SingleImages":
        """Begin to watch."""
        self._hooks = [layer.register_forward_pre_hook(self._note) for layer in self._layers]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave no hook behind."""
        for hook in self._hooks:
            hook.remove()

    def _note(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.are_read |= any(value.dim() == self._layers[layer] for value in args)


@torch.no_grad()
def reads_single_images(model: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether `model` does; it is run if it could."""
    watch = SingleImages(model, inputs)
    if watch.are_possible:
        device = next((p.device for p in model.parameters()), inputs[0].device)
        with watch:
            model(*(value.to(device, copy=True) for value in inputs))  # It may overwrite them.
    return watch.are_read
