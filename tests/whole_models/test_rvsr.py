"""A super-resolution network against the merged weights that its authors publish."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.accuracy.rvsr import image_pair, psnr_of_luma
from benchmarks.accuracy.rvsr_network import RVSR, MergedMixer, Mixer
from repq_fx import reparameterize
from repq_fx.passes.graph.example import relative_error
from tests.real_models import conv_count, data_file, parameter_count


def load(mixer: type[nn.Module], file: str) -> nn.Module:
    state = torch.load(data_file(f"weights/{file}"), map_location="cpu", weights_only=True)
    model = RVSR(mixer)
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture
def baby() -> tuple[Tensor, Tensor]:
    """A low-resolution image and the high-resolution one that it was made of."""
    return image_pair(data_file("super_resolution/Set5/img_001.png"))


def test_networks_of_this_file_are_the_published_ones(baby):
    training = load(Mixer, "rvsr_x4_train.pt")
    authors = load(MergedMixer, "rvsr_x4_deploy_authors.pt")
    low, high = baby
    with torch.no_grad():
        assert relative_error(training(low), authors(low)) <= 1e-5
        assert psnr_of_luma(training(low), high) == pytest.approx(33.01, abs=0.01)


def test_rvsr_against_its_authors_merged_weights(baby):
    training = load(Mixer, "rvsr_x4_train.pt")
    authors = load(MergedMixer, "rvsr_x4_deploy_authors.pt")
    low, high = baby
    merged = reparameterize(training, low)
    assert conv_count(merged) <= conv_count(authors)
    assert parameter_count(merged) == parameter_count(authors)
    with torch.no_grad():
        expected, actual = authors(low), merged(low)
    assert relative_error(expected, actual) <= 1e-5
    assert psnr_of_luma(actual, high) == pytest.approx(psnr_of_luma(expected, high), abs=1e-3)
