"""Options of the methods and what they refuse."""

import re
from dataclasses import FrozenInstanceError

import pytest

from repq_fx import BRECQ, MAE, MSE, AdaRound, Fisher, LpLoss, QDrop, RepAPQ
from repq_fx.reconstruct import Reconstruction
from repq_fx.reconstruct.partition import Partition

METHODS = [AdaRound, BRECQ, QDrop, RepAPQ]
each_method = pytest.mark.parametrize("method", METHODS)
RATES = ("rounding_rate", "rounding_weight", "step_rate", "gain_rate", "shift_rate",
         "across_blocks")  # fmt: skip
WRONG = [
    ("partition", "block"), ("partition", None), ("partition", ["blocks"]),
    ("loss", "mse"), ("loss", MSE), ("loss", None), ("loss", 2),
    ("iterations", -1), ("iterations", 1.5), ("iterations", True), ("iterations", "10"),
    ("images", 1), ("images", 64.0), ("images", None),
    ("batch_size", 0), ("batch_size", "32"), ("batch_size", False),
    ("batch_values", 0), ("batch_values", 1e6),
    ("input", "noisy"), ("input", None),
    ("keep", -0.1), ("keep", 1.1), ("keep", float("nan")), ("keep", "0.5"),
    ("warm_up", -0.1), ("warm_up", 1.1), ("warm_up", None),
    ("validation", 0), ("validation", 1), ("validation", float("nan")), ("validation", "x"),
    ("rounding_power", (20,)), ("rounding_power", (20, 2, 1)), ("rounding_power", (0.5, 2)),
    ("rounding_power", (20, 2000)), ("rounding_power", 20), ("rounding_power", ("20", "2")),
    *[(name, value) for name in RATES for value in (-1e-3, float("inf"), float("nan"), "1", None)],
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{n}={v}" for n, v in WRONG])
def test_wrong_options_are_named_with_their_value(name, value):
    for method in METHODS:
        message = re.escape(f"{method.__name__}: {name} must be ")
        with pytest.raises(ValueError, match=f"^{message}.*, got {re.escape(repr(value))}"):
            method(**{name: value})


@each_method
@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 0, "images": 2, "batch_size": 1, "batch_values": 1},
        {"keep": 0, "warm_up": 1, "validation": 0.999, "rounding_power": (1, 1024)},
        {"keep": 1.0, "warm_up": 0.0, **dict.fromkeys(RATES, 0)},
        {"loss": LpLoss(2.4), "input": "float"},
        {"loss": Fisher(), "input": "mixed"},
        {"loss": MAE(), "input": "quantized"},
        *[{"partition": partition} for partition in Partition],
        *[{"partition": partition.value} for partition in Partition],
    ],
    ids=str,
)
def test_the_ends_of_all_ranges_are_allowed(method, options):
    made = method(**options)
    assert all(getattr(made, name) == value for name, value in options.items())


@each_method
def test_methods_are_frozen_and_compare(method):
    assert method() == method()
    assert method(iterations=3) != method()
    with pytest.raises(FrozenInstanceError):
        method().iterations = 3


@pytest.mark.parametrize(
    ("images", "share", "held_out"), [(1024, 0.125, 128), (2, 0.01, 1), (10, 0.25, 2), (3, 0.5, 2)]
)
def test_at_least_one_image_is_held_out(images, share, held_out):
    assert AdaRound(validation=share).held_out(images) == held_out


@each_method
def test_methods_have_names(method):
    assert Reconstruction.from_name(method.__name__) == method()
    assert Reconstruction.from_name(method.__name__.lower()) == method()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'omniquant': use adaround, brecq, qdrop, repapq"):
        Reconstruction.from_name("omniquant")
