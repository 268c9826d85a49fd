"""OpenVINO computes what torch computes, and NNCF's model runs in integers."""

import pytest
import torch

from repq_fx import analysis, reparameterize
from repq_fx.integrations import openvino
from repq_fx.models import fashion_repvgg

for _package in openvino.PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # Of converters, about themselves.


@pytest.mark.parametrize("threads", [1, 2])
def test_float_and_int8_agree_with_torch(threads):
    torch.manual_seed(0)
    images = torch.randn(4, 1, 28, 28)
    merged = reparameterize(fashion_repvgg().eval(), images)
    with torch.no_grad():
        expected = merged(images)
    model = openvino.convert(merged, images)
    int8_model = openvino.quantize(model, [images])
    assert any(node.get_type_name() == "FakeQuantize" for node in int8_model.get_ops())
    in_float = openvino.load(model, threads=threads, float32=True)(images)[0]
    in_int8 = openvino.load(int8_model, threads=threads, float32=False)(images)[0]
    torch.testing.assert_close(torch.from_numpy(in_float), expected, rtol=1e-4, atol=1e-4)
    assert 15 < analysis.sqnr_db(expected, torch.from_numpy(in_int8)) < 60
