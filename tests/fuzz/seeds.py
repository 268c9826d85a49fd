"""Small files of every kind that repq_fx reads, for the fuzzer to damage."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import repq_fx
from repq_fx.quant import AffineParameters, PerChannel
from repq_fx.reconstruct.checkpoint import Checkpoint
from repq_fx.refine.refinement import Refinement

_FINGERPRINT = "fuzz"


@dataclass(frozen=True)
class SeedFile:
    """A good file, and what a user does with one.

    Attributes:
        content: The bytes.
        load: Reads a file; may raise nothing but FileFormatError.
        use: Uses what was read; may raise any exception.
    """

    content: bytes
    load: Callable[[Path], Any]
    use: Callable[[Any], object]


class _Net(nn.Module):
    """Every instruction of the compiled program."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.grouped = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=2)
        self.pool, self.mean = nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2)
        self.up, self.shuffle = nn.Upsample(scale_factor=2), nn.PixelShuffle(2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.stem(x))
        x = F.silu(self.depthwise(x)) + x
        x = torch.cat((self.pool(x), x), 1)
        x = F.gelu(self.grouped(x))
        a, b = x.chunk(2, 1)
        x = torch.cat((self.up(self.mean(a)), torch.sigmoid(b)), 1)
        x = self.shuffle(x)
        return x, self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _model(folder: Path, backend: str) -> SeedFile:
    torch.manual_seed(0)
    example = torch.randn(1, 3, 8, 8)
    model = repq_fx.quantize(_Net().eval(), [example], backend=backend, progress=False)
    path = folder / "seed.rpq"
    repq_fx.save(model, path)
    return SeedFile(path.read_bytes(), repq_fx.load, lambda loaded: loaded(example))


def _checkpoint(folder: Path) -> SeedFile:
    path = folder / "seed.checkpoint"
    weight = PerChannel().quantize(torch.randn(4, 3, 1, 1), 8)
    refinement = Refinement(
        {"layer": weight}, {"layer": torch.rand(4)}, {"node": AffineParameters(0.1, 3)}
    )
    checkpoint = Checkpoint(path, _FINGERPRINT)
    checkpoint.add(0, refinement, None)
    return SeedFile(
        path.read_bytes(), lambda path: Checkpoint(path, _FINGERPRINT), lambda read: read[0]
    )


def seed_files(folder: Path) -> dict[str, SeedFile]:
    """By name; written to `folder` on the way."""
    return {
        "lowered": _model(folder, "int8"),
        "reference": _model(folder, "reference"),
        "checkpoint": _checkpoint(folder),
    }
