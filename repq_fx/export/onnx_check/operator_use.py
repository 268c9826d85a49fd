"""How one operator of a file is computed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OperatorUse:
    """How a runtime computes an operator.

    Attributes:
        node: Its name in the file, or what the runtime calls it.
        operator: What the runtime runs.
        is_product: Whether it is a convolution or matrix product.
        is_integer: Whether it reads integers.
        reason: Why it is in float, as far as can be told; empty where it is not.
    """

    node: str
    operator: str
    is_product: bool
    is_integer: bool
    reason: str


def is_product(operator: str) -> bool:
    """Whether an operator of this name is a convolution or matrix product, fused or not."""
    names = ("conv", "matmul", "gemm", "fullyconnected", "innerproduct")
    return any(name in operator.lower() for name in names)
