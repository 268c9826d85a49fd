"""`check_onnx`: how a runtime computes a file."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import FileFormatError
from ..onnx_graph.packages import require_packages
from ..onnx_graph.targets import target_of
from . import onnxruntime, openvino
from .operator_use import OperatorUse


@dataclass(frozen=True)
class _Checker:
    """How one runtime is asked."""

    operators: Callable[[Path], list[OperatorUse]]
    packages: tuple[str, ...]


_CHECKERS = {
    "onnxruntime": _Checker(onnxruntime.operators_in_onnxruntime, onnxruntime.PACKAGES),
    "openvino": _Checker(openvino.operators_in_openvino, openvino.PACKAGES),
}


def check_onnx(path: str | os.PathLike[str], target: str) -> list[OperatorUse]:
    """Let a runtime optimize an ONNX file, and list how it computes each operator.

    What only moves numbers is left out. What is listed holds for this processor and the version of
    the runtime that is installed.

    Args:
        path: The file, of whatever origin.
        target: ``"onnxruntime"`` or ``"openvino"``.

    Raises:
        ValueError: There is no such target.
        ExportError: The runtime is not installed.
        FileFormatError: The file is missing, or the runtime does not take it.

    Example:
        >>> uses = repq_fx.export.check_onnx("model.onnx", "openvino")  # doctest: +SKIP
        >>> [use.node for use in uses if use.is_product and not use.is_integer]  # doctest: +SKIP
        ['head/Conv']
    """
    checker = _CHECKERS[target_of(target).name]
    require_packages("check_onnx", checker.packages)
    if not Path(path).is_file():
        raise FileFormatError(f"check_onnx: there is no file {str(path)!r}.")
    try:
        return checker.operators(Path(path))
    except Exception as error:  # Each runtime raises kinds of its own.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise FileFormatError(
            f"check_onnx: {target} does not take {str(path)!r}: {lines[-1] if lines else error!r}"
        ) from error
