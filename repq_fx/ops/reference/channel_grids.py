"""The integer grids of a tensor: one, or one for each index of an axis."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import check_axis, check_device, check_dtype, check_levels, check_scale, check_shape


@dataclass(frozen=True)
class ChannelGrids:
    """What operators are given of a grid, in the order of their arguments."""

    scale: Tensor
    zero_point: Tensor
    quant_min: int
    quant_max: int
    axis: int | None

    def check(self, op: str, input: Tensor) -> None:
        """Reject what the compiled kernels reject, in the words of csrc/common/grid.h."""
        check_dtype(op, "scale", self.scale, torch.float32)
        check_dtype(op, "zero_point", self.zero_point, torch.int32, torch.int64, torch.float32)
        check_levels(op, self.quant_min, self.quant_max)
        check_axis(op, input, self.axis)
        shapes = ([], [1]) if self.axis is None else ([input.shape[self.axis]],)
        for name, tensor in (("scale", self.scale), ("zero_point", self.zero_point)):
            check_shape(op, name, tensor, *shapes)
            check_device(op, name, tensor, input)

    def check_values(self, op: str) -> None:
        """Reject scales that no kernel can divide by, on the CPU."""
        if self.scale.device.type != "cpu":  # Reading a value would wait for the device.
            return
        for index, value in enumerate(self.scale.flatten().tolist()):
            check_scale(op, value, f" at index {index}")

    def over(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and whole zero points in float32, shaped so that they broadcast over `input`."""
        shape = [1] * input.dim()
        if self.axis is not None:
            shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape).float().round()

    def clamp(self, levels: Tensor) -> Tensor:
        """The nearest levels of the grid."""
        return levels.clamp(self.quant_min, self.quant_max)

    def holds(self, levels: Tensor) -> Tensor:
        """Which levels the grid has; of a NaN that is False."""
        return (levels >= self.quant_min) & (levels <= self.quant_max)
