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
        int32_biases: Whether biases are integers, in steps of what they are added to, without which
            a matrix product is done in float; else they stay in float, as they are.
    """

    name: str
    opset: int
    narrowing: Narrowing
    int32_biases: bool


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("onnxruntime", opset=21, narrowing=Narrowing.LEVELS, int32_biases=True),
        Target("openvino", opset=21, narrowing=Narrowing.VALUES, int32_biases=False),
    )
}


def target_of(name: str) -> Target:
    """The target called `name`.

    Raises:
        ValueError: There is none.
    """
    if name not in TARGETS:
        raise ValueError(f"target must be one of {list(TARGETS)}, got {name!r}.")
    return TARGETS[name]
