"""Examples that a model is run on, and whether two outputs agree."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from math import isfinite
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

Inputs = tuple[Any, ...]
"""Positional arguments: tensors, and lists, tuples and dictionaries of tensors."""
ExampleInputs = Tensor | Inputs

_FP32_SETTINGS = attrgetter("cudnn.conv", "cuda.matmul", "mkldnn.conv", "mkldnn.matmul")(
    torch.backends
)
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


def as_inputs(example_inputs: ExampleInputs) -> Inputs:
    """The positional arguments that `example_inputs` stands for.

    Raises:
        TypeError: Not a tensor and not a tuple of tensors or of containers of them.
        ValueError: An empty tuple, or a tensor without data.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    leaves = tree_leaves(inputs)
    if not isinstance(inputs, tuple) or not all(isinstance(leaf, Tensor) for leaf in leaves):
        given = _describe(example_inputs)
        raise TypeError(f"example_inputs must be a tensor or a tuple of tensors, got {given}.")
    if not leaves:
        raise ValueError("example_inputs is empty; give one tensor for every input of the model.")
    if any(leaf.is_meta or leaf.numel() == 0 for leaf in leaves):
        raise ValueError("example_inputs must hold data; a tensor is empty or on the meta device.")
    return inputs


def random_like(inputs: Inputs) -> Inputs:
    """Random inputs of the same shapes and dtypes; the same ones on every call.

    Integers and booleans stay within the range of the example, since they usually are indices. The
    global random number generator is not touched.
    """
    generator = torch.Generator().manual_seed(0)
    return map_tensors(lambda entry: _random_tensor(entry, generator), inputs)


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The inputs with every tensor in them replaced."""
    mapped: Inputs = tree_map_only(Tensor, function, inputs)
    return mapped


def run(function: Callable[..., object], inputs: Inputs) -> object:
    """Call `function` without gradients in full precision, on copies, which it may overwrite."""
    with torch.no_grad(), _full_precision():
        return function(*map_tensors(torch.clone, inputs))


def other_batch(inputs: Inputs) -> Inputs:
    """One image where there are several, as models may treat one in its own way; else two."""
    batch = tree_leaves(inputs)[0].shape[:1]

    def change(entry: Tensor) -> Tensor:
        if not entry.ndim or entry.shape[:1] != batch:
            return entry
        return torch.cat([entry, entry]) if batch[0] == 1 else entry[:1]

    return map_tensors(change, inputs)


def runs_on(model: nn.Module, inputs: Inputs) -> bool:
    """Whether `model` runs on `inputs`, or is made for another number of images."""
    try:
        run(copy.deepcopy(model), inputs)
    except Exception:  # Whatever a model does with a number of images that it was not made for.
        return False
    return True


@contextmanager
def _full_precision() -> Iterator[None]:
    """Forbid TF32 and bfloat16 inside float32 operators.

    Torch convolves in TF32 on a GPU by default. Its 10 bits of mantissa differ from one order of
    summation to another by more than any tolerance that would notice a wrong rewrite.
    """
    before = [setting.fp32_precision for setting in _FP32_SETTINGS]
    try:
        for setting in _FP32_SETTINGS:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(_FP32_SETTINGS, before, strict=True):
            setting.fp32_precision = precision


def _random_tensor(like: Tensor, generator: torch.Generator) -> Tensor:
    if like.is_floating_point() or like.is_complex():
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    low, high = int(like.min()), int(like.max())
    values = torch.randint(low, high + 1, like.shape, generator=generator)
    return values.to(like.dtype).to(like.device)


def _describe(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(entry).__name__ for entry in value)}"
    return type(value).__name__


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
