"""Parts of a model may have any name, also one that is no code and that no file holds."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import repq_fx
from repq_fx.passes.tracing.exported import export_trace

IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
NAMES = ["class", "None", "layer-1", "a b", "é", "__x", "\n", "'", " ", "self", "torch"]


class Net(nn.Module):
    """Layers, a parameter and a buffer of a name."""

    def __init__(self, name):
        super().__init__()
        self.convs = nn.ModuleDict({name: nn.Conv2d(3, 4, 3), "a_b": nn.Conv2d(3, 4, 1)})
        self.norms = nn.ModuleDict({name: nn.ModuleDict({"in": nn.BatchNorm2d(4)})})
        self.scales = nn.ParameterDict({name: nn.Parameter(torch.randn(4, 1, 1))})
        self.name = name
        self.register_buffer("from", torch.randn(4, 1, 1))

    def forward(self, image):
        y = self.norms[self.name]["in"](self.convs[self.name](image))
        y = y * self.scales[self.name] + getattr(self, "from")
        return y + self.convs["a_b"](image)[:, :, 1:-1, 1:-1]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_is_traced_merged_quantized_and_saved(name, tmp_path):
    model = Net(name).eval()
    merged = repq_fx.reparameterize(model.double(), IMAGE.double())
    torch.testing.assert_close(merged(IMAGE.double()), model(IMAGE.double()))
    assert model.convs.keys() == {name, "a_b"}
    quantized = repq_fx.quantize(model.float(), IMAGE, progress=False)
    repq_fx.save(quantized, tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(IMAGE), quantized(IMAGE))


@pytest.mark.parametrize("name", ["graph", "code", "meta", "recompile", "_graph"])
def test_a_layer_may_be_called_like_a_part_of_a_graph_module(name):
    inner = nn.Sequential(OrderedDict({name: nn.Conv2d(4, 4, 1)}))
    model = nn.Sequential(OrderedDict({name: nn.Conv2d(3, 4, 3), "inner": inner})).eval()
    traced = repq_fx.trace(model, IMAGE)
    torch.testing.assert_close(traced(IMAGE), model(IMAGE))
    assert isinstance(traced.get_submodule(f"inner.{name}"), nn.Conv2d)


@pytest.mark.parametrize("name", ["layer-1", "a b", "é", "self"])
def test_torch_export_may_see_most_names(name, tmp_path):
    layers = OrderedDict(
        {name: nn.Conv2d(3, 4, 3), "a_b": nn.ReLU(), "layer_1": nn.Conv2d(4, 4, 1)}
    )
    model = nn.Sequential(layers).eval()
    exported = export_trace(model, (IMAGE,))
    torch.testing.assert_close(exported(IMAGE), model(IMAGE))
    repq_fx.save(exported, tmp_path / "model.repq")


texts = st.text(st.characters(exclude_characters="."), min_size=1) | st.sampled_from(NAMES)


@settings(max_examples=25)
@given(
    st.lists(st.text(st.characters(exclude_characters="."), min_size=1), unique=True, min_size=1)
)
def test_names_that_become_alike_stay_apart(names):
    usable = [name for name in names if not hasattr(nn.Sequential(), name)]
    model = nn.Sequential().eval()
    for name in usable:
        model.add_module(name, nn.Conv2d(3, 3, 1).eval())
    traced = repq_fx.trace(model, IMAGE)
    torch.testing.assert_close(traced(IMAGE), model(IMAGE))
