"""Other batches of an example, and where two outputs depart from each other."""

import pytest
import torch

from repq_fx.passes.graph.example import as_inputs, difference, random_like, relative_error, run

ONES = torch.ones(3)
NAN, INF = float("nan"), float("inf")

AGREEING = {
    "rounding": (ONES, ONES + 1e-6),
    "nested": ({"a": [ONES, (ONES,)]}, {"a": (ONES, [ONES])}),
    "nan": (torch.tensor([NAN, 1.0]), torch.tensor([NAN, 1.0])),
    "infinity": (torch.tensor([INF, 1.0]), torch.tensor([INF, 1.0])),
    "zeros": (torch.zeros(2), torch.zeros(2)),
    "empty": (torch.zeros(0), torch.zeros(0)),
    "integers": (torch.tensor([1, 2]), torch.tensor([1, 2])),
    "booleans": (torch.tensor([True]), torch.tensor([True])),
    "half": (ONES.half(), ONES.half() * 1.001),
    "strings": ("a", "a"),
    "none": (None, None),
}
DIFFERING = {
    "value": (ONES, ONES * 1.01, "output differs by 1.0e-02 relative"),
    "double": (ONES.double(), ONES.double() + 1e-6, "output differs"),
    "nested": ([ONES, {"a": ONES}], [ONES, {"a": -ONES}], r"output\[1\]\['a'\] differs"),
    "shape": (ONES, ONES[:2], r"\[2\] instead of torch.float32 \[3\]"),
    "dtype": (ONES, ONES.double(), "torch.float64"),
    "keys": ({"a": 1}, {"b": 1}, r"keys \['b'\] instead of \['a'\]"),
    "length": ([1, 2], [1], "1 entries instead of 2"),
    "nan": (ONES, torch.tensor([1.0, NAN, 1.0]), "differs by inf"),
    "infinity": (torch.tensor([INF]), torch.tensor([-INF]), "differs by inf"),
    "integers": (torch.tensor([1, 2]), torch.tensor([1, 3]), "differs"),
    "kind": (ONES, 1.0, "output is a float unlike the Tensor"),
}


def test_a_tensor_stands_for_one_input():
    image = torch.zeros(1)
    assert as_inputs(image) == (image,)
    assert as_inputs((image, image)) == (image, image)


@pytest.mark.parametrize(
    ("inputs", "given"),
    [(None, "NoneType"), ([torch.zeros(1)], "list"), ((torch.zeros(1), 3), "Tensor, int")],
    ids=["none", "list", "number"],
)
def test_wrong_types_are_refused(inputs, given):
    with pytest.raises(TypeError, match=f"tuple of tensors, got .*{given}"):
        as_inputs(inputs)


@pytest.mark.parametrize(
    "inputs",
    [(), torch.zeros(0, 3), torch.zeros(1, device="meta")],
    ids=["empty_tuple", "empty_tensor", "meta"],
)
def test_inputs_without_data_are_refused(inputs):
    with pytest.raises(ValueError, match="example_inputs"):
        as_inputs(inputs)


def test_random_inputs_have_shape_and_dtype_and_leave_the_global_generator():
    before = torch.get_rng_state()
    inputs = (torch.zeros(2, 3), torch.tensor([4, 9]), torch.tensor([True, False]))
    first, second = random_like(inputs), random_like(inputs)
    for given, drawn, again in zip(inputs, first, second, strict=True):
        assert (drawn.shape, drawn.dtype) == (given.shape, given.dtype)
        assert torch.equal(drawn, again)
    assert 4 <= int(first[1].min()) <= int(first[1].max()) <= 9
    assert torch.equal(torch.get_rng_state(), before)


def test_run_computes_in_full_precision_and_restores_the_setting():
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    assert run(lambda *_: conv.fp32_precision, (torch.zeros(1),)) == "ieee"
    assert conv.fp32_precision == before


def test_run_protects_the_inputs():
    image = torch.zeros(3)
    assert torch.equal(run(lambda x: x.add_(1), (image,)), torch.ones(3))
    assert torch.equal(image, torch.zeros(3))


@pytest.mark.parametrize(("expected", "actual"), AGREEING.values(), ids=AGREEING.keys())
def test_agreement(expected, actual):
    assert difference(expected, actual) is None


@pytest.mark.parametrize(("expected", "actual", "text"), DIFFERING.values(), ids=DIFFERING.keys())
def test_difference_says_where(expected, actual, text):
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(difference(expected, actual))


def test_error_is_relative_to_the_largest_magnitude():
    assert relative_error(torch.tensor([4.0, 0.0]), torch.tensor([4.0, 1.0])) == 0.25
