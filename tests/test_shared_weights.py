"""A super-resolution network against the merged weights that its authors publish."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from repq_fx import reparameterize
from repq_fx.passes.agreement import relative_error

from .real_models import conv_count, data_file, parameter_count


class Mixer(nn.Module):
    """Token mixer in training form: an identity, two convolutions and two chains of three."""

    def __init__(self, channels: int):
        super().__init__()
        self.expand_conv = nn.Conv2d(channels, 2 * channels, 1)
        self.fea_conv = nn.Conv2d(2 * channels, 2 * channels, 3)
        self.reduce_conv = nn.Conv2d(2 * channels, channels, 1)
        self.expand1_conv = nn.Conv2d(channels, 2 * channels, 1)
        self.fea1_conv = nn.Conv2d(2 * channels, 2 * channels, 3)
        self.reduce1_conv = nn.Conv2d(2 * channels, channels, 1)
        self.res_conv3x3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.res_conv1x1 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = pad_by(self.expand_conv(x), self.expand_conv.bias)
        second = pad_by(self.expand1_conv(x), self.expand1_conv.bias)
        return (
            self.reduce_conv(self.fea_conv(first))
            + self.reduce1_conv(self.fea1_conv(second))
            + self.res_conv3x3(x)
            + self.res_conv1x1(x)
            + x
        )


class MergedMixer(nn.Module):
    """Token mixer in the authors' merged form."""

    def __init__(self, channels: int):
        super().__init__()
        self.rep_conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.rep_conv(x)


def pad_by(x: Tensor, value: Tensor) -> Tensor:
    """A border of one pixel that holds `value` in each channel."""
    value = value.view(1, -1, 1, 1)
    padded = F.pad(x, (1, 1, 1, 1))
    padded[:, :, :1, :] = value
    padded[:, :, -1:, :] = value
    padded[:, :, :, :1] = value
    padded[:, :, :, -1:] = value
    return padded


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 2, 1)
        self.fc2 = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.fc2(self.fc1(mean).relu()).sigmoid()


class FeedForward(nn.Module):
    """Channel mixer, with its own input added."""

    def __init__(self, channels: int):
        super().__init__()
        self.ffn = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1), nn.GELU(), nn.Conv2d(2 * channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(x)


class Block(nn.Module):
    def __init__(self, channels: int, mixer: type[nn.Module]):
        super().__init__()
        self.token_mixer = mixer(channels)
        self.attn = Gate(channels)
        self.channel_mixer = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.attn(self.token_mixer(x)))


class RVSR(nn.Module):
    """Four times super-resolution with 16 channels and 8 blocks."""

    def __init__(self, mixer: type[nn.Module]):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1))
        self.body = nn.Sequential(*(Block(16, mixer) for _ in range(8)))
        self.tail = nn.Sequential(mixer(16), nn.Conv2d(16, 48, 1))

    def forward(self, image: Tensor) -> Tensor:
        features = self.head(image)
        residual = F.pixel_shuffle(self.tail(self.body(features) + features), 4)
        return residual + F.interpolate(image, scale_factor=4.0, mode="bilinear")


def load(mixer: type[nn.Module], file: str) -> nn.Module:
    state = torch.load(data_file(f"weights/{file}"), map_location="cpu", weights_only=True)
    model = RVSR(mixer)
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture
def baby() -> tuple[Tensor, Tensor]:
    """A low-resolution image and the high-resolution one that it was made of."""
    high = Image.open(data_file("super_resolution/Set5/img_001.png")).convert("RGB")
    width, height = (side // 4 * 4 for side in high.size)
    high = high.crop((0, 0, width, height))
    low = high.resize((width // 4, height // 4), Image.Resampling.BICUBIC)
    low_tensor, high_tensor = (
        torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 for image in (low, high)
    )
    return low_tensor, high_tensor


def psnr_of_luma(first: Tensor, second: Tensor) -> float:
    """As the super-resolution literature measures it: Y of BT.601, without 4 pixels of border."""
    weight = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    error = ((first.clamp(0, 1) - second) * weight).sum(1)[:, 4:-4, 4:-4]
    return float(10 * torch.log10(255**2 / error.square().mean()))


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
