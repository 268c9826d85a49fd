"""Checks of what describes integer grids, and how they meet a tensor."""

import torch
from torch import Tensor

MAX_LEVEL = 2**24  # Levels are formed in float32, which holds every integer up to here.


def check_dtype(op: str, name: str, tensor: Tensor, *allowed: torch.dtype) -> None:
    """Reject `tensor`, the argument `name` of `op`, if its dtype is not among `allowed`."""
    if tensor.dtype not in allowed:
        *others, last = (str(dtype).removeprefix("torch.") for dtype in allowed)
        expected = f"{', '.join(others)} or {last}" if others else last
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(f"{op}: expected {expected} {name}, got {dtype}")


def check_like(op: str, name: str, tensor: Tensor, other: Tensor) -> None:
    """Reject `tensor` if its dtype, shape or device is not that of `other`."""
    check_dtype(op, name, tensor, other.dtype)
    if tensor.shape != other.shape:
        raise ValueError(
            f"{op}: expected {name} of shape {list(other.shape)}, got {list(tensor.shape)}"
        )
    if tensor.device != other.device:
        raise ValueError(f"{op}: expected {name} on {other.device}, got {tensor.device}")


def check_grid(
    op: str,
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None,
) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/grid.h."""
    check_dtype(op, "scale", scale, torch.float32)
    check_dtype(op, "zero_point", zero_point, torch.int32, torch.int64, torch.float32)
    if not -MAX_LEVEL <= quant_min < quant_max <= MAX_LEVEL:
        raise ValueError(
            f"{op}: expected {-MAX_LEVEL} <= quant_min < quant_max <= {MAX_LEVEL}, "
            f"got quant_min={quant_min}, quant_max={quant_max}"
        )
    if axis is not None and not -input.dim() <= axis < input.dim():
        raise ValueError(
            f"{op}: expected axis of a tensor with {input.dim()} dimensions, got {axis}"
        )
    shapes = ([], [1]) if axis is None else ([input.shape[axis]],)
    for name, tensor in (("scale", scale), ("zero_point", zero_point)):
        if list(tensor.shape) not in shapes:
            expected = " or ".join(map(str, shapes))
            raise ValueError(f"{op}: expected {name} of shape {expected}, got {list(tensor.shape)}")
        if tensor.device != input.device:
            raise ValueError(f"{op}: expected {name} on {input.device}, got {tensor.device}")


def check_scale_values(op: str, scale: Tensor) -> None:
    """Reject scales of which the scale or the reciprocal is no normal float32, on the CPU."""
    if scale.device.type != "cpu":  # Reading a value would wait for the device.
        return
    for index, value in enumerate(scale.flatten().tolist()):
        if not 2.0**-126 <= value <= 2.0**126:
            raise ValueError(
                f"{op}: expected scale from 2**-126 to 2**126, got {value:g} at index {index}"
            )


def broadcast(parameter: Tensor, input: Tensor, axis: int | None) -> Tensor:
    """View one value, or one per index of `axis`, so that it broadcasts over `input`."""
    if axis is None:
        return parameter.reshape(())
    shape = [1] * input.dim()
    shape[axis] = -1
    return parameter.reshape(shape)
