import pytest
import torch

from repq_fx.passes.graph.agreement import difference, relative_error

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


@pytest.mark.parametrize(("expected", "actual"), AGREEING.values(), ids=AGREEING.keys())
def test_agreement(expected, actual):
    assert difference(expected, actual) is None


@pytest.mark.parametrize(("expected", "actual", "text"), DIFFERING.values(), ids=DIFFERING.keys())
def test_difference_says_where(expected, actual, text):
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(difference(expected, actual))


def test_error_is_relative_to_the_largest_magnitude():
    assert relative_error(torch.tensor([4.0, 0.0]), torch.tensor([4.0, 1.0])) == 0.25
