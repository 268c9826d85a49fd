"""What a converted model can run on."""

from collections.abc import Callable
from enum import Enum

from torch.fx import GraphModule

from .int8.lower import lower_to_int8


class Backend(str, Enum):
    """What a converted model runs on; ``"x86"`` is the old name of ``"int8"``."""

    REFERENCE = "reference"
    INT8 = "int8"

    @classmethod
    def _missing_(cls, value: object) -> "Backend | None":
        return cls.INT8 if value == "x86" else None


LOWERINGS: dict[Backend, Callable[[GraphModule], GraphModule]] = {
    Backend.REFERENCE: lambda reference: reference,
    Backend.INT8: lower_to_int8,
}
"""What makes a model for each backend out of a reference graph, in place."""


def as_backend(name: str | Backend) -> Backend:
    """The backend called `name`.

    Raises:
        ValueError: There is none.
    """
    try:
        return Backend(name)
    except ValueError:
        known = [entry.value for entry in Backend]
        raise ValueError(f"backend must be one of {known}, got {name!r}.") from None
