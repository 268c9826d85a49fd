"""What a converted model can run on."""

from collections.abc import Callable
from enum import Enum

from torch.fx import GraphModule

from .int8.lower import lower_to_x86


class Backend(str, Enum):
    """What a converted model runs on."""

    REFERENCE = "reference"
    X86 = "x86"


LOWERINGS: dict[Backend, Callable[[GraphModule], GraphModule]] = {
    Backend.REFERENCE: lambda reference: reference,
    Backend.X86: lower_to_x86,
}
"""What makes a model for each backend out of a reference graph, in place."""


def as_backend(name: str | Backend) -> Backend:
    """The backend called `name`.

    Raises:
        ValueError: There is none.
    """
    known = [entry.value for entry in Backend]
    if name not in known:
        raise ValueError(f"backend must be one of {known}, got {name!r}.")
    return Backend(name)
