"""Rounding that lets the weights not yet rounded make up for the error of those that are (GPTQ).

Frantar et al., arXiv 2210.17323, equations 2 and 3 with the Cholesky form of algorithm 1, for the
rows of any convolution or linear layer. Nothing is trained: the only statistic is the second moment
of the layer's inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CalibrationError
from .grid import Grid

# Added to the diagonal, relative to its mean: the value of the GPTQ paper.
_DAMPING = 0.01
# Errors are passed on within a block at once, and to the columns after it by one product.
_BLOCK_COLUMNS = 128
# How strongly `refit` holds on to the float weight, relative to the mean of the diagonal, and the
# least number of positions that it asks for.
_RIDGE = 0.2
_POSITIONS_PER_WEIGHT = 4


@dataclass(frozen=True)
class InputMoment:
    """Second moments of what each weight of a row is multiplied with.

    Attributes:
        values: float64 ``[groups, k, k]`` with ``k = weight[0].numel()``, in the weight's order.
        cross: The same between the inputs of the float network (rows) and those that really arrive
            (columns); None unless they were given.
        count: Number of positions that were averaged.
        seen: bool ``[groups, k]``, false for inputs that were always 0.
    """

    values: Tensor
    cross: Tensor | None
    count: int
    seen: Tensor

    @staticmethod
    def of(
        layer: nn.Conv2d | nn.Linear,
        input: Tensor,
        exact_input: Tensor | None = None,
        *,
        centered: bool,
    ) -> "InputMoment":
        """Measure them, one image after the other.

        Args:
            layer: Gives kernel, stride, padding, dilation and groups.
            input: What arrives at the layer, ``[N, in, H, W]`` or ``[..., in]``.
            exact_input: What arrives in the float network, of the same shape; `refit` needs it.
            centered: Take the mean of every entry out first, because a bias correction will absorb
                what the errors shift on average.

        Raises:
            CalibrationError: The input holds NaN or infinity.
        """
        values, count, seen = _products(layer, input, input, centered=centered)
        if not values.isfinite().all():
            raise CalibrationError("the input of a layer holds NaN or infinite values.")
        cross = None
        if exact_input is not None:
            cross, _, _ = _products(layer, exact_input, input, centered=centered)
        return InputMoment(values, cross, count, seen)

    def refit(self, weight: Tensor) -> Tensor:
        """The weight whose outputs on what arrives are nearest to the float network's.

        Ridge regression around `weight`, which takes up what quantizing the layers before has done
        to the inputs. Without `cross`, or from too few positions to tell, `weight` stays as it is.
        """
        size = self.values.shape[1]
        if self.cross is None or self.count < _POSITIONS_PER_WEIGHT * size:
            return weight
        mean = self.values.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        ridge = (_RIDGE * mean + torch.finfo(torch.float32).tiny) * torch.eye(size).to(mean)
        wanted = self.rows_of(weight) @ (self.cross + ridge)
        rows = torch.linalg.solve(self.values + ridge, wanted.mT).mT
        fitted: Tensor = rows.reshape(weight.shape).to(weight.dtype)
        return fitted

    def rows_of(self, weight: Tensor) -> Tensor:
        """Reshape ``[out, ...]`` to float64 rows ``[groups, out / groups, k]``."""
        groups, size, _ = self.values.shape
        return weight.double().reshape(groups, -1, size)

    def importance_of(self, weight: Tensor) -> Tensor:
        """How much the squared error of each entry of `weight` counts in the outputs, as it.

        It is 0 only for entries that meet nothing but zeros.
        """
        least = torch.finfo(torch.float32).tiny
        diagonal = self.values.diagonal(dim1=1, dim2=2).clamp_min(least)
        diagonal = diagonal.where(self.seen, 0.0)[:, None]
        return diagonal.expand_as(self.rows_of(weight)).reshape(weight.shape)

    def damping(self) -> Tensor:
        """Added to the diagonal so that few images do not decide too much: ``[groups, k]``."""
        diagonal = self.values.diagonal(dim1=1, dim2=2)
        damping = _DAMPING * diagonal.mean(1, keepdim=True)
        # An input that is always 0 has no say; 1 keeps a group of only such inputs invertible.
        return torch.where(damping > 0, damping, torch.ones_like(damping)).expand_as(diagonal)

    def output_error(self, error: Tensor) -> Tensor:
        """Mean squared output error that a weight error ``[out, ...]`` causes, summed over rows."""
        rows = self.rows_of(error)
        return ((rows @ self.values) * rows).sum()


def _products(
    layer: nn.Conv2d | nn.Linear, left: Tensor, right: Tensor, *, centered: bool
) -> tuple[Tensor, int, Tensor]:
    """Mean of ``left right^T`` ``[groups, k, k]``, the number of positions, `InputMoment.seen`."""
    # A power of two, so exact: the float32 products neither overflow nor vanish.
    unit = _power_of_two_above(torch.maximum(left.abs().max(), right.abs().max()))
    products, left_sums, right_sums = torch.zeros(()), torch.zeros(()), torch.zeros(())
    count, seen = 0, torch.zeros((), dtype=torch.bool)
    origin: tuple[Tensor | float, Tensor | float] | None = None if centered else (0.0, 0.0)
    columns = _columns(layer, left / unit)
    for left_image, right_image in zip(columns, _columns(layer, right / unit), strict=True):
        seen = seen.to(right.device) | (right_image != 0).any(2)
        if origin is None:
            # Near the mean, so that taking it out of float32 products cancels little.
            origin = left_image.mean(2, keepdim=True), right_image.mean(2, keepdim=True)
        left_entries, right_entries = left_image - origin[0], right_image - origin[1]
        products = products + (left_entries @ right_entries.mT).double()
        left_sums = left_sums + left_entries.sum(2, keepdim=True, dtype=torch.float64)
        right_sums = right_sums + right_entries.sum(2, keepdim=True, dtype=torch.float64)
        count += left_entries.shape[2]
    mean = products / count
    if centered:
        mean = mean - left_sums @ right_sums.mT / count**2
    return mean * unit.double() ** 2, count, seen


def _power_of_two_above(value: Tensor) -> Tensor:
    """The least power of two above a float32 scalar, at most ``2**127``; 1 for zero."""
    exponent = torch.frexp(value).exponent.clamp(-126, 127)
    return torch.ldexp(torch.ones_like(value), torch.where(value > 0, exponent, 0))


def _columns(layer: nn.Conv2d | nn.Linear, input: Tensor) -> Iterator[Tensor]:
    """What the rows of the weight meet: ``[groups, k, positions]``, image by image."""
    if isinstance(layer, nn.Linear):
        yield input.reshape(-1, layer.in_features).mT[None]
        return
    padding = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    for image in (input if input.dim() == 4 else input[None]).split(1):
        padded = F.pad(image, padding, mode=mode)
        unfolded = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        yield unfolded.reshape(layer.groups, -1, unfolded.shape[2])


def compensated_rounding(
    weight: Tensor, scale: Tensor, offset: Tensor, grid: Grid, moment: InputMoment
) -> Tensor:
    """Integers ``q`` for which ``offset + scale * q`` gives nearly the outputs of `weight`.

    Columns are rounded in the order of falling second moment; each passes its error on to those
    after it as the inverse second moment tells.

    Args:
        weight: ``[out, ...]``.
        scale: ``[out]`` or ``[1]``.
        offset: As `weight`; what another part of the weight represents already.
        grid: Bounds of the integers.
        moment: Of the layer's inputs.

    Returns:
        float32 integers, as `weight`.
    """
    rows = moment.rows_of(weight - offset)
    groups, _, size = rows.shape
    steps = scale.double().expand(len(weight)).reshape(groups, -1)
    diagonal = moment.values.diagonal(dim1=1, dim2=2)
    order = diagonal.argsort(1, descending=True)
    upper = _factor(moment, order)
    rows = rows.gather(2, order[:, None].expand_as(rows))
    integers, errors = torch.empty_like(rows), torch.empty_like(rows)
    for start in range(0, size, _BLOCK_COLUMNS):
        stop = min(start + _BLOCK_COLUMNS, size)
        # What the columns rounded so far ask of those of this block, times their diagonal.
        asked = errors[:, :, :start] @ upper[:, :start, start:stop]
        for column in range(start, stop):
            here = upper[:, start : column + 1, column]
            passed = errors[:, :, start:column] @ here[:, :-1, None]
            wanted = (
                rows[:, :, column] + (asked[:, :, column - start] + passed[:, :, 0]) / here[:, -1:]
            )
            rounded = torch.round(wanted / steps).clamp_(grid.quant_min, grid.quant_max)
            integers[:, :, column] = rounded
            errors[:, :, column] = rows[:, :, column] - rounded * steps
    restored = integers.gather(2, order.argsort(1)[:, None].expand_as(integers))
    return restored.reshape(weight.shape).float()


def _factor(moment: InputMoment, order: Tensor) -> Tensor:
    """Upper triangular `R` with ``R R^T`` the damped, reordered moment, ``[groups, k, k]``.

    For inputs rounded with errors ``e``, the best values of those that follow differ from theirs by
    ``(e R)_j / R_jj`` in the next one: this is the rule of GPTQ without its inverse.
    """
    groups, size, _ = moment.values.shape
    damping = torch.diag_embed(moment.damping())
    damped = moment.values + damping
    # A factor from the last input to the first is one from the first to the last, turned around.
    square, reverse = (groups, size, size), order.flip(1)
    damped = damped.gather(1, reverse[:, :, None].expand(square))
    damped = damped.gather(2, reverse[:, None].expand(square))
    lower, failures = torch.linalg.cholesky_ex(damped)
    # Sums in float32 are not quite those of a moment; where that shows, damp more.
    while bool(failures.any()):
        damped = damped + damping
        damping = 10 * damping
        lower, failures = torch.linalg.cholesky_ex(damped)
    upper: Tensor = lower.flip(1, 2)
    return upper
