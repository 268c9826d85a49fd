"""Models of `timm` by name, with the preprocessing they were trained with."""

from typing import Any

from torch import nn

from ..errors import RepqError


def create_model(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Build ``timm.create_model(name)`` in evaluation mode, without weights.

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
    model: nn.Module = timm.create_model(name, pretrained=False).eval()
    return model, resolve_model_data_config(model)
