"""Where in a model, and where in its source, something failed."""

import traceback
from pathlib import Path

import torch
from torch import nn

_NOT_USER_CODE = (Path(torch.__file__).parent, Path(__file__).parent)


def failure_place(root: nn.Module, module: nn.Module, error: Exception | None = None) -> str:
    """Qualified path and class of a `module` of `root`, and the line of it that raised `error`."""
    paths = (path for path, candidate in root.named_modules() if candidate is module)
    path = next(paths, "")
    subject = f"'{path}'" if path else "the model itself"
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    lines = [f"{f.filename}:{f.lineno}" for f in frames if _is_user_code(f.filename)]
    return f"{subject} ({', '.join([type(module).__name__, *lines[-1:]])})"


def innermost_module(root: nn.Module, error: Exception) -> nn.Module:
    """The last module of `root` that was being called when `error` was raised."""
    members = set(root.modules())
    selves = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    called = [each for each in selves if isinstance(each, nn.Module) and each in members]
    return called[-1] if called else root


def _is_user_code(filename: str) -> bool:
    path = Path(filename)
    return filename != "<string>" and not any(
        path.is_relative_to(place) for place in _NOT_USER_CODE
    )
