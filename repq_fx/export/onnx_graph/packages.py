"""Packages that are installed only where ONNX files are wanted."""

from importlib.util import find_spec

from ...errors import ExportError

WRITING = ("onnx", "onnxscript")
"""What `onnx` needs beside torch."""


def require_packages(caller: str, packages: tuple[str, ...]) -> None:
    """Check that `packages` can be imported.

    Raises:
        ExportError: One is not installed; the message has the command that installs it.
    """
    absent = [package for package in packages if find_spec(package) is None]
    if absent:
        raise ExportError(f"{caller}: not installed: pip install {' '.join(absent)}.")
