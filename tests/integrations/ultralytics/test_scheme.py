"""What the ranges of a detector keep."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import Scheme
from repq_fx.integrations.ultralytics import as_detector_scheme, detector_scheme


@pytest.fixture(scope="module")
def rare():
    """Images of which one value in 20,000 is far from the others, as of a small object."""
    images = 0.1 * torch.rand(8, 1, 50, 50, generator=torch.Generator().manual_seed(0))
    images[0, 0, 20, 30] = 2.0
    return images


def largest(scheme, images):
    """What becomes of the rare value behind a layer that copies it."""
    copying = nn.Conv2d(1, 1, 1)
    copying.weight.data.fill_(1.0)
    copying.bias.data.zero_()
    quantized = repq_fx.quantize(copying.eval(), images, scheme=scheme, progress=False)
    with torch.no_grad():
        return quantized(images).max().item()


def test_at_eight_bits_rare_activations_are_kept(rare):
    assert largest(detector_scheme(), rare) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("bits", [8, 6])
def test_ranges_by_squared_error_cut_more_off(bits, rare):
    assert largest(Scheme(bits, bits), rare) < largest(detector_scheme(bits, bits), rare) - 0.05


def test_widths_are_those_asked_for():
    scheme = detector_scheme(4, 7)
    assert (scheme.weight_bits, scheme.activation_bits) == (4, 7)


def test_a_name_says_the_widths():
    assert as_detector_scheme("w8a8") == detector_scheme()
    assert as_detector_scheme("W4A6") == detector_scheme(4, 6)
    assert as_detector_scheme("vanilla") == Scheme.vanilla()
    assert as_detector_scheme(Scheme()) == Scheme()
