"""MODEL and --weights of the command line."""

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import integrations
from ..errors import FileFormatError, RepqError
from ..integrations import ultralytics
from .image_data import Preprocessing

FORMS = "package.module:factory, timm:NAME, ultralytics:FILE.pt (quantize) or FILE.repq (bench)"


def build_model(source: str) -> tuple[nn.Module, Preprocessing]:
    """Build the model that ``package.module:factory`` or ``timm:NAME`` names, in evaluation mode.

    Raises:
        RepqError: The name is malformed, cannot be imported, or does not yield an `nn.Module`.
    """
    package, colon, name = source.partition(":")
    if not (package and colon and name) or package == "ultralytics":
        raise RepqError(f"MODEL must be {FORMS}, got {source!r}{_hint(source)}.")
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
    except Exception as error:  # Whatever the user's module raises.
        reason = str(error).rstrip(".")
        if not isinstance(error, ImportError | AttributeError):
            reason = f"{type(error).__name__}: {reason}"
        raise RepqError(f"cannot import MODEL {source!r}: {reason}{_hint(source)}.") from error
    finally:
        sys.path.pop(0)
    try:
        model = factory()
    except Exception as error:  # Whatever the user's code raises.
        raise RepqError(f"MODEL {source!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise RepqError(f"MODEL {source!r} returned a {type(model).__name__}, not an nn.Module.")
    return model.eval(), Preprocessing()


def open_detector(file: Path) -> Any:
    """What `repq quantize` wrote, or one of ultralytics' own files.

    Raises:
        RepqError: The file is missing, unreadable, or holds something else.
    """
    if file.suffix in ultralytics.SUFFIXES:
        return ultralytics.open_model(file)
    model = integrations.load(file)
    if not ultralytics.is_quantized(model):
        raise RepqError(
            f"{str(file)!r} holds a network without a detector around it; "
            "only detectors predict boxes (repq bench times any network)."
        )
    return model


def _hint(source: str) -> str:
    """What was probably meant, in brackets."""
    path, module = Path(source), source.partition(":")[0]
    if module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        return f" (a module is written with dots: {dotted}:factory)"
    if path.suffix == ".repq":
        return " (a quantized file is for repq bench, predict and val)"
    if source.startswith("ultralytics:"):
        return " (a detector is for repq quantize, predict and val)"
    if path.suffix in {".pt", ".pth", ".safetensors"}:
        detector = f"; a detector is ultralytics:{source}" if path.suffix == ".pt" else ""
        return f" (weights go to --weights, beside their MODEL{detector})"
    if path.suffix == ".onnx":
        return " (ONNX files are not read)"
    return ""


def require_runs(network: nn.Module, example: Tensor, options: str) -> Any:
    """The model's outputs for an image; its own error becomes one sentence.

    Raises:
        RepqError: The model does not take such an image; the message names the `options` to change.
    """
    try:
        with torch.no_grad():
            return network(example.clone())
    except Exception as error:  # Whatever the user's code raises.
        shape = "x".join(map(str, example.shape[1:]))
        reason = str(error).partition("\n")[0].rstrip(".")
        raise RepqError(
            f"the model fails on an image of {shape} ({reason}); is it of another size or number "
            f"of channels? See {options}."
        ) from error


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
    except pickle.UnpicklingError as error:  # Its message advises to run what is in the file.
        raise FileFormatError(
            f"{str(path)!r} is no state dict that torch.load(weights_only=True) accepts: it holds "
            "other things than tensors; torch.save(model.state_dict(), ...) writes one."
        ) from error
    except SafetensorError as error:
        raise FileFormatError(f"{str(path)!r} is truncated or damaged: {error}.") from error
    except Exception as error:  # torch.load raises whatever zipfile and pickle do.
        raise FileFormatError(
            f"{str(path)!r} is no state dict that torch.load(weights_only=True) accepts: "
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
