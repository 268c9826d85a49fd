"""An activation quantizer whose step size is learned."""

import math

import torch
from torch import Tensor, nn

from ..ops import fake_quantize
from ..quant import AffineParameters
from ..quant.grid import SMALLEST_SCALE, Grid

_LARGEST_SCALE = 2.0**126  # That `fake_quantize` takes.


class LearnedStep(nn.Module):
    """Rounds to a grid with a learned step and a fixed zero point.

    The gradient for the step is that of LSQ (Esser et al., 2020), its factor included. What is
    learned is the logarithm of the step relative to the first: one learning rate then suits tensors
    of every magnitude, and a step stays positive.

    Args:
        parameters: Scale and zero point to begin with.
        grid: Bounds of the levels.
        device: Of the parameter.

    Attributes:
        keep: Probability that a value is not rounded (QDrop), while training.
    """

    start: Tensor
    zero_point: Tensor

    def __init__(self, parameters: AffineParameters, grid: Grid, device: torch.device) -> None:
        super().__init__()
        self._grid = grid
        self._begin = parameters
        self._seeds = torch.Generator()
        self.register_buffer("start", torch.tensor([parameters.scale], device=device))
        self.register_buffer("zero_point", torch.tensor([parameters.zero_point], device=device))
        self.growth = nn.Parameter(torch.zeros(1, device=device))
        self.keep = 0.0

    def forward(self, input: Tensor) -> Tensor:
        """Round a float tensor of any shape."""
        keep = self.keep if self.training else 0.0
        seed = int(torch.randint(2**62, (), generator=self._seeds)) if keep else 0
        scale = self._scale()
        if scale.requires_grad:
            factor = 1 / math.sqrt(input.numel() * self._grid.quant_max)
            scale = scale * factor + (scale * (1 - factor)).detach()
        return fake_quantize(
            input, scale, self.zero_point, self._grid.quant_min, self._grid.quant_max,
            keep=keep, seed=seed,
        )  # fmt: skip

    def seed(self, seed: int) -> None:
        """Restart the random numbers of `keep`."""
        self._seeds.manual_seed(seed)

    @torch.no_grad()
    def result(self) -> AffineParameters:
        """The grid as learned."""
        if not bool(self.growth):
            return self._begin
        return AffineParameters(float(self._scale()), self._begin.zero_point)

    def _scale(self) -> Tensor:
        return (self.start * self.growth.exp()).clamp(SMALLEST_SCALE, _LARGEST_SCALE)
