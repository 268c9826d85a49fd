"""Programs as modules: what they keep, accept and refuse."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from repq_fx.errors import SizeError
from repq_fx.lowering.int8.instructions import (
    Combination,
    Combine,
    Epilogue,
    Int8Linear,
    LayerGrids,
    LevelGrid,
    Quantize,
)
from repq_fx.lowering.int8.instructions import program as program_module
from repq_fx.ops import has_extension, new_program

from .conftest import assert_contract, levels, program_of
from .test_layers import ADDEND, INPUT, convolution, weight

needs_kernels = pytest.mark.skipif(not has_extension(), reason="needs the compiled kernels")


@pytest.fixture
def program():
    grid = LevelGrid(0.03, 114)
    return program_of(Quantize(grid), convolution(3, 8), convolution(8, 4, epilogue=Epilogue()))


def test_without_the_extension_the_definitions_run(program, monkeypatch):
    images = torch.randn(2, 3, 9, 9)
    expected = program.body(images)
    monkeypatch.setattr(program_module, "new_program", lambda _: None)
    assert torch.equal(program(images), expected)


@needs_kernels
def test_sizes_may_change_from_call_to_call(program):
    for size in ((1, 3, 9, 9), (3, 3, 20, 7), (0, 3, 9, 9), (1, 3, 9, 9)):
        images = torch.randn(size)
        torch.testing.assert_close(program(images), program.body(images), rtol=0, atol=0.2)


@needs_kernels
def test_threads_do_not_disturb_each_other(program):
    batches = [torch.randn(1 + index % 3, 3, 9 + index % 2, 9) for index in range(40)]
    expected = [program(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(map(torch.equal, pool.map(program, batches), expected))


@needs_kernels
def test_number_of_threads_does_not_change_the_result(program):
    images, before = torch.randn(2, 3, 40, 40), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(program(images))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@needs_kernels
def test_outputs_do_not_share_memory_between_calls(program):
    first = program(torch.randn(1, 3, 9, 9))
    kept = first.clone()
    program(torch.randn(1, 3, 9, 9))
    assert torch.equal(first, kept)
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_compiled_programs_are_neither_copied_nor_pickled(program):
    images = torch.randn(1, 3, 9, 9)
    expected = program(images)
    for other in (copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        assert "_compiled" not in other.__dict__
        assert torch.equal(other(images), expected)


@needs_kernels
@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([torch.zeros(1, 3, 9, 9, dtype=torch.float64)], TypeError, "uint8 input, got float64"),
        ([torch.zeros(1, 4, 9, 9)], ValueError, r"expected 3 channels, got shape \[1, 4, 9, 9\]"),
        ([torch.zeros(1, 3, 9, 9, device="meta")], ValueError, "input on cpu, got meta"),
        ([], ValueError, "expected 1 inputs, got 0"),
        ([torch.zeros(1, 3, 9, 9, dtype=torch.uint8)], TypeError, "float32"),
    ],
    ids=["dtype", "channels", "device", "number", "levels"],
)
def test_bad_input_is_named(program, inputs, error, message):
    with pytest.raises(error, match=message):
        program(*inputs)


def test_operands_that_do_not_fit_are_a_size_error():
    grid = LevelGrid(0.03, 114)
    total = program_of(Combine(Combination.SUM, grid, grid, Epilogue(grid)), inputs=2)
    with pytest.raises(SizeError, match=r"an input of \[1, 3, 9, 9\], \[1, 3, 4, 4\]: .* match"):
        total(levels(1, 3, 9, 9), levels(1, 3, 4, 4))


@needs_kernels
def test_a_learned_factor_runs_in_the_kernels(caplog):
    grid = LevelGrid(0.03, 114)
    scaled = program_of(Combine(Combination.PRODUCT, grid, grid, Epilogue(grid)), inputs=2)
    for inputs in ((levels(2, 3, 9, 9), levels()), (levels(), levels(2, 3, 9, 9))):
        assert_contract(scaled(*inputs), scaled.body(*inputs))
    assert not caplog.text
    # Of scalars alone the result is one too.
    assert scaled(levels(), levels()).shape == ()


@needs_kernels
def test_what_no_step_knows_runs_in_pytorch(caplog):
    program = program_of(convolution(addend=ADDEND), inputs=2)
    values = (
        levels(1, 8, 5, 5),
        levels(3, 16, 5, 5),
    )  # The layer's result would have to be repeated.
    assert_contract(program(*values), program.body(*values))
    assert "[3, 16, 5, 5]" in caplog.text


@needs_kernels
def test_a_profile_is_the_result_with_the_time_of_each_instruction(program):
    images = torch.randn(2, 3, 9, 9)
    profile = program.profile(images)
    assert torch.equal(profile.result, program(images))
    assert list(profile.milliseconds) == ["0", "1", "2"]
    assert all(time > 0 for time in profile.milliseconds.values())
    assert profile.fallback is None


@needs_kernels
def test_what_is_rearranged_counts_to_the_step_that_reads_it():
    # A linear layer reads its channels on the last axis, the convolution writes them on the first.
    linear = Int8Linear(weight(4, 9), None, LayerGrids(INPUT, Epilogue()))
    program = program_of(Quantize(LevelGrid(0.03, 114)), convolution(3, 8), linear)
    assert list(program.profile(torch.randn(3, 9, 9)).milliseconds) == ["0", "1", "2"]


@needs_kernels
def test_a_profile_says_why_instructions_ran_in_pytorch(caplog):
    program = program_of(convolution(addend=ADDEND), inputs=2)
    values = levels(1, 8, 5, 5), levels(3, 16, 5, 5)
    profile = program.profile(*values)
    assert torch.equal(profile.result, program.body(*values))
    assert "[3, 16, 5, 5]" in profile.fallback
    assert not profile.milliseconds
    program(*values)
    assert not caplog.records  # It was said.


@needs_kernels
@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
def test_loaded_weights_are_noticed(program, assign):
    images = torch.randn(1, 3, 9, 9)
    before = program(images)
    state = {name: value.clone() for name, value in program.state_dict().items()}
    state["body.1.weight"].neg_()
    program.load_state_dict(state, assign=assign)
    after = program(images)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, program.body(images), rtol=0, atol=0.2)


@needs_kernels
def test_weights_written_in_place_are_noticed(program):
    images = torch.randn(1, 3, 9, 9)
    before = program(images)
    program.body.get_submodule("2").bias.add_(1)
    torch.testing.assert_close(program(images), before + 1)


def replace(layer, bias):
    layer.bias = bias


def replace_memory(layer, bias):
    layer.bias.data = bias


@needs_kernels
@pytest.mark.parametrize("write", [replace, replace_memory], ids=lambda each: each.__name__)
def test_weights_put_in_the_place_of_others_are_noticed(program, write):
    images = torch.randn(1, 3, 9, 9)
    before = program(images)
    last = program.body.get_submodule("2")
    write(last, last.bias + 1)
    torch.testing.assert_close(program(images), before + 1)


@needs_kernels
@pytest.mark.parametrize("convert", ["half", "double"])
def test_a_converted_program_is_refused(program, convert):
    program(torch.randn(1, 3, 9, 9))
    getattr(program, convert)()
    with pytest.raises(TypeError, match=r"'1\.weight_scale' is torch\..*do not convert or move it"):
        program(torch.randn(1, 3, 9, 9))


@needs_kernels
def test_a_program_is_compiled_once(program, monkeypatch):
    calls = []
    monkeypatch.setattr(
        program_module, "new_program", lambda inputs: calls.append(inputs) or new_program(inputs)
    )
    for _ in range(3):
        program(torch.randn(1, 3, 9, 9))
    assert len(calls) == 1


@needs_kernels
def test_a_lazily_negated_input_is_negated(program):
    images = torch.randn(1, 3, 9, 9)
    lazy = (torch._neg_view(images), torch.complex(images, images).conj().imag)
    for values in lazy:
        assert values.is_neg()
        assert torch.equal(program(values), program(-images))
