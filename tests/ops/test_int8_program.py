"""Compiled programs at the level of numbers and tensors; tests/backend/int8 has every step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repq_fx.ops import has_extension, new_program

GRID = (0.5, 3, 0, 255)
ROOT = Path(__file__).parents[2]
STEPS = ("layers", "pointwise", "pooling", "movement")


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

    @pytest.mark.parametrize(
        ("step", "arguments", "message"),
        [
            ("convolution", {"weight_scale": torch.ones(3)}, "4 float32 numbers as weight_scale"),
            ("convolution", {"weight": torch.ones(4, 3, 3, 3)}, "108 int8 numbers as weight"),
            ("convolution", {"stride": [0, 1]}, "rows and columns of at least 1, got 0 1"),
            ("convolution", {"groups": 3}, r"shape \[4, 3, 3, 3\] and 3 groups"),
            ("convolution", {"inputs": [0, 0]}, "expected one input, got 2"),
            ("convolution", {"input_grid": (0.0, 3, 0, 255)}, "grid of levels .* got scale=0"),
            ("quantize", {"grid": (0.1, 3, 0, 300)}, "highest=300"),
            ("lookup", {"table": torch.zeros(3).byte()}, "table of 256 levels, got 3"),
            ("channel_chunk", {"chunks": 0, "index": 0}, "expected chunks, got 0"),
            ("max_pool", {"kernel": [0, 1]}, "at least 1, got 0 1"),
            ("upsample_nearest", {"factor": None, "size": None}, "at least 1, got"),
            ("pixel_shuffle", {"factor": 0}, "positive factor, got 0"),
            ("concatenate", {"input": []}, "expected a step with inputs"),
        ],
        ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
    )
    def test_what_a_damaged_file_may_hold_is_refused(self, step, arguments, message):
        """Kernels index by these numbers."""
        convolution = {
            "inputs": [0], "weight": torch.ones(4, 3, 3, 3).char(), "weight_scale": torch.ones(4),
            "bias": None, "coarse": None, "coarse_scale": None, "stride": [1, 1],
            "padding": [1, 1], "dilation": [1, 1], "groups": 1, "input_grid": GRID,
            "addend_grid": None, "activation": "none", "slope": 0.0, "output_grid": GRID,
        }  # fmt: skip
        window = {"kernel": [2, 2], "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1]}
        usual = {"convolution": convolution, "max_pool": {"input": 0, **window}}
        given = {**usual.get(step, {"input": 0}), **arguments}
        with pytest.raises(ValueError, match=message):
            getattr(new_program(1), step)(*given.values())

    def test_unknown_activation_functions_are_refused(self):
        program = new_program(2)
        with pytest.raises(ValueError, match="unknown activation function softplus"):
            program.combine([0, 1], "sum", GRID, GRID, "softplus", 0.0, GRID)

    def test_other_machines_run_the_portable_kernels(self):
        """Every step, in a process where the instructions are ruled out as torch's own are."""
        environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
        tests = [f"tests/backend/int8/test_{name}.py" for name in STEPS]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests,
                   "-k", "not any_geometry", "-o", "log_cli=true"]  # fmt: skip
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        assert "no AVX512-VNNI instructions" in done.stdout
