"""Calibration data: batches from whatever a user has, looked at, checked and read."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ..errors import CalibrationError
from .images import KEPT_IMAGES, LABEL, FirstImages, reads_single_images

_BATCH_SIZE = 32

Batch = Tensor | Sequence[Any]


class CalibrationData:
    """Batches that come one after the other.

    Each iteration is one pass. What can be iterated anew, such as a tensor, a list or a loader, is;
    an iterator is spent after one. What is looked at beforehand belongs to the pass that comes
    next, even of a loader that shuffles: it is kept until then, and nothing else is. Who needs
    images of this pass again asks for its `beginning`.
    """

    def __init__(self, source: Iterable[Batch]) -> None:
        self._source: Any = source  # Of which only some have a length.
        self._seen: list[Batch] = []
        self._rest: Iterator[Batch] | None = None  # Of the pass that `_seen` begins.

    @staticmethod
    def of(data: Tensor | Iterable[Batch]) -> "CalibrationData":
        """`data` itself if it is one; a tensor is cut into batches of 32.

        Raises:
            CalibrationError: `data` cannot be iterated.
        """
        if isinstance(data, CalibrationData):
            return data
        if isinstance(data, Tensor):
            return CalibrationData(data.split(_BATCH_SIZE) if data.dim() and len(data) else ())
        if not isinstance(data, Iterable):
            raise CalibrationError(
                "the calibration data must be a tensor or an iterable of batches, "
                f"got {type(data).__name__}."
            )
        return CalibrationData(data)

    @property
    def batch_count(self) -> int | None:
        """How many batches a pass has, if the source knows."""
        try:
            return len(self._source)
        except TypeError:
            return None

    def __iter__(self) -> Iterator[Batch]:
        """A pass over all batches."""
        if self._rest is None:
            return iter(self._source)
        # The iterator forgets the list when it is through with it.
        batches = chain(iter(self._seen), self._rest)
        self._seen, self._rest = [], None
        return batches

    def inputs(
        self, count: int, *, label: str = LABEL, device: torch.device | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """A pass over what a model reads of each batch.

        Args:
            count: How many tensors that is.
            label: What a batch is called in messages, before its index.
            device: Where they are wanted; None leaves them where they are.

        Raises:
            CalibrationError: While iterating; see `model_inputs`.
        """
        return _checked(self, count, label, device)

    def first(self, step: str) -> Batch:
        """The first batch, which remains to be read; `step` is who asks, for messages.

        Raises:
            CalibrationError: There is none.
        """
        batch = next(self._ahead(), None)
        if batch is None:
            raise CalibrationError(f"{step}: the calibration data is empty.")
        return batch

    def first_images(self, graph: Any) -> FirstImages:
        """The first 32 images that `calibrate` would keep for `graph`; they remain to be read.

        They are on its device. Where it reads single images there is one.

        Raises:
            CalibrationError: See `model_inputs`; or the first batch does not fit the graph.
        """
        found = FirstImages(KEPT_IMAGES)
        batches = _checked(self._ahead(), number_of_inputs(graph), LABEL, device_of(graph))
        for index, inputs in enumerate(batches):
            if index == 0:
                with fitting(inputs, f"{LABEL} {index}"):
                    is_single = reads_single_images(graph, inputs)
                if is_single:
                    found.take_whole(inputs)
            found.add(inputs)
            if found.are_complete:
                break
        return found

    def beginning(self, images: int) -> list[Batch]:
        """As many batches as hold the first `images` images, or all; they remain to be read."""
        found: list[Batch] = []
        for batch in self._ahead():
            found.append(batch)
            first = next(iter(batch), None) if isinstance(batch, Sequence) else batch
            if not isinstance(first, Tensor):
                break  # Whoever reads it as a batch says so.
            images -= first.shape[:1].numel()
            if images <= 0:
                break
        return found

    def _ahead(self) -> Iterator[Batch]:
        """The batches of the next pass, without reading them from it."""
        if self._rest is None:
            self._rest = iter(self._source)
        yield from self._seen
        for batch in self._rest:
            self._seen.append(batch)
            yield batch


def _checked(
    batches: Iterable[Batch], count: int, label: str, device: torch.device | None
) -> Iterator[tuple[Tensor, ...]]:
    for index, batch in enumerate(batches):
        inputs = model_inputs(batch, count, f"{label} {index}")
        yield tuple(value.to(device=device) for value in inputs)


def model_inputs(batch: Batch, count: int, label: str) -> tuple[Tensor, ...]:
    """The first `count` tensors of a batch, such as ``(images, labels)``, in float32.

    Raises:
        CalibrationError: The batch holds fewer, or one is empty, not floating-point or NaN, or the
            first is infinite; the message begins with `label`.
    """
    values = (batch,) if isinstance(batch, Tensor) else batch
    if not isinstance(values, Sequence) or len(values) < count:
        raise CalibrationError(
            f"{label} must be a tensor or a sequence that begins with the model's {count} "
            f"input(s), got {type(batch).__name__}."
        )
    inputs = tuple(values[:count])
    for index, value in enumerate(inputs):
        if not isinstance(value, Tensor):
            raise CalibrationError(f"{label} holds a {type(value).__name__}, expected a tensor.")
        if not value.is_floating_point():
            raise CalibrationError(
                f"{label} has dtype {value.dtype}, expected a floating-point tensor."
            )
        if value.numel() == 0:
            raise CalibrationError(f"{label} is empty: shape {tuple(value.shape)}.")
        # A mask beside the images may be infinite; where a layer reads it, an observer objects.
        is_bad = value.isnan() if index else ~value.isfinite()
        if is_bad.any():
            raise CalibrationError(f"{label} holds NaN or infinite values.")
    return tuple(value.float() for value in inputs)


def number_of_inputs(graph: Any) -> int:
    """How many tensors a graph module reads."""
    return sum(node.op == "placeholder" for node in graph.graph.nodes)


def device_of(graph: Any) -> torch.device:
    """Where the parameters of a graph module are."""
    return next((p.device for p in graph.parameters()), torch.device("cpu"))


@contextmanager
def fitting(inputs: tuple[Tensor, ...], label: str) -> Iterator[None]:
    """Say of which inputs, called `label`, it was that a model could not be run with them.

    Raises:
        CalibrationError: What runs inside fails.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        shapes = ", ".join(f"{tuple(value.shape)} {value.dtype}" for value in inputs)
        reason = str(error).partition("\n")[0]
        raise CalibrationError(f"{label} ({shapes}) does not fit the model: {reason}") from error
