"""Compiled programs, of numbers and tensors; steps: tests/lowering/int8/instructions."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repq_fx.ops import CompiledProgram, has_extension, instruction_set, int8_program, new_program

GRID = (0.5, 3, 0, 255)
FUNCTION = ("none", 0.0, [1.0], [0.0])
ROOT = Path(__file__).parents[2]
STEPS = ("layers", "pointwise", "pooling", "movement")


def run_python(arguments: list[str], instructions: str) -> subprocess.CompletedProcess[str]:
    """What Python prints where the environment names an instruction set."""
    environment = os.environ | {"REPQ_FX_ISA": instructions}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


def exact_program(kernels: str | None, function: str) -> CompiledProgram:
    """Layers and steps between them whose scales are powers of two; 12 channels, 8x8 pixels."""
    torch.manual_seed(0)
    program = new_program(1, kernels)
    behind = (function, 0.25, [0.5], [0.25])
    grid, wide = (0.125, 100, 0, 255), (8.0, 90, 10, 250)

    def layer(inputs, channels, *, groups, coarse=None):
        weight = torch.randint(-127, 128, (channels, 12 // groups, 3, 3), dtype=torch.int8)
        scale = torch.full((channels,), 2.0**-4)
        extra = torch.randint(-99, 99, (channels, 12 // groups, 1, 1), dtype=torch.int8)
        return program.convolution(
            inputs, weight, scale, torch.randint(-9, 9, (channels,)) / 4,
            extra if coarse else None, scale * 4 if coarse else None, [1, 1], [1, 1], [1, 1],
            groups, grid, wide if len(inputs) > 1 else None, behind, wide,
        )  # fmt: skip

    image = program.quantize(0, grid)
    dense = layer([image], 20, groups=1, coarse=True)
    grouped = layer([image], 20, groups=4)
    added = layer([image, dense], 20, groups=2)
    depthwise = layer([image], 12, groups=12, coarse=True)
    total = program.combine([dense, grouped], "sum", wide, wide, behind, wide, -3)
    joined = program.concatenate([added, depthwise, total])
    pooled = program.max_pool(joined, [3, 3], [1, 1], [1, 1], [1, 1])
    mean = program.average_pool(pooled, [2, 2], [2, 2], [0, 0], True, wide, wide)
    chosen = program.lookup(mean, torch.randperm(256).byte())
    moved = program.pixel_shuffle(program.upsample_nearest(chosen, [2, 2], None), 2)
    for output in (total, joined, program.dequantize(mean, wide), moved):
        program.output(output)
    return program


@pytest.mark.skipif(has_extension(), reason="the kernels are here")
def test_there_is_none_without_the_extension():
    assert new_program(1) is None
    assert instruction_set() is None


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
            ("convolution", {"stride": [0, 1]}, "expected stride from 1 to 65536, got 0"),
            ("convolution", {"groups": 3}, r"shape \[4, 3, 3, 3\] and 3 groups"),
            ("convolution", {"inputs": [0, 0]}, "expected one input, got 2"),
            ("convolution", {"input_grid": (0.0, 3, 0, 255)}, "grid of levels .* got scale=0"),
            ("quantize", {"grid": (0.1, 3, 0, 300)}, "highest=300"),
            ("lookup", {"table": torch.zeros(3).byte()}, "table of 256 levels, got 3"),
            ("channel_chunk", {"chunks": 0, "index": 0}, "expected chunks from 1 to 65536, got 0"),
            ("channel_chunk", {"chunks": 2, "index": -1}, "expected index from 0 to 65536"),
            ("max_pool", {"kernel": [0, 1]}, "max_pool: expected kernel from 1 to 65536, got 0"),
            ("max_pool", {"padding": [2, 0]}, "smaller than the window's extent of 2, got 2"),
            ("convolution", {"groups": 2**62}, "expected groups from 1 to 65536, got"),
            ("convolution", {"weight": torch.ones(4, 3).char()}, r"4 dimensions, got .*4, 3"),
            ("convolution", {"weight": torch.ones(4, 3, 0, 3).char()}, r"got .*4, 3, 0, 3"),
            (
                "convolution",
                {"function": ("none", math.nan, [1.0], [0.0])},
                "finite slope, got nan",
            ),
            (
                "convolution",
                {"function": ("none", 0.0, [math.inf], [0.0])},
                "finite factor, got inf",
            ),
            (
                "convolution",
                {"function": ("none", 0.0, [1.0], [-1e300])},
                r"finite offset, got -1e\+300",
            ),
            ("convolution", {"function": ("silu", 0.0, [1.0] * 3, [0.0])}, "of 4 channels, got 3"),
            ("convolution", {"function": ("silu", 0.0, [1.0], [0.0] * 5)}, "of 4 channels, got 5"),
            ("convolution", {"function": ("silu", 0.0, [], [0.0])}, "one factor or one .*, got 0"),
            ("convolution", {"function": ("silu", 0.0, [1, 1, math.nan, 1], [0.0])}, "got nan"),
            ("quantize", {"grid": (math.nan, 3, 0, 255)}, "got scale=nan"),
            ("quantize", {"grid": (math.inf, 3, 0, 255)}, "got scale=inf"),
            ("quantize", {"grid": (0.1, 3, 9, 8)}, "lowest=9, highest=8"),
            ("quantize", {"grid": (0.1, 2**40, 0, 255)}, "zero_point=1099511627776"),
            ("upsample_nearest", {"factor": None, "size": None}, "columns as size, got 0 numbers"),
            ("pixel_shuffle", {"factor": 0}, "expected factor from 1 to 65536, got 0"),
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
            "addend_grid": None, "function": FUNCTION, "output_grid": GRID,
        }  # fmt: skip
        window = {"kernel": [2, 2], "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1]}
        usual = {"convolution": convolution, "max_pool": {"input": 0, **window}}
        given = {**usual.get(step, {"input": 0}), **arguments}
        with pytest.raises(ValueError, match=message):
            getattr(new_program(1), step)(*given.values())

    @pytest.mark.parametrize("number", [2**16 + 1, 2**31, 2**32, 2**62, 2**63 - 1])
    @pytest.mark.parametrize(
        "add",
        [
            lambda program, number: program.max_pool(0, [number, 1], [1, 1], [0, 0], [1, 1]),
            lambda program, number: program.max_pool(0, [3, 3], [number, 1], [1, 1], [1, 1]),
            lambda program, number: program.max_pool(0, [3, 3], [1, 1], [number, 1], [1, 1]),
            lambda program, number: program.max_pool(0, [3, 3], [1, 1], [1, 1], [1, number]),
            lambda program, number: program.upsample_nearest(0, [number, number], None),
            lambda program, number: program.upsample_nearest(0, None, [number, number]),
            lambda program, number: program.pixel_shuffle(0, number),
            lambda program, number: program.channel_chunk(0, number, 0),
            lambda program, number: program.channel_chunk(0, 2, number),
        ],
    )
    def test_numbers_whose_products_could_wrap_are_refused(self, add, number):
        with pytest.raises(ValueError, match=f"to 65536, got {number}"):
            add(new_program(1), number)

    @pytest.mark.parametrize("times", [39, 61, 64])
    @pytest.mark.parametrize("batch", [0, 1])
    def test_a_value_joined_to_itself_again_and_again_is_refused(self, times, batch):
        program = new_program(1)
        value = 0
        for _ in range(times):
            value = program.concatenate([value, value])
        program.output(value)
        with pytest.raises(ValueError, match=r"expected values (of up to|that fit) 1099511627776"):
            program.run([torch.zeros(batch, 4, 1, 1, dtype=torch.uint8)])

    @pytest.mark.parametrize("shape", [(1, 4, 0, 3), (1, 4, 3, 0), (0, 4, 0, 3)], ids=str)
    @pytest.mark.parametrize(
        "add",
        [
            lambda program: program.upsample_nearest(0, None, [5, 5]),
            lambda program: program.max_pool(0, [3, 3], [1, 1], [2, 2], [1, 1]),
            lambda program: program.average_pool(0, None, [1, 1], [0, 0], True, GRID, GRID),
        ],
    )
    def test_images_without_pixels_are_refused_where_a_pixel_is_read(self, add, shape):
        program = new_program(1)
        program.output(add(program))
        with pytest.raises(ValueError, match="expected an image with pixels"):
            program.run([torch.zeros(shape, dtype=torch.uint8)])

    def test_one_value_is_not_two_outputs(self):
        program = new_program(1)
        value = program.concatenate([0, 0])
        program.output(value)
        with pytest.raises(ValueError, match="different outputs, got value 1 twice"):
            program.output(value)

    def test_unknown_activation_functions_are_refused(self):
        program = new_program(2)
        with pytest.raises(ValueError, match="unknown activation function softplus"):
            program.combine([0, 1], "sum", GRID, GRID, ("softplus", 0.0, [1.0], [0.0]), GRID, -1)

    @pytest.mark.parametrize(
        ("factor", "offset", "axis", "message"),
        [
            ([1.0] * 3, [0.0] * 2, -1, "one offset or one for each of 3 channels, got 2"),
            ([], [0.0], -1, "one factor or one for each of 1 channels, got 0"),
            ([1.0] * 3, [0.0], 0, "expected an axis from the last, got 0"),
        ],
    )
    def test_numbers_of_channels_behind_a_sum_are_checked(self, factor, offset, axis, message):
        with pytest.raises(ValueError, match=message):
            new_program(2).combine(
                [0, 1], "sum", GRID, GRID, ("none", 0.0, factor, offset), GRID, axis
            )

    @pytest.mark.parametrize("axis", [-1, -3])
    def test_a_sum_of_other_channels_is_left_to_the_definition(self, axis):
        program = new_program(2)
        function = ("none", 0.0, [1.0, 2.0, 3.0], [0.0])
        program.output(program.combine([0, 1], "sum", GRID, GRID, function, GRID, axis))
        with pytest.raises(NotImplementedError, match=f"expected 3 channels on axis {axis}, got"):
            program.run([torch.zeros(2, 4, dtype=torch.uint8)] * 2)

    def test_the_instruction_set_is_named(self):
        assert instruction_set() in {"avx512_vnni", "portable"}

    def test_every_step_runs_on_the_portable_kernels(self):
        tests = [f"tests/lowering/int8/instructions/test_{name}.py" for name in STEPS]
        command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests,
                   "-k", "not any_geometry"]  # fmt: skip
        done = run_python(command, "portable")
        assert done.returncode == 0, done.stdout

    def test_the_environment_chooses_the_kernels(self):
        program = ["-c", "from repq_fx import ops; print(ops.instruction_set())"]
        assert run_python(program, "portable").stdout.strip() == "portable"
        assert run_python(program, "").returncode == 0  # As where it is not set.
        *_, error = run_python(program, "sse9").stderr.splitlines()
        assert error.startswith(
            "ValueError: REPQ_FX_ISA: expected an instruction set of this machine"
        )
        assert error.endswith("portable), got sse9")

    def test_an_unknown_instruction_set_is_refused(self):
        with pytest.raises(ValueError, match=r"of this machine \(.*portable\), got sse9$"):
            new_program(1, "sse9")

    @pytest.mark.parametrize("function", ["none", "leaky_relu"])
    def test_portable_kernels_give_the_same_numbers(self, function):
        """To the last bit, for all numbers are multiples of powers of two."""
        image = torch.randint(-99, 99, (2, 12, 8, 8)) / 8
        outputs = [exact_program(kernels, function).run([image]) for kernels in (None, "portable")]
        for ours, portable in zip(*outputs, strict=True):
            assert torch.equal(ours, portable)
            assert ours.unique().numel() > 8

    def test_slow_kernels_are_told_of_once(self, monkeypatch, caplog):
        monkeypatch.delenv("REPQ_FX_ISA", raising=False)
        monkeypatch.setattr(int8_program, "instruction_set", lambda: "portable")
        int8_program._tell_of_slow_kernels.cache_clear()
        new_program(1)
        new_program(1)
        assert [record.message for record in caplog.records] == [
            "this CPU has no AVX512-VNNI instructions: portable kernels run, slowly"
        ]
