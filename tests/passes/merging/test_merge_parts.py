import copy

import pytest
import torch
from torch import nn

from repq_fx.errors import RepqError, TraceError
from repq_fx.nn import RepVGGBlock
from repq_fx.passes import find_regions, merge_graph, reparameterize, trace


class Head(nn.Module):
    """A forward that depends on values, as the decoding of detections does."""

    def __init__(self):
        super().__init__()
        self.block = RepVGGBlock(4, 4)

    def forward(self, x):
        y = self.block(x)
        return y if float(y.mean()) > -1e9 else y * 0


class Detector(nn.Module):
    """A body that can be traced, called by a head that cannot."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(RepVGGBlock(3, 4), RepVGGBlock(4, 4))
        self.head = Head()

    def forward(self, x):
        features = self.body(x)
        return {"features": features, "boxes": self.head(features)}


IMAGE = torch.randn(1, 3, 8, 8, dtype=torch.float64)


@pytest.fixture
def detector(randomize_batch_norm):
    return randomize_batch_norm(Detector()).double().eval()


def assert_same(merged, model):
    with torch.no_grad():
        for image in (IMAGE, torch.randn(3, 3, 9, 7, dtype=torch.float64)):
            known, found = model(image), merged(image)
            torch.testing.assert_close(found, known, rtol=1e-9, atol=1e-9)


def test_parts_of_a_model_that_cannot_be_traced(detector, convs_of):
    before = copy.deepcopy(detector.state_dict())
    merged = reparameterize(detector, IMAGE)
    assert type(merged) is Detector
    assert convs_of(merged) == ["body.0.reparam_conv", "body.1.reparam_conv",
                                "head.block.reparam_conv"]  # fmt: skip
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())
    assert not any(module._forward_pre_hooks for module in merged.modules())
    assert_same(merged, detector)


def test_regions_of_parts_have_the_names_of_the_model(detector):
    names = [region.name for region in find_regions(detector, IMAGE)]
    assert names == ["body.0.reparam_conv", "body.1.reparam_conv", "head.block.reparam_conv"]


@pytest.mark.parametrize("leaf", ["head", Head], ids=["name", "type"])
def test_head_as_a_leaf(detector, convs_of, leaf):
    merged = merge_graph(detector, IMAGE, leaves=[leaf])
    assert convs_of(merged)[:2] == ["body.0.reparam_conv", "body.1.reparam_conv"]
    assert isinstance(merged.head, Head)
    assert_same(merged, detector)


class Bordered(nn.Module):
    """A block that pads by assignment to items, which a proxy does not know."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 3)

    def forward(self, x):
        padded = nn.functional.pad(self.first(x), (1, 1, 1, 1))
        border = self.first.bias.view(1, -1, 1, 1)
        padded[:, :, :1], padded[:, :, -1:] = border, border
        padded[..., :1], padded[..., -1:] = border, border
        return self.second(padded) + x


def test_a_part_that_only_export_knows_beside_a_leaf(detector, convs_of):
    detector.body[1] = Bordered().double().eval()
    merged = merge_graph(detector, IMAGE, leaves=["head"])
    assert convs_of(merged)[:2] == ["body.0.reparam_conv", "body.1.reparam_conv"]
    assert isinstance(merged.head, Head)
    assert_same(merged, detector)


def test_what_asks_for_the_class_of_a_part_is_not_taken_for_rounding(randomize_batch_norm):
    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = RepVGGBlock(3, 3)

        def forward(self, x):
            y = self.body(x) * (1 if isinstance(self.body, RepVGGBlock) else 3)
            return y if float(y.mean()) > -1e9 else y * 0

    model = randomize_batch_norm(Asks()).eval()
    with pytest.raises(RepqError, match=r"Or: What calls a merged part asks for .* its class"):
        reparameterize(model, IMAGE.float())


@pytest.mark.parametrize("leaf", ["body.0", RepVGGBlock], ids=["name", "type"])
def test_leaf_in_a_part(detector, convs_of, leaf):
    merged = reparameterize(detector, IMAGE, leaves=[leaf])
    assert isinstance(merged.get_submodule("body.0"), RepVGGBlock)
    is_named = isinstance(leaf, str)
    assert ("body.1.reparam_conv" in convs_of(merged)) == is_named
    assert_same(merged, detector)


def test_whole_graph_is_refused(detector):
    with pytest.raises(TraceError, match=r"Symbolic tracing: .*'head'.*torch.export: .*'head'"):
        merge_graph(detector, IMAGE)


def test_unknown_leaf_is_named(detector):
    with pytest.raises(ValueError, match="Detector has no module 'neck' to keep as a leaf"):
        trace(detector, IMAGE, leaves=["neck"])


def test_part_called_with_two_shapes_is_taken_apart(randomize_batch_norm, convs_of):
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Sequential(RepVGGBlock(3, 3), RepVGGBlock(3, 3))
            self.own = RepVGGBlock(3, 3)

        def forward(self, x):
            if float(x.std()) < 0:
                return x
            return self.shared(x).mean() + self.shared(x[:, :, ::2]).mean() + self.own(x).mean()

    model = randomize_batch_norm(Pyramid()).double().eval()
    merged = reparameterize(model, IMAGE)
    assert "own.reparam_conv" in convs_of(merged)
    assert len(convs_of(merged)) == 5
    assert_same(merged, model)


def test_nothing_that_can_be_traced():
    class Opaque(nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(TraceError, match="Cannot trace Opaque"):
        reparameterize(Opaque().eval(), IMAGE)
