"""What learning adds: `python -m benchmarks.accuracy.reconstruction [--network ...] [--ablation]`.

MobileOne-S0 learns on every other image of the ImageNet sample (which is sorted by class) and is
evaluated on the others; RepVGG on CIFAR-10 learns on 1,024 training images and is evaluated on the
test set. First and last layers of W4A8 networks have 8 bits in the rows that say so, as in BRECQ.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import repq_fx
from benchmarks.accuracy import cifar10, mobileone
from benchmarks.accuracy.comparison import report
from repq_fx import MAE, MSE, AdaRound, BRECQ, QDrop, RepAPQ, Scheme, analysis
from repq_fx.cli.image_data import Preprocessing, open_images
from repq_fx.reconstruct import Reconstruction


@dataclass(frozen=True)
class Task:
    """A merged network with the images it learns from and those it is judged by."""

    model: nn.Module
    calibration: Tensor
    images: Tensor
    labels: Tensor
    protocol: str


@dataclass(frozen=True)
class LearnedRow:
    """One scheme with one method."""

    scheme: str
    method: str
    top1: float = field(metadata={"heading": "top-1 %"})
    drop: float | None = None
    agreement: float | None = field(default=None, metadata={"heading": "agrees %"})
    sqnr_db: float | None = field(default=None, metadata={"heading": "SQNR dB"})
    seconds: float | None = field(default=None, metadata={"digits": 0})
