import torch
from torch import fx, nn

from repq_fx.passes.affine.views import affine_values, features_of
from repq_fx.passes.merging.plan_regions import plan_regions


class Chain(nn.Module):
    """A linear chain with a side output after a chosen layer."""

    def __init__(self, side):
        super().__init__()
        layers = (nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.BatchNorm2d(4))
        self.layers = nn.ModuleList(layers)
        self.side = side

    def forward(self, x):
        values = []
        for layer in self.layers:
            x = layer(x)
            values.append(x)
        return x, values[self.side].relu()


def plan(model, image):
    traced = fx.symbolic_trace(model.eval())
    before = str(traced.graph)
    features = features_of(traced, (image,))
    planned = plan_regions(features, affine_values(features), {})
    assert str(traced.graph) == before
    return [
        ([node.name for node in candidate.interior], candidate.source.node.name, candidate.reason)
        for candidate in planned
    ]


IMAGE = torch.randn(1, 4, 5, 5)
NODES = ["layers_0", "layers_1", "layers_2", "layers_3"]


def test_the_largest_region_wins():
    assert plan(Chain(side=3), IMAGE) == [(NODES, "x", None)]


def test_region_is_cut_where_a_value_escapes():
    assert plan(Chain(side=1), IMAGE) == [
        (NODES[:2], "x", None),
        (NODES, "x", "'layers_1' is also used by 'relu', outside"),
    ]


def test_refused_region_is_reported_once():
    assert plan(Chain(side=0), IMAGE) == [
        (NODES, "x", "'layers_0' is also used by 'relu', outside"),
    ]


def test_convolution_and_norm_alone_are_no_region():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    assert plan(model, IMAGE) == []


def test_nearest_common_source_of_a_residual():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.norm = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            y = self.before(x)
            return self.norm(self.conv(y)) + y

    assert plan(Residual(), IMAGE) == [(["conv", "norm", "add"], "before", None)]
