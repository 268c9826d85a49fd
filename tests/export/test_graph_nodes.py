"""Nothing that a file says reaches generated code unchecked, in the graph and inside programs."""

import operator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx import Graph, GraphModule

import repq_fx
from repq_fx import FileFormatError
from repq_fx.export.graph_nodes import decode_graph, encode_node
from tests.export.model_files import edited

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """A program between operations that remain, a method, and a tensor that is read."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("shift", torch.ones(6))  # Along columns.

    def forward(self, x):
        return torch.logcumsumexp(self.conv(x), 1).add(self.shift).cumsum(dim=1)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("saved") / "model.repq"
    repq_fx.save(repq_fx.quantize(Small().eval(), [IMAGES], progress=False), path)
    return path.read_bytes()


@pytest.fixture
def file(content, tmp_path):
    path = tmp_path / "model.repq"
    path.write_bytes(content)
    return path


def node_of(graph, operation):
    return next(node for node in graph["nodes"] if node["op"] == operation)


def program_of(header):
    return next(layer for layer in header["layers"].values() if "program" in layer)["program"]


def set_on(operation, key):
    def change(graph, text):
        node_of(graph, operation)[key] = text

    return change


def set_keyword(operation):
    def change(graph, text):
        node_of(graph, operation)["kwargs"]["dict"] = {text: 1}

    return change


def rename_layer(graph, text):
    node = node_of(graph, "call_module")
    graph["layers"] = {(text if k == node["target"] else k): v for k, v in graph["layers"].items()}
    node["target"] = text


PLACES = {
    "input": set_on("placeholder", "target"),
    "input-name": set_on("placeholder", "name"),
    "node-name": set_on("call_module", "name"),
    "keyword": set_keyword("call_module"),
    "layer": rename_layer,
    "output-name": set_on("output", "name"),
}
OUTSIDE = {
    "method": set_on("call_method", "target"),
    "function": set_on("call_function", "target"),
    "method-keyword": set_keyword("call_method"),
    "tensor": set_on("get_attr", "target"),
}
CASES = [(place, inside) for place in PLACES for inside in (False, True)]
CASES += [(place, False) for place in OUTSIDE]


@pytest.mark.parametrize(
    "text",
    [
        "x=__import__('os').system('touch PWNED')",
        "a=__import__('os').mkdir('PWNED'),b",
        'a") or __import__("os").mkdir("PWNED") or ("',
        "x\n    import os; os.mkdir('PWNED')\n    y",
        "a b", "", "é", "__class__", "a.__class__", "a..b", ".".join("a" * 10**5),
    ],
    ids=["default", "keyword", "quotes", "lines", "space", "empty", "accent", "dunder", "path",
         "dots", "deep"],
)  # fmt: skip
@pytest.mark.parametrize(("place", "inside"), CASES, ids=str)
def test_only_plain_names_are_taken(place, inside, text, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def change(header):
        (PLACES | OUTSIDE)[place](program_of(header) if inside else header, text)

    edited(file, change)
    with pytest.raises(FileFormatError, match=r"^load: '.*' is damaged: .*"):
        repq_fx.load(file)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["torch", "inf", "device", "getattr", "self", "class", "None"])
def test_an_input_cannot_shadow_what_the_code_needs(name, file):
    edited(file, lambda header: node_of(header, "placeholder").update(target=name))
    with pytest.raises(FileFormatError, match=r"name that the code|not a plain name"):
        repq_fx.load(file)


def test_an_input_may_have_the_name_of_a_builtin(tmp_path):
    graph = Graph()
    graph.output(graph.call_method("relu", (graph.placeholder("input"),)))
    repq_fx.save(GraphModule(nn.Module(), graph), tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(input=IMAGES), IMAGES.relu())


def twice(graph):
    graph["nodes"].insert(0, {**node_of(graph, "placeholder"), "name": "other"})


def same_name(graph):
    graph["nodes"][1]["name"] = graph["nodes"][0]["name"]


def early_output(graph):
    graph["nodes"].insert(1, graph["nodes"].pop())


def two_outputs(graph):
    graph["nodes"].append(graph["nodes"][-1])


def no_output(graph):
    graph["nodes"].pop()


def default_of_a_node(graph):
    first = graph["nodes"][0]["name"]
    graph["nodes"].insert(
        1,
        {"op": "placeholder", "name": "y", "target": "y", "args": {"tuple": [{"node": first}]},
         "kwargs": {"dict": {}}},
    )  # fmt: skip


def unknown_operation(graph):
    graph["nodes"][1]["op"] = "call_anything"


def method_of_a_string(graph):
    node_of(graph, "call_method")["args"]["tuple"][0] = "text"


def arguments_as_a_list(graph):
    node_of(graph, "call_module")["args"] = []


def setting_as_an_argument(graph):
    node_of(graph, "call_method")["args"]["tuple"][0] = {"choice": ["Activation", "none"]}


def any_attribute(graph):
    node = node_of(graph, "call_function")
    node["target"], node["args"]["tuple"] = "getattr", [{"node": "x"}, "__class__"]


def three_operands(graph):
    node = node_of(graph, "call_function")
    node["target"], node["args"]["tuple"] = "operator.add", [1, 2, 3]


def device_with_code(graph):
    node_of(graph, "call_method")["kwargs"]["dict"]["min"] = {"device": "cpu')+exit()"}


def constant_of_torch(graph):
    node_of(graph, "call_method")["kwargs"]["dict"]["min"] = {"torch": "load"}


def later_node(graph):
    graph["nodes"][1]["args"]["tuple"] = [{"node": graph["nodes"][-2]["name"]}]


def number_as_a_name(graph):
    graph["nodes"][1]["target"] = 7


def nodes_as_an_object(graph):
    graph["nodes"] = {}


@pytest.mark.parametrize(
    "change",
    [twice, same_name, early_output, two_outputs, no_output, default_of_a_node, unknown_operation,
     method_of_a_string, arguments_as_a_list, setting_as_an_argument, any_attribute, three_operands,
     device_with_code, constant_of_torch, later_node, number_as_a_name, nodes_as_an_object],
)  # fmt: skip
def test_malformed_graphs_are_refused(change, file):
    edited(file, change)
    with pytest.raises(FileFormatError, match=r"^load: '.*' is damaged: .*\.$"):
        repq_fx.load(file)


def method_in_a_program(header):
    node_of(program_of(header), "call_module").update(op="call_method", target="relu")


def layer_in_a_program(header):
    program = program_of(header)
    program["layers"][node_of(program, "call_module")["target"]] = {
        "type": "ReLU", "attributes": {"inplace": False}, "parameters": {}, "buffers": {},
    }  # fmt: skip


@pytest.mark.parametrize("change", [method_in_a_program, layer_in_a_program])
def test_a_program_holds_instructions_only(change, file):
    edited(file, change)
    with pytest.raises(FileFormatError, match=r"in the program '.*' is not an instruction"):
        repq_fx.load(file)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from([torch.half, torch.strided, torch.channels_last, torch.device("cpu"), ...]),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(), inner, max_size=3) | st.builds(slice, inner, inner, inner),
    max_leaves=6,
)  # fmt: skip


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_any_plain_argument_comes_back_as_it_was(value):
    graph = Graph()
    graph.output((graph.placeholder("x"), value))
    entries = [encode_node(node) for node in graph.nodes]
    again = decode_graph(entries, ())
    assert [encode_node(node) for node in again.nodes] == entries
    found = GraphModule(nn.Module(), again)(IMAGES)
    assert found == (IMAGES, list(again.output_node().args[0])[1])


def hard_swish(x):
    return F.hardswish(x)


def comparison(x):
    return (x > 0) & (x.mT <= 1) | operator.ne(x, 2)


@pytest.mark.parametrize("function", [hard_swish, comparison])
def test_functions_by_rule_come_back(function, tmp_path):
    model = torch.fx.symbolic_trace(function)
    repq_fx.save(model, tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(IMAGES), function(IMAGES))
