"""Random models through the whole road: merged, quantized, lowered, saved, at other sizes.

2,000 by hand: ``HYPOTHESIS_EXAMPLES=2000 python -m pytest tests/random_networks/test_models.py``.
"""

import copy
import math
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings

import repq_fx
from repq_fx.analysis import sqnr_db
from tests.real_models import tensors

from .models import CHANNELS, SIDE, random_models

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "50"))
ROAD = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def loaded_again(quantized):
    with tempfile.TemporaryDirectory() as folder:
        repq_fx.save(quantized, Path(folder, "model.repq"))
        return repq_fx.load(Path(folder, "model.repq"))


def merged_unless_rounding(model, images):
    """Of some outputs, as the mean of a layer norm's, single precision leaves only rounding."""
    try:
        return repq_fx.reparameterize(model, images)
    except repq_fx.RepqError as error:
        assume("amplify rounding" not in str(error))  # In float64 the other test demands it.
        raise


def ratios(known, found):
    """The signal to noise of each output; infinite where nothing finite is left to compare."""
    assert type(known) is type(found)
    known, found = tensors(known), tensors(found)
    assert len(known) == len(found)
    for expected, actual in zip(known, found, strict=True):
        assert expected.shape == actual.shape
        if expected.is_floating_point():
            yield sqnr_db(expected, actual)


@pytest.mark.filterwarnings("ignore::UserWarning")
@ROAD
@given(random_models())
def test_integer_programs_are_as_good_as_their_definition(model):
    images = torch.randn(4, CHANNELS, SIDE, SIDE)
    scheme = repq_fx.Scheme.plain(8, 8, repq_fx.PerChannel(), repq_fx.MinMax())
    before = copy.deepcopy(model.state_dict())
    prepared = repq_fx.api.prepare(merged_unless_rounding(model, images), images, scheme)
    repq_fx.calibrate(prepared, images, progress=False)
    reference, lowered = (repq_fx.convert(prepared, backend) for backend in ("reference", "int8"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    loaded = loaded_again(lowered)
    with torch.no_grad():
        for shape in ((4, CHANNELS, SIDE, SIDE), (3, CHANNELS, SIDE, SIDE), (2, CHANNELS, 11, 10)):
            image = torch.randn(shape)
            try:
                known = model(image)
            except RuntimeError:
                continue  # The model itself takes no such size.
            try:
                defined, found = reference(image), lowered(image)
            except repq_fx.RepqError:
                assert shape[2] != SIDE  # A size that was read in Python is guarded.
                continue
            for first, second in zip(ratios(known, defined), ratios(known, found), strict=True):
                # Below, 8 bits leave so little that one level more or less changes it.
                assert second > first - 1 or second > 40 or first < 3 or math.isnan(first)
            for first, second in zip(tensors(found), tensors(loaded(image)), strict=True):
                assert torch.equal(first, second)


@pytest.mark.filterwarnings("ignore::UserWarning")
@ROAD
@given(random_models())
def test_merging_changes_nothing(model):
    model = model.double()
    merged = repq_fx.reparameterize(model, torch.randn(2, CHANNELS, SIDE, SIDE).double())
    with torch.no_grad():
        for shape in ((2, CHANNELS, SIDE, SIDE), (3, CHANNELS, 11, 10)):
            image = torch.randn(shape).double()
            try:
                known = model(image)
            except RuntimeError:
                continue
            try:
                found = merged(image)
            except repq_fx.RepqError:
                assert shape[2] != SIDE
                continue
            assert type(known) is type(found)
            for expected, actual in zip(tensors(known), tensors(found), strict=True):
                torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
