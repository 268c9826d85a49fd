"""Refusals of arguments, in the words of the compiled kernels."""

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


def check_shape(op: str, name: str, tensor: Tensor, *allowed: list[int]) -> None:
    """Reject `tensor` if its shape is not among `allowed`."""
    shape = list(tensor.shape)
    if shape not in allowed:
        expected = " or ".join(map(str, allowed))
        raise ValueError(f"{op}: expected {name} of shape {expected}, got {shape}")


def check_device(op: str, name: str, tensor: Tensor, other: Tensor) -> None:
    """Reject `tensor` if it is not where `other` is."""
    if tensor.device != other.device:
        raise ValueError(f"{op}: expected {name} on {other.device}, got {tensor.device}")


def check_on_cpu(op: str, name: str, tensor: Tensor) -> None:
    """Reject `tensor` if there is no kernel for its device."""
    if tensor.device.type not in ("cpu", "meta"):
        raise ValueError(f"{op}: expected {name} on cpu, got {tensor.device}")


def check_like(op: str, name: str, tensor: Tensor, other: Tensor) -> None:
    """Reject `tensor` if its dtype, shape or device is not that of `other`."""
    check_dtype(op, name, tensor, other.dtype)
    check_shape(op, name, tensor, list(other.shape))
    check_device(op, name, tensor, other)


def check_axis(op: str, input: Tensor, axis: int | None) -> None:
    """Reject an axis that `input` has not."""
    if axis is not None and not -input.dim() <= axis < input.dim():
        raise ValueError(
            f"{op}: expected axis of a tensor with {input.dim()} dimensions, got {axis}"
        )


def check_levels(op: str, quant_min: int, quant_max: int) -> None:
    """Reject limits between which no grid lies."""
    if not -MAX_LEVEL <= quant_min < quant_max <= MAX_LEVEL:
        raise ValueError(
            f"{op}: expected {-MAX_LEVEL} <= quant_min < quant_max <= {MAX_LEVEL}, "
            f"got quant_min={quant_min}, quant_max={quant_max}"
        )


def check_scale(op: str, scale: float, place: str = "") -> None:
    """Reject a scale if it, or its reciprocal, is no normal float32 number."""
    if not 2.0**-126 <= scale <= 2.0**126:
        raise ValueError(f"{op}: expected scale from 2**-126 to 2**126, got {scale:g}{place}")
