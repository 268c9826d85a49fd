"""Activations of all images in half precision, in memory up to a limit and on disk beyond it."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor


class StoredActivation:
    """One tensor for all images, as float16 with a power of two of its own for each image.

    The power keeps the largest magnitude of an image near the middle of float16's range, so that
    neither large activations overflow nor small ones vanish: what is read differs from what was
    written by at most ``2**-11`` of a value, or ``2**-38`` of the image's largest.
    """

    def __init__(self, values: Tensor, units: Tensor) -> None:
        self._values = values
        self._units = units

    def write(self, start: int, values: Tensor) -> None:
        """Store float ``[n, ...]`` as the images from `start` on."""
        largest = values.reshape(len(values), -1).abs().amax(1).float()
        exponents = torch.frexp(largest).exponent.clamp(-100, 127) - 14
        units = torch.ldexp(torch.ones_like(largest), exponents)
        images = slice(start, start + len(values))
        self._values[images].copy_(values / _for_each_image(units, values))
        self._units[images].copy_(units)

    def read(self, images: Tensor, device: torch.device) -> Tensor:
        """The float32 values of the images of these indices, int64 on the CPU."""
        values, units = self._values[images].to(device), self._units[images].to(device)
        return values * _for_each_image(units, values)

    def divide(self, divisor: float) -> None:
        """Divide all values, unless by zero."""
        if divisor > 0:
            self._units /= divisor


class ActivationStore:
    """Makes `StoredActivation`s; a context, at whose end the files are gone.

    Args:
        images: How many entries each holds.
        limit: Bytes that may be held in memory; what is over goes to files.
        folder: Where the files go; None for the system's temporary folder.
    """

    def __init__(self, images: int, limit: int, folder: str | None = None) -> None:
        self._images = images
        self._limit = limit
        self._folder = tempfile.TemporaryDirectory(prefix="repq_fx-", dir=folder)
        self._files = 0
        self._held: dict[str, int] = {}
        self._entries: dict[str, StoredActivation] = {}

    def __enter__(self) -> "ActivationStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entries.clear()
        self._folder.cleanup()

    def __getitem__(self, name: str) -> StoredActivation:
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def write(self, name: str, start: int, values: Tensor) -> None:
        """Store the images from `start` on of the tensor called `name`."""
        if name not in self._entries:
            self._entries[name] = self._allocate(name, values.shape[1:])
        self._entries[name].write(start, values)

    def share(self, name: str, other: str) -> None:
        """Let `name` be the same tensor as `other`."""
        self._entries[name] = self._entries[other]

    def keep_only(self, names: Sequence[str]) -> None:
        """Free everything else."""
        for name in set(self._entries) - set(names):
            del self._entries[name]
            self._held.pop(name, None)

    def _allocate(self, name: str, shape: torch.Size) -> StoredActivation:
        size = (self._images, *shape)
        count = torch.Size(size).numel()
        units = torch.ones(self._images)
        if sum(self._held.values()) + 2 * count <= self._limit:
            self._held[name] = 2 * count
            return StoredActivation(torch.empty(size, dtype=torch.float16), units)
        self._files += 1
        path = Path(self._folder.name, f"{self._files}.f16")
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2 * count)  # A full disk is an error here and now.
        values = torch.from_file(str(path), shared=True, size=count, dtype=torch.float16)
        # A mapped file lives on without its name, and leaves nothing behind if we are killed.
        path.unlink()
        return StoredActivation(values.reshape(size), units)


def _for_each_image(units: Tensor, values: Tensor) -> Tensor:
    return units.reshape(-1, *[1] * (values.dim() - 1))
