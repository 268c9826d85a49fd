"""Programs as modules: what they keep, accept and refuse."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from repq_fx.backend.int8 import Concatenate, Epilogue, LevelGrid, Lookup, Quantize
from repq_fx.backend.int8 import program as program_module
from repq_fx.ops import has_extension

from .conftest import levels, program_of
from .test_layers import convolution

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


@needs_kernels
def test_what_no_step_knows_runs_in_pytorch(caplog):
    program = program_of(Concatenate(), Lookup(levels(256)), inputs=2)
    values = levels(2, 3, 5), levels(2, 4, 5)
    assert torch.equal(program(*values), program.body(*values))
    assert "[2, 3, 5]" in caplog.text
