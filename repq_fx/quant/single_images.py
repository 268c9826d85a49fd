"""Whether a model reads its inputs as single images, without an axis that counts them."""

from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_AXES_OF_ONE = ((nn.Linear, 1), (nn.Conv1d, 2), (nn.Conv2d, 3), (nn.Conv3d, 4))
"""Layers of torch that also take one sample without an axis before it, and how many axes it has."""


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
