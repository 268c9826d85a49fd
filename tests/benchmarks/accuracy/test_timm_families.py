"""A model of every family of timm goes from random weights to integer programs in a file."""

import math

import pytest

pytest.importorskip("timm", reason="timm is not installed")

from benchmarks.accuracy.timm_families import FAMILIES, measure

FAST = ("fasternet_t0", "edgenext_xx_small", "mobilenetv3_small_050")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(each, id=each.name, marks=[] if each.name in FAST else [pytest.mark.slow])
        for each in FAMILIES
    ],
)
def test_family(family):
    outcome = measure(family)
    assert outcome.get("failure") is None
    reference, int8 = outcome.get("reference"), outcome.get("int8")
    assert int8 > reference - 1 or math.isinf(reference)
