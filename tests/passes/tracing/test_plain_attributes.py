"""What a merged part answers to, and what a forward writes to its model."""

import copy
import logging
import pickle

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import RepqError
from repq_fx.nn import RepVGGBlock
from repq_fx.passes.tracing.trace import copy_of

IMAGE = torch.randn(1, 3, 6, 6)


class Numbered(RepVGGBlock):
    """A layer with attributes of its instance and its class."""

    stride_of_class = 4

    @property
    def shape(self):
        return 1


class Listed(nn.Module):
    """Layers that say what they read, called by a forward that cannot be traced."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Numbered(3, 4), Numbered(4, 4)])
        for index, layer in enumerate(self.layers):
            layer.f, layer.i, layer.stride_of_class = -1, index, 5 + index
            layer.tensors = [torch.ones(1)]

    def forward(self, x):
        for index, layer in enumerate(self.layers):
            if layer.f == -1 and layer.i == index and layer.stride_of_class > 4:
                x = layer(x)
        return x if float(x.detach().mean()) > -1e9 else x * 0


class Asks(Listed):
    """It asks for more of a layer than its attributes."""

    def forward(self, x):
        return super().forward(x) * self.layers[0].shape


@pytest.fixture
def listed(randomize_batch_norm):
    return randomize_batch_norm(Listed()).eval()


def test_a_merged_part_has_the_attributes_of_the_module_that_it_replaces(listed):
    merged = repq_fx.reparameterize(listed, IMAGE)
    for each in (merged, copy.deepcopy(merged), copy_of(merged)):
        assert [layer.f for layer in each.layers] == [-1, -1]
        assert [layer.i for layer in each.layers] == [0, 1]
        assert [layer.stride_of_class for layer in each.layers] == [5, 6]
        assert not hasattr(each.layers[0], "tensors")
        torch.testing.assert_close(each(IMAGE), listed(IMAGE), rtol=1e-4, atol=1e-4)
    assert len(repq_fx.find_regions(listed, IMAGE)) == 2


def test_they_survive_pickling(listed):
    layer = repq_fx.reparameterize(listed, IMAGE).layers[1]
    assert pickle.loads(pickle.dumps(layer)).i == 1


def test_a_part_of_which_more_is_asked_is_named_as_the_reason():
    with pytest.raises(RepqError, match=r"fails with: .*'shape'.* keep that part by `leaves`"):
        repq_fx.reparameterize(Asks().eval(), IMAGE)


class Writes(nn.Module):
    """It stores its mean anew in every forward, in the type of the image."""

    def __init__(self, *, is_buffer):
        super().__init__()
        mean = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
        if is_buffer:
            self.register_buffer("mean", mean)
        else:
            self.mean = mean
        self.block = RepVGGBlock(3, 4)

    def forward(self, x):
        self.mean = self.mean.type_as(x)
        self.last = [x - self.mean]
        return self.block(self.last[0])


@pytest.mark.parametrize("is_buffer", [True, False], ids=["buffer", "attribute"])
def test_a_forward_that_writes_to_its_model_is_traced(is_buffer, randomize_batch_norm):
    model = randomize_batch_norm(Writes(is_buffer=is_buffer)).eval()
    mean = model.mean
    merged = repq_fx.passes.merge_graph(model, IMAGE)
    assert model.mean is mean
    assert not hasattr(model, "last")
    assert [region.name for region in repq_fx.find_regions(model, IMAGE)] == ["block.reparam_conv"]
    other = torch.randn(3, 3, 9, 5)
    torch.testing.assert_close(merged(other), model(other), rtol=1e-4, atol=1e-4)


class Counts(nn.Module):
    """Its result depends on how often it was called before."""

    def __init__(self):
        super().__init__()
        self.register_buffer("level", torch.zeros(1))
        self.block = RepVGGBlock(3, 4)

    def forward(self, x):
        self.level = self.level + x.mean().abs() + 1
        return self.block(x) * self.level


def test_a_state_that_changes_results_is_kept(randomize_batch_norm):
    model = randomize_batch_norm(Counts()).eval()
    merged = repq_fx.reparameterize(model, IMAGE)
    assert type(merged) is Counts
    for _ in range(2):
        torch.testing.assert_close(merged(IMAGE), model(IMAGE), rtol=1e-4, atol=1e-4)


class Plain(nn.Module):
    """Nothing in it can be merged, and it cannot be traced as a whole."""

    def __init__(self):
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())

    def forward(self, x):
        return self.part(x) if float(x.mean()) > -1e9 else x


def test_a_model_of_which_nothing_is_merged_says_why(caplog):
    with caplog.at_level(logging.WARNING, "repq_fx"):
        repq_fx.reparameterize(Plain().eval(), IMAGE)
    assert "Nothing was merged in the parts of a model. Cannot trace Plain" in caplog.text
