"""Comparison of an instruction's compiled step with its definition."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx import Graph, GraphModule

from repq_fx.lowering.int8.instructions import Instruction, Int8Program
from repq_fx.ops import has_extension

Check = Callable[..., None]


def program_of(*instructions: Instruction, inputs: int = 1) -> Int8Program:
    """A program that applies the first instruction to all inputs, and each other to the last."""
    graph = Graph()
    values = [graph.placeholder(f"input_{index}") for index in range(inputs)]
    for index in range(len(instructions)):
        values = [graph.call_module(str(index), tuple(values))]
    graph.output(values[0])
    modules = {str(index): instruction for index, instruction in enumerate(instructions)}
    return Int8Program(GraphModule(modules, graph))


def assert_contract(result: Tensor, expected: Tensor) -> None:
    """At most one level apart, on at most one element of a thousand."""
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if result.dtype == torch.float32:
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
        return
    difference = (result.int() - expected.int()).abs()
    assert difference.numel() == 0 or difference.max() <= 1
    assert (difference > 0).sum() <= max(1, difference.numel() // 1000)


@pytest.fixture
def meets_contract() -> Check:
    """A function that asserts it of an instruction, for the given inputs."""
    if not has_extension():
        pytest.skip("needs the compiled kernels")

    def check(instruction: Instruction, *inputs: Tensor, exact: bool = False) -> None:
        program = program_of(instruction, inputs=len(inputs))
        result, expected = program(*inputs), instruction(*inputs)
        if exact:
            assert torch.equal(result, expected)
        else:
            assert_contract(result, expected)

    return check


def levels(*shape: int) -> Tensor:
    """Random levels, images in channels-last order."""
    values = torch.randint(0, 256, shape, dtype=torch.uint8)
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values
