"""What cannot be stored is known before the work."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import repq_fx
from repq_fx.export import unstorable

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Pair = namedtuple("Pair", ["first", "second"])


class Doubled(nn.Module):
    def forward(self, x):
        return x * 2


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.odd = Doubled()

    def forward(self, x):
        y = self.odd(self.conv(x))
        return Pair(y, y)


def test_what_a_file_cannot_hold_is_named():
    merged = repq_fx.trace(Named().eval(), IMAGES, leaves=("odd",))
    layer, function = unstorable(merged)
    assert layer.startswith("layer 'odd' is a Doubled; only layers of torch.nn and repq_fx")
    assert layer.endswith("(node 'odd' of module 'odd')")
    assert function.startswith("function <class '")
    assert "Pair'> cannot be stored in a model file (node 'pair" in function
    with pytest.raises(repq_fx.FileFormatError, match="layer 'odd' is a Doubled"):
        repq_fx.save(merged, "nowhere")


class Ordered(Named):
    def forward(self, x):
        values = F.hardswish(self.conv(x)).flatten(2).max(-1)
        return OrderedDict(first=values.values, second=values.indices)


@pytest.mark.parametrize("backend", ["reference", "int8"])
def test_what_it_can_hold_it_holds(backend, tmp_path):
    model = Ordered().eval()
    assert unstorable(repq_fx.trace(model, IMAGES)) == []
    quantized = repq_fx.quantize(model, IMAGES, backend=backend, progress=False)
    assert unstorable(quantized) == []
    repq_fx.save(quantized, tmp_path / "model.repq")
    expected, found = quantized(IMAGES), repq_fx.load(tmp_path / "model.repq")(IMAGES)
    assert type(found) is type(expected)
    assert all(torch.equal(expected[name], found[name]) for name in ("first", "second"))


def test_quantize_says_so_before_it_calibrates(caplog):
    repq_fx.quantize(Named().eval(), IMAGES, leaves=("odd",), progress=False)
    (record,) = [each for each in caplog.records if "cannot be saved" in each.message]
    assert "layer 'odd' is a Doubled" in record.message
    assert "Pair" in record.message
