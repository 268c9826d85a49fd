"""What only moves values moves levels."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import MinMax, PerChannel, Scheme, api
from repq_fx.lowering.int8.instructions import Dequantize, Int8Program, Quantize

IMAGES = torch.randn(4, 3, 8, 6)
_SCHEME = Scheme.plain(8, 8, PerChannel(), MinMax())


class Tokens(nn.Module):
    """A depthwise convolution between two linear layers, as in PVT v2."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 16), nn.Linear(16, 5)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def forward(self, image):
        tokens = self.first(self.stem(image).flatten(2).transpose(1, 2))
        batch, _, channels = tokens.shape
        maps = tokens.transpose(1, 2).view(batch, channels, *image.shape[2:])
        return self.last(self.depthwise(maps).flatten(2).transpose(1, 2))


class ChannelsBehind(nn.Module):
    """Parts of the last axis, one of which a convolution reads, as in MambaOut."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 12), nn.Linear(12, 5)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, image):
        rows = self.first(self.stem(image).permute(0, 2, 3, 1).contiguous())
        gate, kept, mixed = torch.split(rows, (4, 4, 4), dim=-1)
        mixed = self.middle(mixed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.last(torch.cat((mixed, gate, kept), dim=-1))


class Squeezed(nn.Module):
    """Of one pixel for each image."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 12), nn.Conv2d(12, 5, 1)

    def forward(self, image):
        pooled = self.stem(image).mean((2, 3), keepdim=True)
        return self.last(self.first(pooled.squeeze(-1).squeeze(-1)).unsqueeze(-1).unsqueeze(-1))


def steps_of(lowered, kind):
    return [module for module in lowered.modules() if isinstance(module, kind)]


def converted(model):
    merged = repq_fx.reparameterize(model.eval(), IMAGES)
    prepared = api.prepare(merged, IMAGES, _SCHEME)
    repq_fx.calibrate(prepared, IMAGES, progress=False)
    return [repq_fx.convert(prepared, backend, progress=False) for backend in ("reference", "int8")]


@pytest.mark.parametrize("network", [Tokens, ChannelsBehind, Squeezed], ids=lambda n: n.__name__)
def test_levels_become_numbers_only_at_the_ends(network, tmp_path):
    reference, lowered = converted(network())
    assert len(steps_of(lowered, Quantize)) == 1
    assert not steps_of(lowered, Dequantize)
    assert steps_of(lowered, Int8Program)
    repq_fx.save(lowered, tmp_path / "model.repq")
    loaded = repq_fx.load(tmp_path / "model.repq")
    for images in (IMAGES, torch.randn(1, 3, 8, 6), torch.randn(3, 3, 5, 7)):
        with torch.no_grad():
            expected, result = reference(images), lowered(images)
        assert repq_fx.analysis.sqnr_db(expected, result) > 40
        assert torch.equal(loaded(images), result)


def test_what_moves_a_part_in_float_stays_in_float():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 1), nn.Linear(16, 5)

        def forward(self, image):
            maps = self.first(image)
            tokens = torch.cat([maps.flatten(2), maps.flatten(2).softmax(1)], 1).transpose(1, 2)
            return self.last(tokens)

    reference, lowered = converted(Net())
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(reference(IMAGES), lowered(IMAGES)) > 40


def test_a_view_of_another_type_is_one_of_numbers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)

        def forward(self, image):
            return self.last(self.first(image).view(torch.float32))

    reference, lowered = converted(Net())
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(reference(IMAGES), lowered(IMAGES)) > 40
