"""What a measurement was made with: the machine and the versions of packages."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ... import ops
from ..._version import __version__

_PACKAGES = ("numpy", "pillow", "safetensors", "timm", "torchvision", "ultralytics", "onnx",
             "onnxruntime", "openvino", "nncf")  # fmt: skip


def environment() -> dict[str, Any]:
    """Machine, threads and versions, as values of JSON; None for what cannot be found out."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_bytes": _memory_bytes(),
            "system": platform.platform(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "threads": torch.get_num_threads(),
        "compiled_kernels": ops.compiled_devices(),
        "instruction_set": ops.instruction_set(),
        "packages": {"python": platform.python_version(), "repq_fx": __version__, **_versions()},
    }


def _versions() -> dict[str, str]:
    """Of those packages that are installed."""
    found = {"torch": str(torch.__version__)}  # With its kind, as 2.14.1+cpu.
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Not Linux.
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Not POSIX.
        return None
