from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from repq_fx import find_regions, reparameterize


class Values(NamedTuple):
    """What a conversion may read: the image, and what a layer made of it."""

    net: nn.Module
    x: Tensor
    y: Tensor


class Converted(nn.Module):
    """Two convolutions, the second behind a conversion of the first one's output."""

    def __init__(self, convert, before=lambda v: v.x):
        super().__init__()
        self.convert, self.before = convert, before
        self.first = nn.Conv2d(3, 4, 3, bias=False)
        self.norm, self.second = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.before(Values(self, x, x))
        y = self.norm(self.first(x))
        return torch.relu(self.second(self.convert(Values(self, x, y))))


SAME = {
    "type_as": lambda v: v.y.type_as(v.x),
    "to": lambda v: v.y.to(v.x),
    "dtype": lambda v: v.y.to(v.x.dtype),
    "keyword": lambda v: v.y.to(dtype=v.x.dtype, device=v.x.device),
    "device_and_dtype": lambda v: v.y.to(v.x.device, v.x.dtype),
    "itself": lambda v: (v.y * 2).type_as(v.y),
    "weight": lambda v: v.y.to(v.net.second.weight.dtype),
    "parameter": lambda v: v.y.type_as(v.net.second.weight),
}
OTHER = {
    "written_down": lambda v: v.y.to(torch.float32),
    "mean": lambda v: v.y.type_as(v.x.mean()),
    "copy": lambda v: v.y.to(v.x.dtype, copy=True),
}


@pytest.mark.parametrize("convert", SAME.values(), ids=SAME.keys())
def test_conversion_to_the_type_of_the_layers_is_looked_through(convert, merge_exactly):
    merged = merge_exactly(Converted(convert), torch.randn(2, 3, 6, 7))
    assert [str(node.target) for node in merged.graph.nodes][1] == "reparam_conv"
    assert sum(node.op == "call_module" for node in merged.graph.nodes) == 1


@pytest.mark.parametrize("convert", OTHER.values(), ids=OTHER.keys())
def test_other_conversions_end_a_region(convert):
    regions = find_regions(Converted(convert).eval(), torch.randn(2, 3, 6, 7))
    assert [region.convs for region in regions] == [1]


def test_conversion_to_the_type_of_a_table_stays():
    model = Converted(lambda v: v.y.to(v.net.table))
    model.register_buffer("table", torch.ones(2, dtype=torch.float64))
    model.second.double()
    image = torch.randn(2, 3, 6, 7)
    merged = reparameterize(model.eval(), image)
    torch.testing.assert_close(merged(image), model(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "before",
    [
        lambda v: v.x.to(v.net.first.weight.dtype),
        lambda v: v.x[:, :3].type_as(v.net.norm.weight),
        lambda v: v.x.float(),
    ],
    ids=["weight", "slice", "float"],
)
def test_image_of_another_type_is_still_converted(before):
    model = Converted(lambda v: v.y.to(v.x), before).eval()
    image = torch.randn(2, 3, 6, 7)
    merged = reparameterize(model, image)
    called = [n.target for n in merged.graph.nodes if n.op == "call_module"]
    assert called == ["reparam_conv"]
    half = image.half()
    torch.testing.assert_close(merged(half), model(half), rtol=1e-4, atol=1e-4)
