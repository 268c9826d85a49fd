"""Layers of a file: only the attributes that their type has, of the type they ought to be."""

import pytest
import torch
from torch import nn
from torch.fx import GraphModule, symbolic_trace

import repq_fx
from repq_fx import FileFormatError
from tests.export.model_files import edited

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def file(tmp_path):
    model = repq_fx.trace(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), IMAGES)
    repq_fx.save(model, tmp_path / "model.repq")
    return tmp_path / "model.repq"


@pytest.mark.parametrize("name", ["_modules", "_forward_hooks", "__class__", "__call__"])
def test_what_every_module_keeps_is_not_replaced(name, file):
    edited(file, lambda header: header["layers"]["0"]["attributes"].update({name: 1}))
    with pytest.raises(FileFormatError, match=f"layer '0' sets the reserved attribute '{name}'"):
        repq_fx.load(file)


@pytest.mark.parametrize(
    "name", ["forward", "eval", "_conv_forward", "type", "_call_impl", "_compiled_call_impl", "f"]
)
def test_attributes_that_the_type_does_not_have_are_left_out(name, file):
    expected = repq_fx.load(file)(IMAGES)
    edited(file, lambda header: header["layers"]["0"]["attributes"].update({name: 1}))
    loaded = repq_fx.load(file)
    assert name not in vars(loaded.get_submodule("0"))
    assert torch.equal(loaded(IMAGES), expected)


def test_what_others_noted_on_a_layer_is_not_stored(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    net[0].f = {1, 2}  # No plain data.
    net[0].type = "Conv"
    model = repq_fx.trace(net, IMAGES)
    repq_fx.save(model, tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(IMAGES), model(IMAGES))


def test_a_value_that_no_file_holds_is_named_on_one_line(tmp_path):
    net = nn.Sequential(nn.Upsample(size=torch.ones(9, 9).int())).eval()
    model = GraphModule(net, symbolic_trace(net).graph)
    with pytest.raises(FileFormatError) as refused:
        repq_fx.save(model, tmp_path / "model.repq")
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layer: layer.update(type=["Conv2d"]), r"'type' is \['Conv2d'\], not a str"),
        (lambda layer: layer.update(type="DataParallel"), "unknown type 'DataParallel'"),
        (lambda layer: layer.update(attributes=[]), r"'attributes' is \[\], not a dict"),
        (lambda layer: layer["attributes"].update(training=7), "'training' of layer '0' is 7"),
        (lambda layer: layer["parameters"].update({"a.b": True}), "tensor 'a.b' is not a plain"),
        (lambda layer: layer["buffers"].update(other=True), "tensor '0.other' is missing"),
        (lambda layer: layer["layers"].update({"a b": {}}), "the layer 'a b' is not a plain name"),
        (lambda layer: layer["layers"].update(a=3), "'type' is missing"),
    ],
    ids=["type", "parallel", "list", "training", "parameter", "buffer", "layer", "number"],
)
def test_malformed_layers_are_refused(change, message, file):
    edited(file, lambda header: change(header["layers"]["0"]))
    with pytest.raises(FileFormatError, match=f"is damaged: .*{message}"):
        repq_fx.load(file)


@pytest.mark.parametrize("name", ["_modules", "_parameters.x", "0.__dict__"])
def test_no_layer_takes_the_place_of_what_modules_have(name, file):
    def change(header):
        header["layers"][name] = header["layers"]["0"]

    edited(file, change)
    with pytest.raises(FileFormatError, match=r"reserved name|not a plain name"):
        repq_fx.load(file)


@pytest.mark.parametrize(
    ("field", "value"),
    [("zero_point", "3"), ("zero_point", 1.5), ("scale", None), ("highest", True)],
)
def test_settings_are_of_the_declared_types(field, value, tmp_path):
    path = tmp_path / "model.repq"
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    repq_fx.save(repq_fx.quantize(model, [IMAGES], progress=False), path)

    def change(header):
        (program,) = (layer["program"] for layer in header["layers"].values())
        for layer in program["layers"].values():
            for attribute in layer["attributes"].values():
                if isinstance(attribute, dict) and "record" in attribute:
                    record = attribute["record"][1]["dict"]
                    grid = record.get("input", {"record": [None, {"dict": record}]})
                    grid["record"][1]["dict"][field] = value

    edited(path, change)
    # Either the grid or the record of it is the first to notice.
    message = rf"'{field}' of a LevelGrid|LevelGrid: expected .*({field}=)?{value!r}"
    with pytest.raises(FileFormatError, match=message):
        repq_fx.load(path)


def _forge_factor(path, numbers):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3)).eval()
    repq_fx.save(repq_fx.quantize(model, [IMAGES], progress=False), path)

    def change(header):
        (program,) = (layer["program"] for layer in header["layers"].values())
        record = program["layers"]["0"]["attributes"]["grids"]["record"][1]["dict"]
        record["epilogue"]["record"][1]["dict"]["factor"] = {"tuple": numbers}

    edited(path, change)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([], "as many factors as offsets, at least one"), ([1.0, float("nan")], "finite factor"),
        ([1.0, "a"], ""), ([None, 1.0], ""), ([True, 1.0], "'factor' of a Epilogue"),
        ([1.0, {"tuple": [1.0]}], ""),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_of_channels_are_numbers(numbers, message, tmp_path):
    _forge_factor(tmp_path / "model.repq", numbers)
    with pytest.raises(FileFormatError, match=f"is damaged.*{message}"):
        repq_fx.load(tmp_path / "model.repq")


def test_numbers_of_other_channels_are_refused(tmp_path):
    _forge_factor(tmp_path / "model.repq", [2.0, 1.0, 0.5, 1.0])
    repq_fx.load(tmp_path / "model.repq")(IMAGES)
    _forge_factor(tmp_path / "model.repq", [1.0] * 3)
    with pytest.raises(ValueError, match=r"factor|size"):
        repq_fx.load(tmp_path / "model.repq")(IMAGES)


@pytest.mark.parametrize("activation", ["relu", torch.nn.functional.gelu], ids=str)
def test_functions_that_a_layer_keeps_are_stored_by_name(activation, tmp_path):
    tokens = torch.randn(2, 5, 8)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=activation)
    quantized = repq_fx.quantize(
        nn.Sequential(nn.Linear(8, 8), layer).eval(), tokens, progress=False
    )
    repq_fx.save(quantized, tmp_path / "model.repq")
    with torch.no_grad():
        assert torch.equal(repq_fx.load(tmp_path / "model.repq")(tokens), quantized(tokens))


@pytest.mark.parametrize("name", ["os.system", "torch.load", "builtins.eval", 3])
def test_a_function_that_a_graph_may_not_call_no_layer_keeps(name, file):
    edited(
        file,
        lambda header: header["layers"]["0"]["attributes"].update(stride={"function": name}),
    )
    with pytest.raises(FileFormatError, match=r"not allowed in a model file|not a str"):
        repq_fx.load(file)


def test_what_a_layer_keeps_is_named_where_no_file_can_hold_it(tmp_path):
    layer = nn.Sequential(nn.Linear(8, 8)).eval()
    traced = repq_fx.trace(layer, torch.randn(2, 5, 8))
    traced.get_submodule("0").in_features = {8}
    expected = "'in_features' of the Linear '0' is a set, which cannot be stored in a model file."
    with pytest.raises(FileFormatError, match=f"^save: {expected}$"):
        repq_fx.save(traced, tmp_path / "model.repq")
