"""Random models as ONNX files: they compute what the reference does, or are refused by name.

200 by hand: ``HYPOTHESIS_EXAMPLES=200 python -m pytest tests/random_networks/test_exported.py``.
"""

import math
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings

import repq_fx
from repq_fx.errors import ExportError
from repq_fx.integrations import onnxruntime
from tests.real_models import tensors

from .models import CHANNELS, SIDE, random_models
from .test_models import merged_unless_rounding, ratios

for _package in onnxruntime.PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} is not installed")

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "5"))
SCHEME = repq_fx.Scheme.plain(8, 8, repq_fx.PerChannel(), repq_fx.MinMax())


def ran(path, images):
    return [torch.from_numpy(value) for value in onnxruntime.load(path, threads=1)(images)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # Shrinking would write hundreds of files.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(random_models())
def test_a_file_is_as_good_as_the_reference(model):
    images = torch.randn(4, CHANNELS, SIDE, SIDE)
    prepared = repq_fx.api.prepare(merged_unless_rounding(model, images), images, SCHEME)
    repq_fx.calibrate(prepared, images, progress=False)
    reference = repq_fx.convert(prepared, "reference")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder, "net.onnx")
        try:
            repq_fx.export.onnx(reference, path, example_inputs=images)
        except ExportError as error:
            assume("no quantized layer" not in str(error) and "tensors only" not in str(error))
            raise
        known, expected = tensors(model(images)), tensors(reference(images))
        found = ran(path, images)
    for first, second in zip(ratios(known, expected), ratios(known, found), strict=True):
        # Below, 8 bits leave so little that one level more or less changes it.
        assert second > first - 1 or second > 40 or first < 3 or math.isnan(first)
