"""ONNX files compute what the reference graph does, at other sizes too, and say what they are."""

import logging
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import repq_fx
from repq_fx import PerChannel, PerTensor, Scheme, analysis, export
from repq_fx.errors import ExportError
from repq_fx.export.onnx_graph import packages
from repq_fx.integrations import onnxruntime

for _package in onnxruntime.PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} is not installed")

CHANNELS = 8


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.body = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.head = nn.Conv2d(CHANNELS, 4, 1)

    def forward(self, image):
        x = F.relu(self.stem(image))
        return self.head(F.relu(x + self.body(x)))


class Pyramid(nn.Module):
    """What is made smaller and larger again is joined with what was left of its size."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, image):
        x = F.relu(self.stem(image))
        small = F.max_pool2d(x, 2)
        return self.head(torch.cat([F.interpolate(small, scale_factor=2.0), x], 1))


class Placed(nn.Module):
    """Takes images of one size, which its places have."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.places = nn.Parameter(torch.randn(1, 4, 32, 32))

    def forward(self, image):
        return self.head(F.relu(self.stem(image)) + self.places)


class Flat(nn.Module):
    """Its head takes so many numbers, of images of whatever sides."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 32 * 32, 5)

    def forward(self, image):
        return self.head(F.relu(self.stem(image)).flatten(1))


def after_stem(*layers):
    return nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(), *layers)


def between(activation):
    convs = (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2))
    return after_stem(next(convs), activation, next(convs))


def with_centre():
    """A kernel that is split."""
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    with torch.no_grad():
        conv.weight[:, :, 1, 1] += 5 * torch.eye(CHANNELS)
    return after_stem(conv, nn.ReLU(), nn.Conv2d(CHANNELS, 4, 1))


NETS = {
    "plain": lambda: after_stem(nn.Conv2d(CHANNELS, 4, 3, bias=False)),
    "depthwise": lambda: after_stem(nn.Conv2d(CHANNELS, CHANNELS, 5, padding=2, groups=CHANNELS)),
    "grouped": lambda: after_stem(nn.Conv2d(CHANNELS, 12, 3, groups=4)),
    "strided": lambda: after_stem(nn.Conv2d(CHANNELS, 4, 3, stride=2, padding=1, dilation=2)),
    "reflected": lambda: after_stem(nn.Conv2d(CHANNELS, 4, 3, padding=1, padding_mode="reflect")),
    "same": lambda: after_stem(nn.Conv2d(CHANNELS, 4, 3, padding="same")),
    "linear": lambda: after_stem(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 5)),
    "residual": Residual,
    "silu": lambda: between(nn.SiLU()),
    "hardswish": lambda: between(nn.Hardswish()),
    "relu6": lambda: between(nn.ReLU6()),
    "pyramid": Pyramid,
    "average": lambda: after_stem(nn.AvgPool2d(2), nn.Conv2d(CHANNELS, 4, 1)),
    "shuffle": lambda: after_stem(nn.Conv2d(CHANNELS, 12, 3, padding=1), nn.PixelShuffle(2)),
    "split": with_centre,
    "flat": Flat,
    "placed": Placed,
}
SIZES = ((2, (64, 64)), (3, (96, 128)))  # Of the example and of what is run.
PLAIN = Scheme(weight=PerChannel())
SCHEMES = {
    "w8a8": PLAIN,
    "w4a8": replace(PLAIN, weight_bits=4),
    "w8a6": replace(PLAIN, activation_bits=6),
    "symmetric": replace(PLAIN, symmetric=True),
    "per-tensor": replace(PLAIN, weight=PerTensor()),
    "split": Scheme(),
}


def reference_of(net, scheme=PLAIN, size=32):
    images = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(1))
    return repq_fx.quantize(net, images, scheme=scheme, backend="reference", progress=False)


def made(name):
    torch.manual_seed(0)
    return NETS[name]().eval()


def ran(path, images):
    (outputs,) = onnxruntime.load(path, threads=1)(images)
    return torch.from_numpy(outputs)


def read(path):
    import onnx

    return onnx.load(path)


def assert_computes(reference, path, images):
    with torch.no_grad():
        expected = reference(images)
    # Single levels flip where sums in another order are at a tie.
    assert analysis.sqnr_db(expected, ran(path, images)) > 38


@pytest.mark.parametrize("name", NETS)
def test_a_file_computes_what_the_reference_does(name, tmp_path):
    reference, path = reference_of(made(name), SCHEMES["split"]), tmp_path / "net.onnx"
    is_fixed = name in {"flat", "placed"}
    example, image = (torch.randn(n, 3, *(32, 32) if is_fixed else s) for n, s in SIZES)
    export.onnx(reference, path, example_inputs=example)
    assert_computes(reference, path, image)


@pytest.mark.parametrize(
    ("scheme", "target"),
    [*((scheme, "onnxruntime") for scheme in SCHEMES), ("w8a6", "openvino"), ("split", "openvino")],
)
def test_every_grid_is_kept(scheme, target, tmp_path):
    reference, path = reference_of(made("residual"), SCHEMES[scheme]), tmp_path / "net.onnx"
    export.onnx(reference, path, target=target)
    assert_computes(reference, path, 3 * torch.randn(3, 3, 32, 32))


def test_nodes_and_sizes_are_called_as_in_the_model(tmp_path):
    path = tmp_path / "net.onnx"
    export.onnx(reference_of(made("residual")), path)
    graph = read(path).graph
    names = [node.name for node in graph.node]
    assert names[:2] == ["image/QuantizeLinear", "image/DequantizeLinear"]
    assert {"stem/Conv", "stem/QuantizeLinear", "head/Conv"} <= set(names)
    assert len(set(names)) == len(names)
    assert not any(node.metadata_props for node in graph.node)
    for value in (graph.input[0], graph.output[0]):
        sizes = value.type.tensor_type.shape.dim
        assert [s.dim_param for s in sizes] == ["batch", "", "height", "width"]


def test_a_file_says_what_it_is(tmp_path):
    path = tmp_path / "net.onnx"
    export.onnx(reference_of(made("split"), SCHEMES["split"]), path, target="openvino")
    model = read(path)
    assert (model.producer_name, model.producer_version) == ("repq_fx", repq_fx.__version__)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "repq_fx.version": repq_fx.__version__,
        "repq_fx.target": "openvino",
        "repq_fx.quantized_layers": "3",
        "repq_fx.split_layers": "1",
        "repq_fx.weight_bits": "8",
    }


def test_integers_are_those_of_the_model(tmp_path):
    import onnx

    reference, path = reference_of(made("plain")), tmp_path / "net.onnx"
    export.onnx(reference, path, target="openvino")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in read(path).graph.initializer}
    for name, tensor in reference.state_dict().items():
        if name.endswith(".values"):
            weight = torch.from_numpy(stored[name.replace(".values", ".weight.values")].copy())
            assert weight.dtype == torch.int8
            assert torch.equal(weight, tensor)


def test_a_size_that_is_settled_is_logged(tmp_path, caplog):
    reference = reference_of(made("placed"))
    with caplog.at_level(logging.WARNING):
        export.onnx(reference, tmp_path / "net.onnx", example_inputs=torch.randn(1, 3, 32, 32))
    assert "onnx: input 'image' has to be of ['batch', 3, 32, 32]" in caplog.text


def test_weights_in_two_parts_are_logged_where_they_run_in_float(tmp_path, caplog):
    reference, path = reference_of(made("split"), SCHEMES["split"]), tmp_path / "net.onnx"
    export.onnx(reference, path, target="openvino")
    assert "two parts" not in caplog.text
    export.onnx(reference, path)
    assert "1 of 3 layers have a weight in two parts, which onnxruntime computes" in caplog.text


def test_the_model_stays_as_it_was(tmp_path):
    reference = reference_of(made("residual"))
    code, state = reference.code, {n: t.clone() for n, t in reference.state_dict().items()}
    export.onnx(reference, tmp_path / "net.onnx")
    assert reference.code == code
    assert all(torch.equal(tensor, state[name]) for name, tensor in reference.state_dict().items())


def test_several_inputs_and_outputs(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(5, 4)

        def forward(self, image, numbers):
            x = F.relu(self.conv(image))
            return {"sum": x + self.linear(numbers)[:, :, None, None], "image": x}

    inputs, path = (torch.randn(4, 3, 16, 16), torch.randn(4, 5)), tmp_path / "net.onnx"
    reference = repq_fx.quantize(
        Two().eval(), [inputs], scheme=PLAIN, backend="reference", progress=False
    )
    with pytest.raises(ExportError, match="the model has 2 inputs; give example_inputs"):
        export.onnx(reference, path)
    export.onnx(reference, path, example_inputs=inputs)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    assert names == ["image", "numbers"]
    found = session.run(None, dict(zip(names, (i.numpy() for i in inputs), strict=True)))
    with torch.no_grad():
        expected = reference(*inputs)
    for known, value in zip(expected.values(), found, strict=True):
        assert analysis.sqnr_db(known, torch.from_numpy(value)) > 38


class TestRefusals:
    def test_an_unknown_target(self, tmp_path):
        with pytest.raises(ValueError, match=r"target must be one of .*, got 'tflite'"):
            export.onnx(None, tmp_path / "net.onnx", target="tflite")

    def test_what_is_no_graph(self, tmp_path):
        with pytest.raises(TypeError, match="expected what convert or quantize returned, got Conv"):
            export.onnx(nn.Conv2d(3, 4, 1), tmp_path / "net.onnx")

    def test_a_lowered_model(self, tmp_path):
        images = torch.randn(4, 3, 32, 32)
        lowered = repq_fx.quantize(made("plain"), images, scheme=PLAIN, progress=False)
        with pytest.raises(ExportError, match='quantize it with backend="reference"'):
            export.onnx(lowered, tmp_path / "net.onnx")

    def test_a_float_model(self, tmp_path):
        with pytest.raises(ExportError, match="no quantized layer"):
            export.onnx(
                repq_fx.trace(made("plain"), torch.randn(2, 3, 8, 8)), tmp_path / "net.onnx"
            )

    def test_inputs_that_do_not_fit(self, tmp_path):
        with pytest.raises(ExportError, match=r"fails on inputs of \[2, 4, 8, 8\]"):
            export.onnx(
                reference_of(made("plain")), tmp_path / "net.onnx",
                example_inputs=torch.randn(2, 4, 8, 8),
            )  # fmt: skip

    def test_what_is_no_tensor(self, tmp_path):
        class Counted(nn.Sequential):
            def forward(self, image):
                return super().forward(image), 3

        reference = reference_of(Counted(nn.Conv2d(3, 4, 3)).eval())
        with pytest.raises(ExportError, match="the model returns 3, and ONNX files give tensors"):
            export.onnx(reference, tmp_path / "net.onnx")

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(OSError, match="cannot write here"):
            export.onnx(reference_of(made("plain")), tmp_path / "nowhere" / "net.onnx")

    def test_a_missing_package(self, tmp_path, monkeypatch):
        monkeypatch.setattr(packages, "find_spec", lambda _: None)
        with pytest.raises(ExportError, match="pip install onnx onnxscript"):
            export.onnx(reference_of(made("plain")), tmp_path / "net.onnx")

    def test_more_than_a_file_holds(self, tmp_path, monkeypatch):
        monkeypatch.setattr("repq_fx.export.onnx_graph.write._LARGEST", 100)
        with pytest.raises(ExportError, match="2 fit into one file"):
            export.onnx(reference_of(made("plain")), tmp_path / "net.onnx")
