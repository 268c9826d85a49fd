"""The pieces of the benchmark of text networks that need neither wheels nor other tools."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.fx import Graph, GraphModule

import repq_fx
from benchmarks.peers import text_networks, text_networks_data
from benchmarks.peers.text_networks import COLUMNS, quality
from benchmarks.peers.text_networks_data import (
    NETWORKS,
    Sources,
    TextNetwork,
    UnavailableError,
    lines,
    scenes,
)
from benchmarks.peers.text_networks_onnx import fold, make_plain, to_torch
from repq_fx.analysis import LatencyStatistics
from repq_fx.analysis.report import Report, Row, write

FONTS = Path("/usr/share/fonts/truetype/dejavu")
needs_fonts = pytest.mark.skipif(not FONTS.is_dir(), reason=f"there is no {FONTS}")


class OnnxReshape(nn.Module):
    """As onnx2torch has it: the shape is a tensor."""

    def forward(self, input, shape):
        return input.reshape(shape.tolist())


class OnnxSlice(nn.Module):
    def forward(self, input, starts, ends, axes):
        part = input
        for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
            part = part.narrow(axis, start, min(end, part.shape[axis]) - start)
        return part


class OnnxResize(nn.Module):
    def __init__(self, onnx_mode="nearest"):
        super().__init__()
        self.onnx_mode = onnx_mode

    def forward(self, input, roi, scales):
        assert roi.numel() == 0
        return nn.functional.interpolate(input, scale_factor=scales.tolist()[2:])


def converted(*layers):
    """A chain of layers, each with the constants that it reads."""
    root, graph = nn.Module(), Graph()
    node = graph.placeholder("input")
    for index, (layer, *constants) in enumerate(layers):
        root.add_module(f"layer{index}", layer)
        read = []
        for position, constant in enumerate(constants):
            root.register_buffer(f"constant{index}_{position}", torch.tensor(constant))
            read.append(graph.get_attr(f"constant{index}_{position}"))
        node = graph.call_module(f"layer{index}", (node, *read))
    graph.output(node)
    return GraphModule(root, graph).eval()


def test_shapes_bounds_and_factors_become_constants_for_any_number_of_images():
    model = converted(
        (OnnxResize(), [], [1.0, 1.0, 2.0, 2.0]),
        (OnnxSlice(), [1, 0], [2**31 - 1, 6], [1, 3]),
        (OnnxReshape(), [1, -1, 12]),
        (nn.Linear(12, 5),),
        (OnnxReshape(), [8, 5]),  # The images and eight rows of each in one axis.
    )
    image = torch.randn(1, 3, 4, 4)
    expected = model(image)
    make_plain(model, image)
    assert torch.equal(model(image), expected)
    images = torch.randn(3, 3, 4, 4)
    assert torch.equal(model(images), torch.cat([model(each[None]) for each in images]))
    assert [name for name, _ in model.named_modules() if name] == ["layer3"]
    repq_fx.trace(model, images)


@pytest.mark.parametrize(
    ("layer", "constants", "message"),
    [
        pytest.param(OnnxResize("linear"), ([], [1.0, 1.0, 2.0, 2.0]), "otherwise", id="linear"),
        pytest.param(OnnxSlice(), ([0], [1]), "no initializer", id="computed"),
    ],
)
def test_what_cannot_be_written_plainly_is_refused(layer, constants, message):
    model = converted((layer, *constants))
    if isinstance(layer, OnnxSlice):  # Its axes are not known before it runs.
        node = next(node for node in model.graph.nodes if node.op == "call_module")
        with model.graph.inserting_before(node):
            axes = model.graph.call_function(torch.tensor, ([1],))
        node.args = (*node.args, axes)
        model.recompile()
    with pytest.raises(ValueError, match=message):
        make_plain(model, torch.randn(1, 3, 4, 4))


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_becomes_what_onnx_runtime_computes():
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx2torch", reason="onnx2torch is not installed")
    content = onnx.parser.parse_model("""
        <ir_version: 7, opset_import: ["" : 12]>
        net (float[n, 3, h, w] image) => (float[n, k, 3] rows) {
            both = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()
            none = Constant <value = float[0] {}> ()
            large = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
                            nearest_mode = "floor"> (image, none, both)
            same = Identity (large)
            sizes = Shape (same)
            first = Constant <value = int64[1] {0}> ()
            second = Constant <value = int64[1] {1}> ()
            count = Slice (sizes, first, second, first)
            rest = Constant <value = int64[2] {-1, 3}> ()
            shape = Concat <axis = 0> (count, rest)
            last = Transpose <perm = [0, 2, 3, 1]> (same)
            rows = Reshape (last, shape)
        }
    """).SerializeToString()
    images = torch.randn(3, 3, 4, 6)
    model = to_torch(fold(content, (1, 3, 4, 6)), images[:1])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": images.numpy()})[0]
    assert torch.equal(model(images), torch.from_numpy(expected))
    assert expected.shape == (3, 96, 3)
    repq_fx.trace(model, images)


def test_the_overlap_of_maps():
    reference = torch.tensor([0.9, 0.4, 0.1, 0.2])
    outputs = torch.tensor([0.9, 0.2, 0.1, 0.6])
    assert quality("map", reference, outputs)["map_iou"] == pytest.approx(1 / 3)
    assert quality("map", torch.zeros(4), torch.zeros(4))["map_iou"] == 1.0


def test_the_agreement_of_every_time_step():
    reference = torch.eye(4).reshape(1, 4, 4).repeat(2, 1, 1)
    outputs = reference.clone()
    outputs[1, 3] = torch.tensor([1.0, 0.0, 0.0, 0.5])
    assert quality("classes", reference, outputs)["agreement_percent"] == 87.5
    assert quality("classes", reference[0], outputs[1])["agreement_percent"] == 75.0
    assert quality("", reference, outputs).keys() == {"sqnr_db"}


def test_pixels_are_blue_first_and_normalized():
    red = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    red[..., 0] = 255
    network = TextNetwork("", "", lambda _: red, (1.0, 2.0, 5.0), (1.0, 2.0, 50.0))
    images = network.images(Sources(Path(), Path(), Path()))
    assert images.shape == (1, 3, 2, 2)
    assert images[0, :, 0, 0].tolist() == [-1.0, -1.0, 5.0]


def test_a_wheel_is_downloaded_once(tmp_path, monkeypatch):
    commands = []

    def download(command, **options):
        commands.append(command)
        Path(tmp_path, "a_name-1.0-py3-none-any.whl").touch()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(text_networks_data.subprocess, "run", download)
    sources = Sources(tmp_path, tmp_path, tmp_path)
    for _ in range(2):
        assert sources.wheel("a-name==1.0").name == "a_name-1.0-py3-none-any.whl"
    assert len(commands) == 1
    assert commands[0][-1] == "a-name==1.0"


def test_a_wheel_that_cannot_be_had(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "looking\nno matching distribution\n")
    monkeypatch.setattr(text_networks_data.subprocess, "run", lambda *_, **__: failed)
    sources = Sources(tmp_path, tmp_path, tmp_path)
    with pytest.raises(UnavailableError, match=r"a-name==1\.0: no matching distribution"):
        sources.wheel("a-name==1.0")


@needs_fonts
def test_pictures_are_the_same_each_time_and_have_text(tmp_path, monkeypatch):
    monkeypatch.setattr(text_networks_data, "CALIBRATION_IMAGES", 2)
    monkeypatch.setattr(text_networks_data, "JUDGES", 1)
    (tmp_path / "train").mkdir()
    sources = Sources(tmp_path, FONTS, tmp_path)
    with pytest.raises(UnavailableError, match="has 0 of"):
        scenes(sources, 64)
    for index in range(3):
        Image.new("RGB", (40, 30)).save(tmp_path / "train" / f"{index}.jpg")
    pictures = scenes(sources, 64)
    assert pictures.shape == (3, 64, 64, 3)
    assert (pictures.reshape(3, -1).max(1) > 0).all()
    assert np.array_equal(pictures, scenes(sources, 64))
    straight, turned = (lines(sources, 96, turned=turned) for turned in (False, True))
    assert np.array_equal(turned[0], straight[0])
    assert np.array_equal(turned[1], straight[1, ::-1, ::-1])


def test_rows_come_back_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text_networks, "RESULT", tmp_path / "rows.json")
    assert text_networks.measured_before() == []
    rows = [Row("net", form="FP32", sqnr_db=20.0, latency_ms=LatencyStatistics(1.0, 2.0, 3.0)),
            Row("net", form="INT8", problem="no")]  # fmt: skip
    report = Report("", COLUMNS, rows)
    write(report, text_networks.RESULT)
    assert Report("", COLUMNS, text_networks.measured_before()).entries() == report.entries()


def test_every_network_is_an_onnx_file_of_a_pinned_wheel():
    for network in NETWORKS.values():
        assert network.wheel.count("==") == 1
        assert network.member.endswith(".onnx")
