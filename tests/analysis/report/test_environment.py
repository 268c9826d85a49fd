"""Machine and versions."""

import importlib.metadata
import json

import repq_fx
from repq_fx.analysis.report.environment import environment


def test_machine_and_versions_are_values_of_json():
    found = json.loads(json.dumps(environment(), allow_nan=False))
    packages = found["packages"]
    assert packages["repq_fx"] == repq_fx.__version__
    assert packages["numpy"] == importlib.metadata.version("numpy")
    assert "no_such_package" not in packages
    assert found["machine"]["memory_bytes"] is None or found["machine"]["memory_bytes"] > 2**28
    assert isinstance(found["threads"], int)
