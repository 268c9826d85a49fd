"""Images of a folder, as a detector's repository letterboxes them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import RepqError

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class ImageFolder:
    """Float batches ``[batch, 3, side, side]`` in RGB between 0 and 1, read anew at each iteration.

    Attributes:
        folder: Also what lies in folders inside counts.
        letterbox: The repository's function: image, size and ``auto`` to a tuple that begins with
            the resized image in a grey frame.
        count: Use the first so many by name.
        side: Height and width, in pixels.
        batch: Images in one batch.

    Raises:
        ValueError: `count` or `batch` is not positive.
        RepqError: The folder is missing or has no images; later, an image cannot be read.
    """

    folder: Path
    letterbox: Callable[..., Any]
    count: int
    side: int
    batch: int
    paths: list[Path] = field(init=False)

    def __post_init__(self) -> None:
        for name, value in {"images": self.count, "batch": self.batch}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not self.folder.is_dir():
            raise RepqError(f"there is no folder {str(self.folder)!r}.")
        found = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise RepqError(f"there are no images in {str(self.folder)!r}.")
        object.__setattr__(self, "paths", found[: self.count])

    def __len__(self) -> int:
        return math.ceil(len(self.paths) / self.batch)

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.paths), self.batch):
            yield torch.stack([self._read(p) for p in self.paths[start : start + self.batch]])

    def _read(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as image:
                pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        # ultralytics replaces PIL.Image.open by one that wants a package for unknown formats.
        except (OSError, SyntaxError, ValueError, ImportError) as error:
            raise RepqError(f"cannot read the image {str(path)!r}: {error}") from error
        framed = self.letterbox(pixels, (self.side, self.side), auto=False)[0]
        return torch.from_numpy(np.ascontiguousarray(framed)).permute(2, 0, 1).float() / 255.0
