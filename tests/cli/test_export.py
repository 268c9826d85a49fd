"""`repq export`: a file, a table of what runs in integers, and one sentence for bad input."""

import pytest
import torch

import repq_fx
from repq_fx import CoarseFine, PerChannel, Scheme
from repq_fx.export.onnx_check import check
from repq_fx.integrations import onnxruntime
from repq_fx.models import fashion_repvgg

for _package in onnxruntime.PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} is not installed")

SHAPE = ("--input-shape", "2,1,28,28")


def saved(path, weight, backend="reference"):
    torch.manual_seed(0)
    scheme = Scheme(weight=weight).faster()
    repq_fx.save(
        repq_fx.quantize(
            fashion_repvgg().eval(), torch.randn(8, 1, 28, 28), scheme=scheme, backend=backend,
            progress=False,
        ),
        path,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "whole.repq", PerChannel())


def test_all_convolutions_are_integer(repq, whole, tmp_path):
    out = tmp_path / "net.onnx"
    code, output, error = repq("export", whole, "--out", out, "--strict", *SHAPE)
    assert (code, error) == (0, "")
    assert "10 of 10 convolutions and matrix products in integers" in output
    assert "stem.reparam_conv/Conv" in output
    assert out.is_file()


def test_strict_fails_if_a_convolution_is_in_float(repq, tmp_path):
    split = saved(tmp_path / "split.repq", CoarseFine(threshold=0.0))
    arguments = ("export", split, "--out", tmp_path / "net.onnx", *SHAPE)
    code, output, error = repq(*arguments)
    assert (code, error) == (0, "")
    assert "another tensor is added to it in float" in output
    code, _, error = repq(*arguments, "--strict")
    assert code == 1
    assert "--strict: " in error
    assert "in float, first 'st" in error


def test_without_the_runtime_nothing_is_checked(repq, whole, tmp_path, monkeypatch):
    absent = check._Checker(lambda _: [], ("no_such_runtime",))
    monkeypatch.setitem(check._CHECKERS, "onnxruntime", absent)
    out = tmp_path / "net.onnx"
    code, _, error = repq("export", whole, "--out", out, *SHAPE)
    assert code == 0
    assert "not checked: check_onnx: not installed: pip install no_such_runtime" in error
    assert out.is_file()
    code, _, error = repq("export", whole, "--out", out, "--strict", *SHAPE)
    assert code == 1
    assert "pip install no_such_runtime" in error


def test_a_lowered_file_is_refused(repq, tmp_path):
    lowered = saved(tmp_path / "int8.repq", PerChannel(), backend="int8")
    code, _, error = repq("export", lowered, "--out", tmp_path / "net.onnx", *SHAPE)
    assert code == 1
    assert "repq quantize --backend reference" in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FILE": "nowhere.repq"}, "there is no file 'nowhere.repq'"),
        ({"--out": "nowhere/net.onnx"}, "--out: there is no folder 'nowhere'"),
        ({"--out": "net.bin"}, "--out must end in .onnx, got 'net.bin'"),
        ({"--target": "tflite"}, "target must be one of ['onnxruntime', 'openvino'], got 'tflite'"),
        ({"--input-shape": "2,a"}, "--input-shape must be whole numbers separated by commas"),
        ({"--input-shape": "2,3,28,28"}, "the model fails on inputs of [2, 3, 28, 28]"),
    ],
    ids=["file", "folder", "suffix", "target", "shape", "channels"],
)
def test_bad_input_is_one_sentence(changes, message, repq, whole, tmp_path):
    arguments = {"FILE": whole, "--out": tmp_path / "net.onnx"} | changes
    file = arguments.pop("FILE")
    code, _, error = repq("export", file, *(x for pair in arguments.items() for x in pair))
    assert code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "net.onnx").exists()
