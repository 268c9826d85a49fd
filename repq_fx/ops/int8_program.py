"""Compiled programs of 8-bit instructions: a whole network in one call."""

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from .registration import has_extension

_LOGGER = logging.getLogger(__name__)


class CompiledProgram(Protocol):
    """The compiled class ``torch.classes.repq_fx.Int8Program``, of csrc/cpu/int8/program.cpp.

    A program is built once, step by step: a method for each kind of step (`convolution`, `linear`,
    `quantize`, `dequantize`, `lookup`, `combine`, `max_pool`, `average_pool`, `concatenate`,
    `channel_slice`, `channel_chunk`, `upsample_nearest`, `pixel_shuffle`, `flatten`, `slice`,
    `select`, `pad`, `channel_lookup`) takes the numbers of the values that it reads, and returns
    the number of its result; the inputs of the program have the first numbers. Weights are packed
    for this machine. Then `run` may be called from several threads at once, for tensors of any
    size: buffers are planned once for each combination of shapes.

    Levels are uint8. Each kind of step says on which axis it finds the channels of its inputs, for
    any rank: the third from the end for steps on images ``[N, C, H, W]`` or ``[C, H, W]``, the last
    for linear layers, the second for concatenations and ranges of channels. In memory that axis
    comes last; tensors are rearranged between steps that differ in it. The classes in
    `repq_fx.lowering.int8.instructions` define what each step computes.
    """

    def output(self, value: int) -> None:
        """Make `value` the next result of `run`."""

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        """The outputs for these inputs: uint8 or float32, in the order of torch and any strides.

        Raises:
            NotImplementedError: A step does not know tensors of such shapes.
            RuntimeError: The inputs do not fit the program: their number, dtype, device or shape.
        """
        ...

    def profile(self, inputs: list[Tensor]) -> tuple[list[Tensor], list[float]]:
        """The outputs, as `run` has them, and the milliseconds of each step."""
        ...

    def __getattr__(self, step: str) -> Callable[..., int]:
        """The method that adds a step."""
        ...


def instruction_set() -> str | None:
    """The name of the kernels that integer programs run here, or None without the extension.

    The best that this processor has, ``"avx512_vnni"`` or ``"portable"``, or the one that the
    environment variable ``REPQ_FX_ISA`` names.

    Raises:
        ValueError: ``REPQ_FX_ISA`` is none of those that run here.
    """
    if not has_extension():
        return None
    name: str = torch.ops.repq_fx.instruction_set()
    return name


@cache
def _tell_of_slow_kernels() -> None:
    if instruction_set() == "portable" and "REPQ_FX_ISA" not in os.environ:
        _LOGGER.warning("this CPU has no AVX512-VNNI instructions: portable kernels run, slowly")


def new_program(inputs: int, kernels: str | None = None) -> CompiledProgram | None:
    """An empty program of so many inputs, or None without the compiled extension.

    Args:
        inputs: How many tensors the program takes.
        kernels: The instruction set, by its name; by default that of `instruction_set`.

    Raises:
        ValueError: There is no such instruction set here.
    """
    if not has_extension():
        return None
    _tell_of_slow_kernels()
    program: Any = torch.classes.repq_fx.Int8Program(inputs, kernels)
    compiled: CompiledProgram = program
    return compiled
