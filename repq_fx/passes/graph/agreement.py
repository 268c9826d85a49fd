"""Whether two outputs of a model agree: nested containers, dtypes, shapes and values."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from math import isfinite
from types import MappingProxyType

import torch
from torch import Tensor

_TOLERANCES: Mapping[torch.dtype, float] = {
    torch.float64: 1e-9,
    torch.complex128: 1e-9,
    torch.float32: 1e-4,
    torch.complex64: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}
"""Largest difference relative to the largest magnitude; dtypes that are absent must be equal."""
_WIDE: Mapping[torch.dtype, torch.dtype] = MappingProxyType(
    {dtype: dtype for dtype in (torch.float32, torch.float64, torch.complex64, torch.complex128)}
)
"""Where differences are taken; others would overflow, vanish or wrap around."""


def difference(expected: object, actual: object, tolerance: float | None = None) -> str | None:
    """Where `actual` departs from `expected`, as the end of a sentence; None if they agree.

    Tensors agree when shape and dtype are equal and no element differs by more than 1e-4 (float32)
    of the largest magnitude; NaN agrees with NaN. Tuples, lists, mappings and dataclasses are
    compared entry by entry, anything else with ``==``.

    Args:
        expected: What is right.
        actual: What is compared with it.
        tolerance: Largest relative difference; by default that of the dtype.
    """
    return next(_differences("output", expected, actual, tolerance), None)


def relative_error(expected: Tensor, actual: Tensor) -> float:
    """Largest difference over the largest magnitude; infinite where only one is not finite."""
    if expected.numel() == 0:
        return 0.0
    wide = _WIDE.get(expected.dtype, torch.float64)
    error, scale = _error_and_scale(expected.to(wide), actual.to(wide))
    if isfinite(error) and isfinite(scale):
        return error / scale if scale > 0 else error
    finite = expected.isfinite()
    if not torch.equal(finite, actual.isfinite()):
        return float("inf")
    if not torch.equal(expected[~finite].nan_to_num(), actual[~finite].nan_to_num()):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    error, scale = _error_and_scale(expected[finite].to(wide), actual[finite].to(wide))
    return error / scale if scale > 0 else error


def _error_and_scale(expected: Tensor, actual: Tensor) -> tuple[float, float]:
    known, found = expected.detach(), actual.detach()
    return float((known - found).abs().max()), float(known.abs().max())


def _differences(
    path: str, expected: object, actual: object, tolerance: float | None
) -> Iterator[str]:
    if is_dataclass(expected) and type(expected) is type(actual):
        expected, actual = dict(vars(expected)), dict(vars(actual))
    if isinstance(expected, Tensor) and isinstance(actual, Tensor):
        yield from _tensor_differences(path, expected, actual, tolerance)
    elif isinstance(expected, Mapping) and isinstance(actual, Mapping):
        if list(expected) != list(actual):
            yield f"{path} has keys {list(actual)} instead of {list(expected)}"
        else:
            for key in expected:
                yield from _differences(f"{path}[{key!r}]", expected[key], actual[key], tolerance)
    elif isinstance(expected, tuple | list) and isinstance(actual, tuple | list):
        if len(expected) != len(actual):
            yield f"{path} has {len(actual)} entries instead of {len(expected)}"
        else:
            for index, (known, found) in enumerate(zip(expected, actual, strict=True)):
                yield from _differences(f"{path}[{index}]", known, found, tolerance)
    elif type(expected) is not type(actual) or expected != actual:
        yield f"{path} is a {type(actual).__name__} unlike the {type(expected).__name__} before"


def _tensor_differences(
    path: str, expected: Tensor, actual: Tensor, tolerance: float | None
) -> Iterator[str]:
    before, after = ((tuple(t.shape), t.dtype) for t in (expected, actual))
    if before != after:
        yield f"{path} is {after[1]} {list(after[0])} instead of {before[1]} {list(before[0])}"
        return
    if tolerance is None or not expected.is_floating_point():
        tolerance = _TOLERANCES.get(expected.dtype, 0.0)
    error = relative_error(expected, actual)
    if error > tolerance:
        yield f"{path} differs by {error:.1e} relative, more than {tolerance:.0e}"
