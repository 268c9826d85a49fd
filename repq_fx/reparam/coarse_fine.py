"""Coarse & fine weight splitting (CFWS): the centre taps of a merged kernel, taken apart.

Merging a 1x1 and an identity branch into a kxk kernel leaves a few huge values at its centre,
which stretch the quantization step of everything around them. The split represents the centre on a
grid of its own and leaves only its rounding residual in the kernel ("CFWS", section 3.2).
"""

from torch import Tensor


def centre_index(kernel_size: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the centre tap.

    Raises:
        ValueError: A side of the kernel is even, so that it has no centre.
    """
    rows, columns = kernel_size
    if rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"centre_index: kernel {rows}x{columns} has no centre tap.")
    return rows // 2, columns // 2


def centre_of(weight: Tensor) -> Tensor:
    """The centre taps of ``[out, in/groups, k, k]`` as a 1x1 kernel ``[out, in/groups, 1, 1]``."""
    row, column = centre_index((weight.shape[2], weight.shape[3]))
    return weight[:, :, row : row + 1, column : column + 1]


def add_to_centre(weight: Tensor, centre: Tensor) -> Tensor:
    """A copy of `weight` with `centre`, a 1x1 kernel, added to its centre taps."""
    total = weight.clone()
    centre_of(total).add_(centre)
    return total
