"""What a runtime does in integers is told from what it does in float, with the reason."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import repq_fx
from repq_fx import PerChannel, Scheme, export
from repq_fx.errors import ExportError, FileFormatError
from repq_fx.export.onnx_check import check
from repq_fx.integrations import onnxruntime

for _package in onnxruntime.PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} is not installed")


class Net(nn.Module):
    """One of each: a chain, a function that is no ReLU, a pool, and a convolution at the end."""

    def __init__(self):
        super().__init__()
        self.stem, self.swished = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8))
        self.wide, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, image):
        x = F.silu(self.swished(F.relu(self.stem(image))))
        return self.head(F.relu(self.wide(F.max_pool2d(x, 2))))


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    scheme = Scheme(weight=PerChannel()).with_overrides(
        repq_fx.Override("wide", Scheme(weight=PerChannel(), weight_bits=16))
    )
    images = torch.randn(8, 3, 32, 32)
    return repq_fx.quantize(
        Net().eval(), images, scheme=scheme, backend="reference", progress=False
    )


def uses(reference, path, target):
    export.onnx(reference, path, target=target)
    return {use.node: use for use in export.check_onnx(path, target)}


def test_onnx_runtime_and_why_something_is_in_float(reference, tmp_path):
    found = uses(reference, tmp_path / "net.onnx", "onnxruntime")
    products = {name: use for name, use in found.items() if use.is_product}
    assert list(products) == ["stem/Conv", "swished/Conv", "wide/Conv", "head/Conv"]
    assert {name: use.reason for name, use in products.items()} == {
        "stem/Conv": "",
        "swished/Conv": "its output is not quantized, but read by QuickGelu",
        "wide/Conv": "its weight has more than 8 bits",
        "head/Conv": "its output leaves the network in float",
    }
    assert products["stem/Conv"].operator == "QLinearConv"
    pools = [use for use in found.values() if use.operator == "MaxPool"]
    assert [use.is_integer for use in pools] == [True]


def test_openvino(reference, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    found = uses(reference, tmp_path / "net.onnx", "openvino")
    assert all(found[name].is_integer for name in ("stem/Conv", "swished/Conv", "head/Conv"))
    assert not found["wide/Conv"].is_integer
    assert "runs in " in found["wide/Conv"].reason


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_what_is_no_model_is_refused(target, tmp_path):
    pytest.importorskip(target, reason=f"{target} is not installed")
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(FileFormatError, match=f"check_onnx: {target} does not take"):
        export.check_onnx(path, target)
    with pytest.raises(FileFormatError, match="there is no file"):
        export.check_onnx(tmp_path / "nowhere.onnx", target)


def test_a_missing_runtime_is_named(monkeypatch):
    absent = check._Checker(lambda _: [], ("no_such_runtime",))
    monkeypatch.setitem(check._CHECKERS, "openvino", absent)
    with pytest.raises(ExportError, match="pip install no_such_runtime"):
        export.check_onnx("net.onnx", "openvino")


def test_an_unknown_target():
    with pytest.raises(ValueError, match="target must be one of"):
        export.check_onnx("net.onnx", "tflite")
