"""Models of `timm` by name, with the preprocessing they were trained with."""

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from .. import api
from ..errors import RepqError
from ..lowering import Backend
from ..quant import Scheme
from ..quant.data import Batch
from ..reconstruct import Reconstruction

_DEFAULT_SCHEME = Scheme()


def quantize(  # noqa: PLR0913  (all but two by name)
    model: str | nn.Module,
    data: str | os.PathLike[str] | Tensor | Iterable[Batch],
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    scheme: Scheme | str = _DEFAULT_SCHEME,
    reconstruction: Reconstruction | None = None,
    images: int = 32,
    batch: int = 16,
    backend: str | Backend = Backend.INT8,
    progress: bool = True,
) -> GraphModule:
    """Quantize a model of timm with images as its own transforms make them.

    Args:
        model: A name for ``timm.create_model``, or a model that it made.
        data: A folder of images, of which the first `images` are transformed as the model's
            configuration says; or calibration data as for `repq_fx.quantize`.
        weights: A checkpoint for ``timm.models.load_checkpoint``.
        pretrained: Let timm download the weights of `model`.
        scheme: Bits, weight quantizer and range rule, or the name of a preset.
        reconstruction: Learn rounding, ranges and biases; see `repq_fx.reconstruct`.
        images: How many images of a folder calibrate.
        batch: Images in one forward pass.
        backend: As for `repq_fx.convert`.
        progress: Show a progress bar.

    Returns:
        A graph from normalized images ``[N, 3, H, W]`` to what the model returns.

    Raises:
        ValueError: `images` or `batch` is below 1.
        RepqError: timm is not installed or has no such model; the weights do not fit; or the folder
            is missing or has no images. Of one that cannot be read timm's logger warns.

    Example:
        >>> from repq_fx.integrations import timm  # doctest: +SKIP
        >>> int8 = timm.quantize("mobileone_s0", "images/", pretrained=True)  # doctest: +SKIP
    """
    for name, value in {"images": images, "batch": batch}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if isinstance(model, str):
        model, _ = create_model(model, pretrained=pretrained)
    if weights is not None:
        _load_weights(model, weights)
    if isinstance(data, str | os.PathLike):
        data = _folder_images(model, Path(data), images, batch)
    return api.quantize(
        model.eval(), data, scheme=scheme, reconstruction=reconstruction, backend=backend,
        progress=progress,
    )  # fmt: skip


def create_model(name: str, *, pretrained: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """Build ``timm.create_model(name)`` in evaluation mode.

    Returns:
        The model, and its ``input_size``, ``mean``, ``std`` and ``crop_pct``.

    Raises:
        RepqError: timm is not installed or has no such model.
    """
    try:
        import timm
        from timm.data import resolve_model_data_config
    except ModuleNotFoundError as error:
        raise RepqError("timm models need the timm package: pip install timm.") from error
    if not timm.is_model(name):
        similar = (
            ", ".join(timm.list_models(f"{name.split('_', maxsplit=1)[0]}*")[:5]) or "none similar"
        )
        raise RepqError(f"timm has no model {name!r} (it has: {similar}).")
    model: nn.Module = timm.create_model(name, pretrained=pretrained).eval()
    return model, resolve_model_data_config(model)


def _load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    from timm.models import load_checkpoint

    if not Path(path).is_file():
        raise RepqError(f"there is no weights file {str(path)!r}.")
    try:
        load_checkpoint(model, str(path))
    except Exception as error:  # Whatever torch.load and load_state_dict raise.
        raise RepqError(
            f"the weights {str(path)!r} do not fit {type(model).__name__}: {error}"
        ) from error


def _folder_images(model: nn.Module, folder: Path, count: int, batch: int) -> list[Tensor]:
    from timm.data import ImageDataset, create_transform, resolve_model_data_config

    if not folder.is_dir():
        raise RepqError(f"there is no folder of images {str(folder)!r}.")
    try:
        data = ImageDataset(
            str(folder), transform=create_transform(**resolve_model_data_config(model))
        )
        found = [image for image, _ in islice(data, count)]
    except (OSError, RuntimeError, IndexError, ImportError) as error:
        raise RepqError(f"cannot read the images of {str(folder)!r}: {error}") from error
    return list(torch.stack(found).split(batch))
