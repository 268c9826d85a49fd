import copy
import logging

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.analysis import sqnr_db
from repq_fx.passes import in_single_precision, inputs_in_single_precision

_DTYPES = (torch.float16, torch.bfloat16, torch.float64)
_IMAGES = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))


def _net() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["reference", "int8"])
def test_a_copy_in_single_precision_is_quantized(
    dtype: torch.dtype, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = _net().to(dtype)
    images = _IMAGES.to(dtype)
    with caplog.at_level(logging.WARNING):
        quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    assert [str(dtype) in record.message for record in caplog.records] == [True]
    assert sqnr_db(model(images).float(), quantized(images.float())) > 30
    assert {tensor.dtype for tensor in model.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
def test_merging_keeps_the_dtype(dtype: torch.dtype) -> None:
    model, images = _net().to(dtype), _IMAGES.to(dtype)
    for graph in (repq_fx.trace(model, images), repq_fx.reparameterize(model, images)):
        assert {tensor.dtype for tensor in graph.parameters()} == {dtype}
        assert sqnr_db(model(images).double(), graph(images).double()) > 40
    assert [region.merged for region in repq_fx.find_regions(model, images)] == [True]


def test_data_of_another_dtype_is_read() -> None:
    model = _net()
    expected = repq_fx.quantize(model, _IMAGES, backend="reference", progress=False)(_IMAGES)
    data = [_IMAGES.double()]
    found = repq_fx.quantize(model, data, backend="reference", progress=False)(_IMAGES)
    assert torch.equal(found, expected)


def test_calibrate_refuses_a_model_prepared_in_half_precision() -> None:
    graph = repq_fx.reparameterize(_net(), _IMAGES)
    prepared = api.prepare(graph, _IMAGES, repq_fx.Scheme())
    with pytest.raises(repq_fx.CalibrationError, match=r"'0\.weight' is torch\.float16"):
        repq_fx.calibrate(copy.deepcopy(prepared).half(), _IMAGES, progress=False)


def test_a_model_in_single_precision_is_not_copied() -> None:
    model = _net()
    assert in_single_precision(model) is model


def test_integer_inputs_stay_integers() -> None:
    inputs = (torch.arange(3), [torch.zeros(2, dtype=torch.float64)])
    found = inputs_in_single_precision(inputs)
    assert (found[0].dtype, found[1][0].dtype) == (torch.int64, torch.float32)
