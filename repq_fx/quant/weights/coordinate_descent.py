"""Improving rounded weights one level and one scale at a time, for the outputs of their layer.

After GPTQ each integer is optimal given those rounded before it; here each is chosen anew given all
others (cyclic coordinate descent, as in QuantEase, arXiv 2309.01885), in turns with the scales,
whose best values for given integers are known in closed form. The error of the outputs never rises.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..grid import SMALLEST_SCALE, Grid
from .gptq import InputMoment
from .quantized_weight import QuantizedWeight

_SWEEPS = 3
# Columns are visited in blocks; what a change asks of those outside passes by one product.
_BLOCK_COLUMNS = 64


def improve(
    quantized: QuantizedWeight, weight: Tensor, moment: InputMoment, *, fits_scale: bool
) -> QuantizedWeight:
    """Better fine integers and scales for the outputs of `weight`; a coarse part stays.

    Args:
        quantized: The weight as GPTQ has left it.
        weight: The float weight, ``[out, ...]``.
        moment: Of the layer's inputs.
        fits_scale: Choose the scales anew too.
    """
    coarse = replace(quantized, values=torch.zeros_like(quantized.values)).dequantize()
    integers, scale = improve_rounding(
        weight.detach().float() - coarse, quantized.values.float(), quantized.scale,
        Grid.symmetric(quantized.bits), moment, fits_scale=fits_scale,
    )  # fmt: skip
    return replace(quantized, values=integers.to(quantized.values.dtype), scale=scale)


def improve_rounding(
    target: Tensor,
    integers: Tensor,
    scale: Tensor,
    grid: Grid,
    moment: InputMoment,
    *,
    fits_scale: bool,
) -> tuple[Tensor, Tensor]:
    """Better integers and scales for the same outputs.

    Args:
        target: What ``scale * integers`` stands for, ``[out, ...]``.
        integers: float32, as `target`.
        scale: float32, ``[out]`` or ``[1]``.
        grid: Bounds of the integers.
        moment: Of the layer's inputs.
        fits_scale: Choose the scales anew too.

    Returns:
        Integers and scales of the same shapes and dtypes.
    """
    rows, levels = moment.rows_of(target), moment.rows_of(integers)
    groups, count, _ = rows.shape
    hessian = moment.values + torch.diag_embed(moment.damping())
    steps = scale.double().expand(len(target)).reshape(groups, count, 1)
    for _ in range(_SWEEPS):
        levels = _sweep(rows, levels, steps, hessian, grid)
        if fits_scale:
            steps = _best_steps(rows, levels, steps, hessian, shared=scale.numel() == 1)
    improved = steps.flatten()[: scale.numel()].float().clamp_min(SMALLEST_SCALE)
    return levels.reshape(target.shape).float(), improved


def _sweep(rows: Tensor, levels: Tensor, steps: Tensor, hessian: Tensor, grid: Grid) -> Tensor:
    levels, size = levels.clone(), rows.shape[2]
    errors = levels * steps - rows
    for start in range(0, size, _BLOCK_COLUMNS):
        stop = min(start + _BLOCK_COLUMNS, size)
        # Half the gradient of the error by the weights of this block.
        slopes = errors @ hessian[:, :, start:stop]
        for column in range(start, stop):
            curvature = hessian[:, column, column, None]
            here = levels[:, :, column] * steps[:, :, 0]
            wanted = here - slopes[:, :, column - start] / curvature
            chosen = torch.round(wanted / steps[:, :, 0]).clamp_(grid.quant_min, grid.quant_max)
            change = chosen * steps[:, :, 0] - here
            levels[:, :, column] = chosen
            errors[:, :, column] += change
            slopes += change[:, :, None] * hessian[:, column, None, start:stop]
    return levels


def _best_steps(
    rows: Tensor, levels: Tensor, steps: Tensor, hessian: Tensor, *, shared: bool
) -> Tensor:
    """The scales with the smallest errors for these levels; what has none stays as it is."""
    outputs = levels @ hessian
    wanted, given = (outputs * rows).sum(2), (outputs * levels).sum(2)
    if shared:
        wanted, given = wanted.sum().expand_as(wanted), given.sum().expand_as(given)
    best = (wanted / given)[:, :, None]
    return torch.where((given > 0)[:, :, None] & (best > 0), best, steps)
