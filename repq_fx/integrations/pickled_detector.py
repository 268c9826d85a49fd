"""Detectors that a repository pickles whole: their checkpoints, and the graph inside."""

import copy
import importlib
import io
import os
import pickle
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from .. import passes
from .._atomic_file import write_atomically
from ..errors import CalibrationError, RepqError
from ..quant.data import Batch, CalibrationData, model_inputs
from .image_folder import ImageFolder
from .prediction_maps import PredictionMaps, only_image_size

_DAMAGED = (pickle.UnpicklingError, EOFError, RuntimeError, AttributeError, ValueError, TypeError)
Data = Tensor | Iterable[Batch] | str | os.PathLike[str]


@dataclass(frozen=True)
class Repository:
    """What is different about one repository.

    Attributes:
        package: What to install for it: ``"yolov7detect"`` holds the module ``yolov7``.
        letterbox: The module in it whose function ``letterbox`` prepares images.
        maps_per_level: How many prediction maps a detector has for each level.
    """

    package: str
    letterbox: str
    maps_per_level: int


def read_checkpoint(path: str | os.PathLike[str], repository: Repository) -> Any:
    """The network in a checkpoint, which is executed while it is read.

    Args:
        path: The file.
        repository: Where it comes from.

    Raises:
        RepqError: The file is missing or no checkpoint, or the code of its classes is.
    """
    if not Path(path).is_file():
        raise RepqError(f"there is no checkpoint {str(path)!r}.")
    with suppress(ImportError):  # It makes the names importable that files of the repository use.
        importlib.import_module(repository.package.removesuffix("detect"))
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except ImportError as error:
        raise _missing(repository, f"read {str(path)!r}", error) from error
    except _DAMAGED as error:
        raise RepqError(f"{str(path)!r} is not a checkpoint that can be read: {error}") from error
    found = (content.get("ema") or content.get("model")) if isinstance(content, dict) else None
    if not isinstance(found, nn.Module):
        raise RepqError(f"{str(path)!r} holds no network under 'ema' or 'model'.")
    return found


def write_checkpoint(model: Any, path: str | os.PathLike[str]) -> None:
    """Write what the repository's own loader reads; the file appears whole or not at all.

    Raises:
        RepqError: `model` was neither merged nor quantized.
        OSError: `path` is not writable.
    """
    if not is_rebuilt(model):
        raise RepqError(
            f"save_checkpoint: expected what quantize or merge returned, got a "
            f"{type(model).__name__}."
        )
    keys = ("ema", "updates", "optimizer", "training_results", "wandb_id")
    content = {"model": copy.deepcopy(model).cpu(), "epoch": -1, **dict.fromkeys(keys)}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def is_rebuilt(model: Any) -> bool:
    """Whether there is a graph of ours in `model`."""
    return isinstance(model, nn.Module) and any(
        isinstance(module, PredictionMaps) for module in model.modules()
    )


def calibration_data(
    data: Data, model: nn.Module, repository: Repository, *, images: int, side: int, batch: int
) -> Tensor | Iterable[Batch]:
    """`data`, or of a folder the images in it.

    Args:
        data: As for the public functions.
        model: A network of the repository, whose class lies in its ``models.yolo``.
        repository: Where it comes from.
        images: Use the first so many of a folder.
        side: Height and width of images of a folder.
        batch: Images of a folder in one batch.

    Raises:
        ValueError, RepqError: See `ImageFolder`; or the repository's function cannot be imported.
    """
    if not isinstance(data, str | os.PathLike):
        return data
    prefix = type(model).__module__.removesuffix("models.yolo")
    try:
        letterbox = importlib.import_module(prefix + repository.letterbox).letterbox
    except ImportError as error:
        raise _missing(repository, "letterbox images", error) from error
    return ImageFolder(Path(data), letterbox, images, side, batch)


def merged_maps(
    network: nn.Module, repository: Repository, stride: int, side: int
) -> PredictionMaps:
    """The merged graph of `network`, traced for images of `side`."""
    example = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    graph, size = _merged(network, example, stride)
    return PredictionMaps(graph, repository.maps_per_level, size).requires_grad_(False)


def quantized_maps(
    network: nn.Module,
    data: Tensor | Iterable[Batch],
    repository: Repository,
    stride: int,
    quantize: Callable[[GraphModule, CalibrationData, Tensor], GraphModule],
) -> PredictionMaps:
    """The quantized graph of `network`, which maps images to maps for each level.

    Args:
        network: All of a detector but the decoding.
        data: As for `repq_fx.quantize`.
        repository: Where the detector comes from.
        stride: Of its last level.
        quantize: `repq_fx.quantize` with its options.

    Raises:
        CalibrationError: The data is empty, or `stride` does not divide its images.
        RepqError: As `repq_fx.quantize` does.
    """
    data = CalibrationData.of(data)
    example = model_inputs(data.first("quantize"), 1, "calibration batch 0")[0][:1]
    if example.dim() != 4 or any(side % stride for side in example.shape[-2:]):
        raise CalibrationError(
            f"calibration batch 0 must be [N, 3, H, W] with H and W multiples of the stride "
            f"{stride}, got {list(example.shape)}."
        )
    merged, size = _merged(network, example, stride)
    graph = quantize(merged, data, example)
    return PredictionMaps(graph, repository.maps_per_level, size).requires_grad_(False)


def _merged(
    network: nn.Module, example: Tensor, stride: int
) -> tuple[GraphModule, tuple[int, int] | None]:
    """The merged graph, and the size of its images where it runs for no other."""
    graph = passes.merge_graph(network, example)
    return graph, only_image_size(graph, network, example, stride)


def _missing(repository: Repository, purpose: str, error: ImportError) -> RepqError:
    return RepqError(
        f"cannot {purpose}: {error}. pip install {repository.package}, or run in the repository's "
        "own folder."
    )
