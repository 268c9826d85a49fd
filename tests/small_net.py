"""A small network with one of each kind of edge, and its images, as fixtures of all tests."""

import pytest
import torch
from torch import nn


class SmallNet(nn.Module):
    """Chain, residual sum, a swish, pooling and a classifier: one of each kind of edge."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.silu = nn.SiLU()
        self.point = nn.Conv2d(16, 24, 1)
        self.relu6 = nn.ReLU6()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(24, 10)

    def forward(self, image):
        x = self.relu(self.stem(image))
        x = x + self.relu(self.body(x))
        x = self.silu(self.depthwise(x))
        x = self.relu6(self.point(x))
        return self.classifier(self.flatten(self.pool(x)))


@pytest.fixture
def small_net():
    torch.manual_seed(0)
    net = SmallNet().eval()
    with torch.no_grad():
        for layer in (net.body, net.depthwise):  # Merged-looking kernels, so that they are split.
            layer.weight[:, :, 1, 1] += 0.5 * torch.eye(16)[:, : layer.weight.shape[1]]
            layer.weight[:, 0, 1, 1] += 0.5
    return net


@pytest.fixture
def images():
    return torch.randn(8, 3, 21, 21, generator=torch.Generator().manual_seed(1))
