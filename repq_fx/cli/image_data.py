"""--data of the command line: a folder of images or an `.npz` file."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..analysis.report import ImageFormat
from ..errors import RepqError

_IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side to ``size / crop``, cut the centre, scale to [0, 1], normalize.

    The defaults are ImageNet's. An image that already has the wanted size is not resampled.
    """

    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop: float = 0.875

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"image size must be at least 1, got {self.size}.")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ValueError(
                f"mean and std need 1 or 3 numbers each, got {self.mean} and {self.std}."
            )
        if not all(math.isfinite(mean) for mean in self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}.")
        if not all(0 < std < math.inf for std in self.std):
            raise ValueError(f"std must be positive and finite, got {self.std}.")

    def __call__(self, image: Image.Image) -> Tensor:
        """Turn an image into float ``[channels, size, size]``."""
        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        if image.size != (self.size, self.size):
            scale = self.size / self.crop / min(image.size)
            width, height = (round(side * scale) for side in image.size)
            left, top = (width - self.size) // 2, (height - self.size) // 2
            image = image.resize((width, height), Image.Resampling.BICUBIC)
            image = image.crop((left, top, left + self.size, top + self.size))
        pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0)
        pixels = pixels.reshape(self.size, self.size, len(self.mean)).permute(2, 0, 1)
        mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (self.mean, self.std))
        return (pixels - mean) / std


def image_format(shape: Sequence[int], preprocessing: Preprocessing | None) -> ImageFormat:
    """What a report says of images ``[channels, height, width]`` that were preprocessed so."""
    if preprocessing is None:
        return ImageFormat.of(shape)
    return ImageFormat.of(shape, preprocessing.mean, preprocessing.std)


@dataclass(frozen=True)
class ImageData:
    """Images that are decoded when they are asked for.

    Attributes:
        count: Number of images.
        labels: int64 ``[count]``, or None where they are unknown.
        read: Returns image i as a float tensor ``[C, H, W]``.
        name: Where they are from.
        folders: How many subfolders the labels count; None where labels are numbers of a file.
        preprocessing: What was done to them; None where a file has them ready.
    """

    count: int
    labels: Tensor | None
    read: Callable[[int], Tensor]
    name: str = ""
    folders: int | None = None
    preprocessing: Preprocessing | None = None

    def evenly(self, count: int) -> "ImageData":
        """So many of the images, or all if there are fewer, evenly spread: some of every class."""
        count = min(count, self.count)
        chosen = [index * self.count // count for index in range(count)]
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, count=count, labels=labels, read=lambda i: self.read(chosen[i]))

    def batches(self, stop: int | None = None, *, size: int = 32) -> Iterator[Tensor]:
        """The first `stop` images (all by default) in batches ``[size, C, H, W]``."""
        stop = self.count if stop is None else min(stop, self.count)
        for start in range(0, stop, size):
            yield torch.stack([self.read(i) for i in range(start, min(start + size, stop))])


def open_images(path: Path, preprocessing: Preprocessing, *, option: str = "--data") -> ImageData:
    """Open a folder of images, or an `.npz` with images and perhaps labels.

    A folder is searched with its subfolders; if every image lies in a subfolder, the sorted
    subfolder names are the classes. An `.npz` holds either ``jpeg``, ``offset`` and ``label`` (all
    encoded files in one byte array), or ``images`` (uint8 ``[N, H, W]`` or ``[N, H, W, C]``, or
    float ``[N, C, H, W]``, taken as it is) and optionally ``labels``.

    Raises:
        RepqError: There is nothing there, or it has another layout.
    """
    if path.is_dir():
        return _open_folder(path, preprocessing)
    if path.suffix == ".npz" and path.is_file():
        return _open_npz(path, preprocessing)
    found = f"got {str(path)!r}" if path.exists() else f"there is no {str(path)!r}"
    raise RepqError(f"{option} must be a folder of images or an .npz file; {found}.")


def _open_folder(path: Path, preprocessing: Preprocessing) -> ImageData:
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise RepqError(f"there are no images in {str(path)!r}.")
    labels, folders = None, None
    if all(file.parent != path for file in files):
        classes = sorted({file.relative_to(path).parts[0] for file in files})
        labels = torch.tensor([classes.index(file.relative_to(path).parts[0]) for file in files])
        folders = len(classes)

    def read(index: int) -> Tensor:
        try:
            return preprocessing(Image.open(files[index]))
        # ultralytics replaces PIL.Image.open by one that wants a package for unknown formats.
        except (OSError, ImportError) as error:
            raise RepqError(f"image {str(files[index])!r} cannot be read: {error}.") from error

    return ImageData(len(files), labels, read, str(path), folders, preprocessing)


def _open_npz(path: Path, preprocessing: Preprocessing) -> ImageData:
    try:
        with np.load(path) as file:  # allow_pickle is off: nothing in the file can run
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy raises whatever zipfile does
        raise RepqError(f"{str(path)!r} cannot be read: {error}.") from error
    if {"jpeg", "offset"} <= arrays.keys():
        offset, encoded = arrays["offset"], arrays["jpeg"]
        labels = _labels(arrays.get("label"), len(offset) - 1, path)

        def read_encoded(index: int) -> Tensor:
            data = encoded[offset[index] : offset[index + 1]].tobytes()
            try:
                return preprocessing(Image.open(io.BytesIO(data)))
            except (OSError, ImportError) as error:
                raise RepqError(
                    f"image {index} of {str(path)!r} cannot be read: {error}."
                ) from error

        return ImageData(len(offset) - 1, labels, read_encoded, str(path), None, preprocessing)
    images = arrays.get("images")
    if images is None or images.ndim not in (3, 4) or len(images) == 0:
        raise RepqError(
            f"{str(path)!r} needs 'images' of 3 or 4 dimensions, or 'jpeg' and 'offset'; it holds "
            f"{', '.join(f'{name} {value.shape}' for name, value in arrays.items()) or 'nothing'}."
        )
    labels = _labels(arrays.get("labels"), len(images), path)

    def read_pixels(index: int) -> Tensor:
        if images.dtype == np.uint8:
            return preprocessing(Image.fromarray(images[index]))
        return torch.from_numpy(images[index].astype(np.float32))

    done = preprocessing if images.dtype == np.uint8 else None
    return ImageData(len(images), labels, read_pixels, str(path), None, done)


def _labels(values: np.ndarray | None, count: int, path: Path) -> Tensor | None:
    if values is None:
        return None
    if values.shape != (count,):
        raise RepqError(f"{str(path)!r} holds {count} images but labels of shape {values.shape}.")
    return torch.from_numpy(values.astype(np.int64))
