"""The example that a model is traced and compared with."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
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
