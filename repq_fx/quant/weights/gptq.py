"""Rounding that lets the weights not yet rounded make up for the error of those that are (GPTQ).

Frantar et al., arXiv 2210.17323, equations 2 and 3 with the Cholesky form of algorithm 1, for the
rows of any convolution or linear layer. Nothing is trained: the only statistic is the second moment
of the layer's inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ...errors import CalibrationError
from ..grid import Grid
from .input_positions import columns_of, entries_met

# Added to the diagonal, relative to its mean: the value of the GPTQ paper.
_DAMPING = 0.01
# Errors are passed on within a block at once, and to the columns after it by one product.
_BLOCK_COLUMNS = 128
# Of the rows of a product with itself; smaller blocks multiply more slowly.
_BLOCK_ROWS = 512
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
        """Measure them, at enough positions of all images.

        Args:
            layer: Gives kernel, stride, padding, dilation and groups.
            input: What arrives at the layer, ``[N, in, H, W]`` or ``[..., in]``.
            exact_input: What arrives in the float network, of the same shape; `refit` needs it.
            centered: Take the mean of every entry out first, because a bias correction will absorb
                what the errors shift on average.

        Raises:
            CalibrationError: The input holds NaN or infinity.
        """
        values, count = _products(layer, input, input, centered=centered)
        if not values.isfinite().all():
            raise CalibrationError("the input of a layer holds NaN or infinite values.")
        cross = None
        if exact_input is not None:
            cross, _ = _products(layer, exact_input, input, centered=centered)
        return InputMoment(values, cross, count, entries_met(layer, input))

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

    @cached_property
    def elimination(self) -> tuple[Tensor, Tensor]:
        """The order in which inputs are rounded, and how each asks the later ones to make up.

        Returns:
            int64 ``[groups, k]``, falling second moments; and lower triangular float64
            ``[groups, k, k]``, `L` with ``L^T L`` the damped moment in that order. For inputs
            rounded with errors ``e``, the best values of those that follow differ from theirs by
            ``(L e)_j / L_jj`` in the next one: this is the rule of GPTQ without its inverse.
        """
        groups, size, _ = self.values.shape
        order = self.values.diagonal(dim1=1, dim2=2).argsort(1, descending=True)
        # A factor from the last input to the first is one from the first to the last, turned round.
        square, reverse = (groups, size, size), order.flip(1)
        damped = self.values.gather(1, reverse[:, :, None].expand(square))
        damped = damped.gather(2, reverse[:, None].expand(square))
        damping = self.damping()  # The same for all inputs of a group.
        damped.diagonal(dim1=1, dim2=2).add_(damping)
        lower, failures = torch.linalg.cholesky_ex(damped)
        # Sums in float32 are not quite those of a moment; where that shows, damp more.
        while bool(failures.any()):
            damped.diagonal(dim1=1, dim2=2).add_(damping)
            damping = 10 * damping
            lower, failures = torch.linalg.cholesky_ex(damped)
        return order, lower.flip(1, 2).mT.contiguous()

    def output_error(self, error: Tensor) -> Tensor:
        """Mean squared output error that a weight error ``[out, ...]`` causes, summed over rows."""
        rows = self.rows_of(error)
        return ((rows @ self.values) * rows).sum()


def _products(
    layer: nn.Conv2d | nn.Linear, left: Tensor, right: Tensor, *, centered: bool
) -> tuple[Tensor, int]:
    """Mean of ``left right^T`` ``[groups, k, k]``, and the number of positions."""
    # A power of two, so exact: the float32 products neither overflow nor vanish.
    unit = _power_of_two_above(torch.maximum(_magnitude(left), _magnitude(right)))
    products: Tensor | None = None
    left_sums, right_sums, count = torch.zeros(()), torch.zeros(()), 0
    origin: tuple[Tensor | float, Tensor | float] | None = None if centered else (0.0, 0.0)
    for left_entries, right_entries in _chunks(layer, left, right):
        right_entries.div_(unit)
        if left is not right:
            left_entries.div_(unit)
        if origin is None:
            # Near the mean, so that taking it out of float32 products cancels little.
            origin = left_entries.mean(2, keepdim=True), right_entries.mean(2, keepdim=True)
        right_entries.sub_(origin[1])
        if left is not right:
            left_entries.sub_(origin[0])
        product = _product(left_entries, right_entries).double()
        products = product if products is None else products.add_(product)
        left_sums = left_sums + left_entries.sum(2, keepdim=True).double()
        right_sums = right_sums + right_entries.sum(2, keepdim=True).double()
        count += left_entries.shape[2]
    assert products is not None  # An input holds data.
    mean = products.div_(count)
    if centered:
        mean.baddbmm_(left_sums, right_sums.mT, alpha=-1 / count**2)
    return mean.mul_(unit.double() ** 2), count


def _chunks(
    layer: nn.Conv2d | nn.Linear, left: Tensor, right: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    if left is right:
        return ((chunk, chunk) for chunk in columns_of(layer, right))
    return zip(columns_of(layer, left), columns_of(layer, right), strict=True)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``left right^T``, of one tensor by itself the blocks above the diagonal only."""
    if left is not right or left.shape[1] <= _BLOCK_ROWS:
        return left @ right.mT
    product = left.new_empty(len(left), left.shape[1], left.shape[1])
    for start in range(0, left.shape[1], _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        part = left[:, block] @ left[:, start:].mT
        product[:, start:, block] = part.mT
        product[:, block, start:] = part
    return product


def _magnitude(values: Tensor) -> Tensor:
    lowest, highest = torch.aminmax(values)
    return torch.maximum(-lowest, highest)


def _power_of_two_above(value: Tensor) -> Tensor:
    """The least power of two above a float32 scalar, at most ``2**127``; 1 for zero."""
    exponent = torch.frexp(value).exponent.clamp(-126, 127)
    return torch.ldexp(torch.ones_like(value), torch.where(value > 0, exponent, 0))


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
    groups, size, _ = moment.values.shape
    steps = scale.double().expand(len(weight)).reshape(groups, 1, -1)
    order, factor = moment.elimination
    # Inputs first, as all rows of the weight are rounded at one input after the other.
    entries = moment.rows_of(weight - offset).mT
    entries = entries.gather(1, order[:, :, None].expand_as(entries))
    integers, errors = torch.empty_like(entries), torch.empty_like(entries)
    for start in range(0, size, _BLOCK_COLUMNS):
        stop = min(start + _BLOCK_COLUMNS, size)
        # What the inputs rounded so far ask of those of this block, times their diagonal.
        asked = factor[:, start:stop, :start] @ errors[:, :start]
        for index in range(start, stop):
            here = factor[:, index : index + 1, start : index + 1]
            asked_here = asked[:, index - start : index - start + 1]
            asked_here += here[:, :, :-1] @ errors[:, start:index]
            wanted = asked_here.div_(here[:, :, -1:]).add_(entries[:, index : index + 1])
            rounded = wanted.div_(steps).round_().clamp_(grid.quant_min, grid.quant_max)
            integers[:, index : index + 1] = rounded
            errors[:, index : index + 1] = entries[:, index : index + 1] - rounded * steps
    restored = integers.gather(1, order.argsort(1)[:, :, None].expand_as(integers))
    return restored.mT.reshape(weight.shape).float().contiguous()
