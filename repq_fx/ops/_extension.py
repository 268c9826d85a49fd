"""Loads the compiled kernels if they were built; without them every op runs its reference."""

from importlib import import_module
from importlib.util import find_spec

import torch


def load_kernels(name: str) -> bool:
    """Import the module `name`, which registers the kernels in it; return whether it exists.

    Raises:
        ImportError: The module was built but cannot be loaded, typically because it was built
            against another version of torch. Falling back to the references would hide that.
    """
    if find_spec(name) is None:
        return False
    try:
        import_module(name)
    except ImportError as error:
        raise ImportError(
            f"the compiled kernels in {name} do not load with torch {torch.__version__}; "
            "rebuild them: pip install --no-build-isolation ."
        ) from error
    return True


_LOADED = load_kernels("repq_fx._C")


def has_extension() -> bool:
    """Whether the compiled kernels were built; without them ops run their slow references."""
    return _LOADED


def compiled_devices() -> tuple[str, ...]:
    """The devices that compiled kernels were built for: none, ``"cpu"``, or that and ``"cuda"``."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return tuple(key.lower() for key in ("CPU", "CUDA") if has_kernel("repq_fx::histogram", key))
