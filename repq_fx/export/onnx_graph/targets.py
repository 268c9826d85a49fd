"""What each runtime wants of the file that it is given."""

from dataclasses import dataclass
from enum import Enum


class Narrowing(Enum):
    """How a grid of less than 8 bits is kept: QuantizeLinear itself saturates at 8 bits.

    Attributes:
        LEVELS: Integers are clipped behind it, also in the place of a ReLU or the like, so that it
            is next to the layer before it.
        VALUES: Real numbers are clipped before it.
    """

    LEVELS = "levels"
    VALUES = "values"


@dataclass(frozen=True)
class Target:
    """What a runtime wants.

    Attributes:
        name: What users call it.
        opset: Version of ONNX's operators.
        narrowing: Of grids of less than 8 bits.
        dequantizes_all: Whether each input of a layer has to come from a DequantizeLinear: the bias
            as int32, in steps of the products, and what is padded with other numbers than zeros.
            Else a bias stays in float, as it is.
        sums_in_float: Whether two layers that are added, as of a weight in two parts, run in float.
    """

    name: str
    opset: int
    narrowing: Narrowing
    dequantizes_all: bool
    sums_in_float: bool


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "onnxruntime", 21, Narrowing.LEVELS, dequantizes_all=True, sums_in_float=True
        ),
        Target(
            "openvino", 21, Narrowing.VALUES, dequantizes_all=False, sums_in_float=False
        ),
    )
}  # fmt: skip


def target_of(name: str) -> Target:
    """The target called `name`.

    Raises:
        ValueError: There is none.
    """
    if name not in TARGETS:
        raise ValueError(f"target must be one of {list(TARGETS)}, got {name!r}.")
    return TARGETS[name]
