"""Files of quantized models: exact round trip, nothing to execute, clear refusals."""

import errno
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import repq_fx
from repq_fx import FileFormatError
from repq_fx.export.saved_model import without_repeats
from repq_fx.models import fashion_repvgg
from tests.export.model_files import edited

IMAGES = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
FEATURES = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["reference", "int8"])
def quantized(request):
    torch.manual_seed(0)
    model = fashion_repvgg().eval()
    return repq_fx.quantize(model, IMAGES, backend=request.param, progress=False)


@pytest.fixture
def file(quantized, tmp_path):
    path = tmp_path / "model.repq"
    repq_fx.save(quantized, path)
    return path


def test_round_trip_is_exact(quantized, file):
    loaded = repq_fx.load(file)
    assert torch.equal(loaded(IMAGES), quantized(IMAGES))
    assert not loaded.training
    assert {name for name, _ in loaded.named_modules()} == {
        name for name, _ in quantized.named_modules()
    }


def test_a_loaded_model_can_be_saved_again(file, tmp_path):
    again = tmp_path / "again.repq"
    repq_fx.save(repq_fx.load(file), again)
    assert again.read_bytes() == file.read_bytes()


def test_weights_are_stored_as_eight_bit_integers(file):
    float_bytes = sum(p.numel() for p in fashion_repvgg().parameters()) * 4
    assert file.stat().st_size < 0.4 * float_bytes


def test_nothing_in_the_file_is_pickled(file):
    assert b"torch._utils" not in file.read_bytes()
    assert not file.read_bytes().startswith(b"PK")


def innermost(header):
    """The graph of the program of a lowered network, or the whole graph."""
    program = header["layers"].get("program")
    return header if program is None else program["program"]


def call(target):
    def change(header):
        node = next(n for n in innermost(header)["nodes"] if n["op"].startswith("call"))
        node.update(op="call_function", target=target)

    return change


def reach_globals(header):
    node = next(n for n in innermost(header)["nodes"] if n["op"].startswith("call"))
    node.update(op="call_method", target="__reduce__")


def unknown_layer(header):
    next(iter(innermost(header)["layers"].values()))["type"] = "Popen"


def replaced_internal(header):
    next(iter(innermost(header)["layers"].values()))["attributes"]["_forward_hooks"] = 1


def newer(header):
    header["version"] = 999


def foreign(header):
    header["key"] = "other"


def no_nodes(header):
    del header["nodes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (call("os.system"), "calls 'os.system', which is not allowed"),
        (call("torch.load"), "calls 'torch.load', which is not allowed"),
        (call("torch.from_file"), "calls 'torch.from_file', which is not allowed"),
        (call("builtins.eval"), "not allowed"),
        (call("aten.set_.source_Tensor"), "not allowed"),
        (reach_globals, "method '__reduce__', which is not allowed"),
        (unknown_layer, "unknown type 'Popen'"),
        (replaced_internal, "reserved attribute '_forward_hooks'"),
        (newer, "format version 999, newer than 3"),
        (foreign, "was not written by repq_fx.save"),
        (no_nodes, "is damaged"),
    ],
    ids=["os", "load", "file", "eval", "aten", "method", "layer", "internal", "newer", "foreign",
         "nodes"],
)  # fmt: skip
def test_tampered_files_are_refused(change, message, file):
    edited(file, change)
    with pytest.raises(FileFormatError, match=message):
        repq_fx.load(file)


@pytest.mark.parametrize("kept", [0, 4, 100, -1], ids=["empty", "length", "header", "last-byte"])
def test_truncated_files_are_refused(kept, file):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(FileFormatError, match="truncated or not a safetensors file"):
        repq_fx.load(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"there is no file '.*missing\.repq'"):
        repq_fx.load(tmp_path / "missing.repq")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileFormatError, match="is no regular file"):
            repq_fx.load(path)


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "model.repq"
    path.write_bytes(b"")

    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(FileFormatError, match=r"model\.repq' cannot be read: Permission denied"):
        repq_fx.load(path)


def test_an_unwritable_path_is_refused_and_leaves_nothing(quantized, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        repq_fx.save(quantized, tmp_path / "nowhere" / "model.repq")
    assert list(tmp_path.iterdir()) == []


class Attentive(nn.Module):
    """A layer with a layer inside, and a position embedding of any length."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens):
        tokens = tokens + torch.arange(tokens.shape[1]).unsqueeze(1)
        return self.attention(tokens, tokens, tokens)[0]


@pytest.fixture
def attentive(tmp_path):
    torch.manual_seed(0)
    model = repq_fx.trace(Attentive().eval(), torch.randn(1, 4, 8))
    repq_fx.save(model, tmp_path / "model.repq")
    return model, tmp_path / "model.repq"


def test_round_trip_of_layers_inside_layers(attentive):
    model, path = attentive
    tokens = torch.randn(2, 6, 8)
    assert torch.equal(repq_fx.load(path)(tokens), model(tokens))


def test_tampered_layers_inside_layers_are_refused(attentive):
    def make_unknown(header):
        header["layers"]["attention"]["layers"]["out_proj"]["type"] = "Popen"

    edited(attentive[1], make_unknown)
    with pytest.raises(
        FileFormatError, match=r"'attention\.out_proj' has the unknown type 'Popen'"
    ):
        repq_fx.load(attentive[1])


class Custom(nn.Module):
    def forward(self, image):
        return image


@pytest.mark.parametrize(
    ("layer", "name"), [(Custom(), "0"), (nn.Sequential(nn.ReLU(), Custom()), r"0\.1")]
)
def test_layers_of_other_packages_are_refused_by_name(layer, name, tmp_path):
    tracer = torch.fx.Tracer()
    tracer.is_leaf_module = lambda *_: True
    model = nn.Sequential(layer)
    graph_module = torch.fx.GraphModule(model, tracer.trace(model))
    with pytest.raises(FileFormatError, match=f"layer '{name}' is a Custom"):
        repq_fx.save(graph_module, tmp_path / "model.repq")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_graph_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="what convert or quantize returned, got Linear"):
        repq_fx.save(nn.Linear(1, 1), tmp_path / "model.repq")


def test_a_loaded_model_does_not_depend_on_its_file(quantized, file):
    loaded = repq_fx.load(file)
    file.write_bytes(bytes(file.stat().st_size))  # In place: a map of it would change.
    assert torch.equal(loaded(IMAGES), quantized(IMAGES))
    file.write_bytes(b"")
    assert torch.equal(loaded(IMAGES), quantized(IMAGES))


def shallow(header):
    header["nodes"] = header["layers"] = 3


def deep(header):
    value = []
    for _ in range(400):
        value = [value]
    header["nodes"][-1]["args"] = {"tuple": [value]}


def unknown_surroundings(header):
    header["surroundings"] = {"kind": 3}


def repeats_of_nothing(header):
    header["repeats"] = {"a": "b"}


def version_as_text(header):
    header["version"] = "3"


@pytest.mark.parametrize(
    "change", [shallow, deep, unknown_surroundings, repeats_of_nothing, version_as_text]
)
def test_whatever_is_wrong_in_a_file_is_one_sentence(change, file):
    edited(file, change)
    with pytest.raises(FileFormatError, match=r"^load: '.*' is damaged: [^\n]+$"):
        repq_fx.load(file)


@pytest.mark.parametrize("text", ["[" * 10**5, "3", "null", "{", '{"version": 1e999}'])
def test_headers_that_are_no_object_are_refused(text, file):
    save_file(load_file(file), file, {"repq_fx": text})
    with pytest.raises(FileFormatError, match=r"^load: '.*' is damaged: [^\n]+$"):
        repq_fx.load(file)


class Numbered(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        y = self.conv(x)
        return {0: y, "half": [y / 2], 7: {1: y + 1}}


def test_dictionaries_with_numbers_as_keys_keep_them(tmp_path):
    quantized = repq_fx.quantize(Numbered().eval(), IMAGES, progress=False)
    repq_fx.save(quantized, tmp_path / "model.repq")
    expected, found = quantized(IMAGES), repq_fx.load(tmp_path / "model.repq")(IMAGES)
    assert list(found) == [0, "half", 7]
    assert torch.equal(found[7][1], expected[7][1])


@pytest.mark.parametrize(
    "key", [["x"], {}, 1.5, None, True, {"node": "x"}], ids=lambda key: type(key).__name__
)
def test_other_keys_are_refused(key, tmp_path):
    path = tmp_path / "model.repq"
    repq_fx.save(repq_fx.quantize(Numbered().eval(), IMAGES, progress=False), path)

    def forge(header):
        header["nodes"][-1]["args"] = {"tuple": [{"items": [[key, 1]]}]}

    edited(path, forge)
    with pytest.raises(FileFormatError, match="is no key with its value"):
        repq_fx.load(path)


class Twice(nn.Module):
    """One convolution, called twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(torch.relu(self.conv(x)))


def test_a_layer_called_twice_is_stored_once_when_lowered(tmp_path):
    torch.manual_seed(0)
    quantized = repq_fx.quantize(Twice().eval(), [FEATURES], progress=False)
    repq_fx.save(quantized, tmp_path / "model.repq")
    loaded = repq_fx.load(tmp_path / "model.repq")
    assert torch.equal(loaded(FEATURES), quantized(FEATURES))
    repq_fx.save(loaded, tmp_path / "again.repq")
    assert (tmp_path / "again.repq").read_bytes() == (tmp_path / "model.repq").read_bytes()
    for model in (quantized, loaded):
        weights = [value for name, value in model.named_buffers(remove_duplicate=False)
                   if name.endswith("conv.weight") or value.shape == (4, 4, 3, 3)]  # fmt: skip
        assert len({weight.data_ptr() for weight in weights}) == 1


def test_parts_of_one_tensor_are_stored_apart():
    whole = torch.arange(6.0).reshape(2, 3)
    tensors = {"whole": whole, "same": whole.view(2, 3), "row": whole[0], "turned": whole.t(),
               "none": whole[:0], "nothing": whole[:0]}  # fmt: skip
    stored, repeats = without_repeats(tensors)
    assert repeats == {"same": "whole"}
    assert stored.keys() == {"whole", "row", "turned", "none", "nothing"}
    assert len({stored[name].data_ptr() for name in ("whole", "row", "turned")}) == 3
    for name, tensor in stored.items():
        assert torch.equal(tensor, tensors[name])
        assert tensor.is_contiguous()
