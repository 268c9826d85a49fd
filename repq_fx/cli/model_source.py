"""MODEL and --weights of the command line."""

import importlib
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import FileFormatError, RepqError
from .image_data import Preprocessing


def build_model(source: str) -> tuple[nn.Module, Preprocessing]:
    """Build the model that ``package.module:factory`` or ``timm:NAME`` names, in evaluation mode.

    Raises:
        RepqError: The name is malformed, cannot be imported, or does not yield an `nn.Module`.
    """
    package, colon, name = source.partition(":")
    if not (package and colon and name):
        raise RepqError(f"MODEL must be package.module:factory or timm:NAME, got {source!r}.")
    if package == "timm":
        from ..integrations.timm import create_model

        model, config = create_model(name)
        return model, Preprocessing(
            config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]),
            config["crop_pct"],
        )  # fmt: skip
    # A console script does not look in the current folder, where the user's own code is.
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise RepqError(f"cannot import MODEL {source!r}: {error}.") from error
    finally:
        sys.path.pop(0)
    model = factory()
    if not isinstance(model, nn.Module):
        raise RepqError(f"MODEL {source!r} returned a {type(model).__name__}, not an nn.Module.")
    return model.eval(), Preprocessing()


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict, ``.safetensors`` or a `torch.save` file, into `model`.

    A checkpoint that keeps its state dict under ``state_dict`` or ``model`` is unwrapped.

    Raises:
        FileFormatError: The file is missing, unreadable, or its keys or shapes do not match.
    """
    state = _read_state_dict(path)
    expected = model.state_dict()
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unexpected:
        raise FileFormatError(
            f"the keys of {str(path)!r} do not match the model: "
            f"{len(missing)} missing ({_first(missing)}), "
            f"{len(unexpected)} unexpected ({_first(unexpected)})."
        )
    wrong = [name for name, value in state.items() if value.shape != expected[name].shape]
    if wrong:
        name = wrong[0]
        raise FileFormatError(
            f"{len(wrong)} tensors of {str(path)!r} have the wrong shape: {name!r} is "
            f"{tuple(state[name].shape)}, the model needs {tuple(expected[name].shape)}."
        )
    model.load_state_dict(state)


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileFormatError(f"there is no weights file {str(path)!r}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise FileFormatError(f"{str(path)!r} is truncated or damaged: {error}.") from error
    except Exception as error:  # torch.load raises whatever zipfile and pickle do.
        raise FileFormatError(
            f"{str(path)!r} is not a state dict that torch.load(weights_only=True) accepts: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise FileFormatError(f"{str(path)!r} does not hold a state dict.")
    return content


def _first(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return (shown + ", ...") if len(names) > 3 else (shown or "none")
