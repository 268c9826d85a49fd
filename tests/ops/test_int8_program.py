"""Compiled programs at the level of numbers and tensors; tests/backend/int8 has every step."""

import pytest
import torch

from repq_fx.ops import has_extension, new_program

GRID = (0.5, 3, 0, 255)


@pytest.mark.skipif(has_extension(), reason="the kernels are here")
def test_there_is_none_without_the_extension():
    assert new_program(1) is None


@pytest.mark.skipif(not has_extension(), reason="needs the compiled kernels")
class TestProgram:
    def test_levels_and_back(self):
        program = new_program(1)
        program.output(program.dequantize(program.quantize(0, GRID), GRID))
        (result,) = program.run([torch.tensor([[0.3, -9.0, 200.0]])])
        assert torch.equal(result, torch.tensor([[0.5, -1.5, 126.0]]))

    def test_unknown_values_are_refused(self):
        program = new_program(1)
        with pytest.raises(ValueError, match="expected values from 0 to 0, got 7"):
            program.quantize(7, GRID)
        with pytest.raises(ValueError, match="result of a step as output, got value 0"):
            program.output(0)

    def test_unknown_activation_functions_are_refused(self):
        program = new_program(2)
        with pytest.raises(ValueError, match="unknown activation function softplus"):
            program.combine([0, 1], "sum", GRID, GRID, "softplus", 0.0, GRID)
