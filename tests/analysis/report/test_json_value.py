"""Values of reports keep their types."""

import json
import re
from pathlib import Path

import pytest
from torch import nn

from repq_fx import KL, MSE, Override, PerTensor, RepAPQ, Scheme
from repq_fx.analysis.report.json_value import json_value
from repq_fx.api import Backend


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (8, 8),
        (0.5, 0.5),
        (None, None),
        (float("inf"), None),
        (float("nan"), None),
        (Path("a"), "a"),
        ((1, (2.0,)), [1, [2.0]]),
        ({"a": Path("b")}, {"a": "b"}),
        (MSE(), {"type": "MSE", "power": 2.0}),
        (Backend.INT8, "int8"),
        (nn.Linear, "Linear"),
        (re.compile("a.*"), "a.*"),
    ],
    ids=str,
)
def test_types_are_kept(value, expected):
    found = json_value(value)
    assert found == expected
    assert type(found) is type(expected)


def test_schemes_and_methods_are_json():
    scheme = Scheme(weight=PerTensor(), activation=KL.tensorrt()).with_overrides(
        Override(nn.Linear, Scheme.w4a8()), Override("stem", None)
    )
    found = json.loads(json.dumps(json_value(scheme), allow_nan=False))
    assert found["weight_bits"] == 8
    assert found["equalization"] is True
    assert found["overrides"][0]["target"] == "Linear"
    assert found["overrides"][0]["scheme"]["weight_bits"] == 4
    assert found["overrides"][1] == {"type": "Override", "target": "stem", "scheme": None}
    assert json_value(RepAPQ())["iterations"] == 300
