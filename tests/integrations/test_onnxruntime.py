"""ONNX Runtime computes what torch computes, and its INT8 model runs in integers."""

from pathlib import Path

import pytest
import torch

from repq_fx import analysis, reparameterize
from repq_fx.integrations import onnxruntime
from repq_fx.models import fashion_repvgg

for _package in onnxruntime.PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # Of exporters, about themselves.


@pytest.mark.parametrize("threads", [1, 2])
def test_float_and_int8_agree_with_torch(threads, tmp_path):
    torch.manual_seed(0)
    images = torch.randn(4, 1, 28, 28)
    model = reparameterize(fashion_repvgg().eval(), images)
    with torch.no_grad():
        expected = model(images)
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnxruntime.export(model, images, source)
    onnxruntime.quantize(source, target, [images])
    (in_float,), (in_int8,) = (
        onnxruntime.load(path, threads=threads)(images) for path in (source, target)
    )
    torch.testing.assert_close(torch.from_numpy(in_float), expected, rtol=1e-4, atol=1e-4)
    assert 15 < analysis.sqnr_db(expected, torch.from_numpy(in_int8)) < 60
    assert _nodes(target) >= {"QuantizeLinear", "DequantizeLinear"}


def _nodes(path: Path) -> set[str]:
    import onnx

    return {node.op_type for node in onnx.load(path).graph.node}
