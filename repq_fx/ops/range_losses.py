"""What quantizing the data of a histogram costs, for all candidate ranges in one call."""

import torch
from torch import Tensor

from .reference.checks import check_dtype, check_levels, check_on_cpu
from .reference.range_integrals import Side, integrals_of_side
from .registration import has_values, register_operator

LARGEST = 2**24  # Bins and levels, so that whole steps are exact.
LARGEST_POWER = 16.0  # Powers of numbers in [0, 1] beyond this one leave float64.


def range_losses(
    counts: Tensor,
    scales: Tensor,
    zero_points: Tensor,
    quant_min: int,
    quant_max: int,
    power: float | None,
) -> Tensor:
    """The error of quantizing the data of a histogram with each scale and zero point.

    With x the values and y what they are quantized to, the error is the sum of
    ``|x - y| ** power`` over all values or, if `power` is None, one minus the cosine
    ``<x, y> / (|x| |y|)``.

    Data is taken as spread evenly within each bin. With F the antiderivative of some function of
    the error, a bin ``[a, b)`` of n values contributes ``n * (F(b) - F(a)) / (b - a)``, so the sum
    over all bins needs F at the edges only, each times the fall of the density there. Rounding to a
    multiple of the scale makes F periodic up to the end of the grid, whatever the zero point:
    prefix sums over the edges give the cost of every zero point at once. Beyond the end, integrals
    of ``(x - end) ** m`` are sums of positive terms from the largest value inwards. All this is
    exact but for rounding, also where a step is narrower than a bin; only for a power other than 1
    and 2 and more than 1,024 candidates, tails beyond the ends are interpolated.

    For powers 1 and 2 the compiled kernel equals the reference bit for bit. For the cosine the two
    differ by 2e-16, as torch may leave square roots to a library that does not round them
    correctly. For other powers the kernel has a power function of its own, which vectorizes: the
    antiderivatives differ by up to 1e-13 of themselves. Any number of threads gives the same bits.
    There is no CUDA kernel: a histogram has a few thousand numbers, and rules read it on the CPU.

    Example:
        >>> counts = torch.tensor([0, 0, 8, 4])  # Eight values from 0 to 1, four from 1 to 2.
        >>> scales = torch.tensor([1.0, 0.5], dtype=torch.float64)
        >>> range_losses(counts, scales, torch.zeros(2, 1, dtype=torch.int64), 0, 3, power=1.0)
        tensor([[3.0000],
                [1.7500]], dtype=torch.float64)

    Args:
        counts: ``[2 * bins]``, on the CPU, not negative: equal bins, with zero between the middle
            two. Values that are exactly 0 cost nothing and are best left out. Whole numbers below
            ``2**53`` in float64 or an integer type are exact.
        scales: float64 ``[s]``, positive, in units of the width of a bin; descending ones are
            fastest.
        zero_points: int64 ``[s, z]``, from `quant_min` to `quant_max`.
        quant_min: Lowest level.
        quant_max: Highest level.
        power: Above 0 and up to 16; None for the cosine.

    Returns:
        float64 ``[s, z]``, in units of the width of a bin to the `power`; the cosine's has no unit
        and is 1 where everything is quantized to zero.

    Raises:
        TypeError: `scales` are not float64 or `zero_points` not int64.
        ValueError: A tensor has another shape or is not on the CPU, or a number is out of range.
    """
    return _operator(counts.double(), scales, zero_points, quant_min, quant_max, power)


def range_losses_reference(
    counts: Tensor,
    scales: Tensor,
    zero_points: Tensor,
    quant_min: int,
    quant_max: int,
    power: float | None,
) -> Tensor:
    """What every kernel of `range_losses` computes, in plain PyTorch."""
    _check(counts, scales, zero_points, quant_min, quant_max, power)
    if not has_values(counts):
        return zero_points.new_empty(zero_points.shape, dtype=torch.float64)
    _check_values(scales, zero_points, quant_min, quant_max)
    below, above = (
        Side.of(side) for side in (counts[: len(counts) // 2].flip(0), counts[len(counts) // 2 :])
    )
    integrals = integrals_of_side(below, scales, zero_points - quant_min, power)
    integrals = integrals + integrals_of_side(above, scales, quant_max - zero_points, power)
    if power is not None:
        return integrals[0]
    differences, squares = integrals
    energy = below.second[0] + above.second[0]
    cosine = (differences + squares) / (energy * squares).sqrt()
    return 1.0 - torch.where((squares > 0.0) & (energy > 0.0), cosine, 0.0)


_operator = register_operator(range_losses_reference)


def _check(
    counts: Tensor,
    scales: Tensor,
    zero_points: Tensor,
    quant_min: int,
    quant_max: int,
    power: float | None,
) -> None:
    """Reject what the compiled kernel rejects, in the words of csrc/cpu/range_losses.cpp."""
    tensors = (
        ("counts", counts, torch.float64, 1),
        ("scales", scales, torch.float64, 1),
        ("zero_points", zero_points, torch.int64, 2),
    )
    for name, tensor, dtype, dimensions in tensors:
        shape = list(tensor.shape)
        check_dtype("range_losses", name, tensor, dtype)
        check_on_cpu("range_losses", name, tensor)
        if tensor.dim() != dimensions:
            raise ValueError(
                f"range_losses: expected {name} with {dimensions} dimensions, got shape {shape}"
            )
    if len(counts) % 2 or not 2 <= len(counts) <= 2 * LARGEST:
        raise ValueError(
            f"range_losses: expected an even number of counts from 2 to {2 * LARGEST}, "
            f"got {len(counts)}"
        )
    if len(zero_points) != len(scales):
        raise ValueError(
            f"range_losses: expected zero_points of shape [{len(scales)}, ...], "
            f"got {list(zero_points.shape)}"
        )
    check_levels("range_losses", quant_min, quant_max)
    if power is not None and not 0.0 < power <= LARGEST_POWER:
        raise ValueError(
            f"range_losses: expected power above 0 and up to {LARGEST_POWER:g}, got {power:g}"
        )


def _check_values(scales: Tensor, zero_points: Tensor, quant_min: int, quant_max: int) -> None:
    for scale in scales[~((scales > 0.0) & scales.isfinite())].tolist():
        raise ValueError(f"range_losses: expected positive and finite scales, got {scale:g}")
    for level in zero_points[(zero_points < quant_min) | (zero_points > quant_max)].tolist():
        raise ValueError(
            f"range_losses: expected zero_points from {quant_min} to {quant_max}, got {level}"
        )
