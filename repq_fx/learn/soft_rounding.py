"""Integer weights whose last step up or down is learned."""

import math

import torch
from torch import Tensor, nn

from ..ops import soft_round
from ..ops.soft_round import GAMMA, ZETA
from ..quant.grid import Grid

# The least share by which a level starts decided: GPTQ's integers make up for each other, and soft
# values that forget them round to ten times their error. And the largest: the sigmoid's gradient
# vanishes at the ends.
_PAST_MIDDLE = 0.4
_SUREST = 0.98


class SoftRounding(nn.Module):
    """AdaRound's relaxation (Nagel et al., 2020, eq. 22 to 24) around integers that exist already.

    Each weight may take two neighbouring levels. One is the integer given, the other the next in
    the direction of the float weight. Rounding at once gives what was there before, and the soft
    value starts near it, on the side of the float weight.

    Args:
        weight: The float weight, ``[out, ...]``.
        integers: Its levels so far, in the same shape.
        scale: float32, ``[out]`` or ``[1]``.
        grid: Bounds of the levels.
    """

    lower: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, weight: Tensor, integers: Tensor, scale: Tensor, grid: Grid) -> None:
        super().__init__()
        self._grid = grid
        self._axis = None if scale.numel() == 1 else 0
        levels = integers.float()
        wanted = weight.detach().float() / _per_row(scale, weight)
        lower = torch.where(wanted < levels, levels - 1, levels)
        lower = lower.clamp(grid.quant_min, grid.quant_max - 1)
        share, is_upper = (wanted - lower).clamp(1 - _SUREST, _SUREST), levels > lower
        share = torch.where(
            is_upper, share.clamp_min(0.5 + _PAST_MIDDLE), share.clamp_max(0.5 - _PAST_MIDDLE)
        )
        # Where the floor of a product with a reciprocal cannot miss it.
        self.register_buffer("lower", (lower + 0.5) * _per_row(scale, weight))
        self.register_buffer("scale", scale.float())
        self.register_buffer("zero_point", torch.zeros_like(scale, dtype=torch.int32))
        self.logits = nn.Parameter(-torch.log((ZETA - GAMMA) / (share - GAMMA) - 1))

    def forward(self, beta: float | None) -> tuple[Tensor, Tensor]:
        """The soft value, and the regularizer of power `beta` (zero for None).

        Logits that are not learned count as decided.
        """
        if not self.logits.requires_grad:
            return self.integers() * _per_row(self.scale, self.lower), self.scale.new_zeros(())
        return soft_round(
            self.lower, self.logits, self.scale, self.zero_point,
            self._grid.quant_min, self._grid.quant_max, self._axis, beta,
        )  # fmt: skip

    @torch.no_grad()
    def integers(self) -> Tensor:
        """The levels that the logits have decided for, float32."""
        lower = torch.floor(self.lower / _per_row(self.scale, self.lower))
        return lower + (self.logits >= 0)

    @torch.no_grad()
    def undecided(self) -> float:
        """The share of weights that are more than a hundredth of a level from their decision."""
        bound = math.log((0.99 - GAMMA) / (ZETA - 0.99))
        return float((self.logits.abs() < bound).float().mean())


def _per_row(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weight.dim() - 1))
