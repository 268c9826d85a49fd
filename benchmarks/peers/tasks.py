"""The networks with their data: what every tool calibrates on and is judged by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.accuracy.cifar10 import WEIGHTS as CIFAR_WEIGHTS
from benchmarks.accuracy.rvsr import calibration_crops, image_sets, psnr_of_luma
from benchmarks.peers.networks import MergedRepVGG, MergedRVSR, MobileOneS0
from repq_fx import analysis, reparameterize
from repq_fx.analysis.report import accuracy_fields
from repq_fx.cli.image_data import ImageData, Preprocessing, open_images
from repq_fx.cli.model_source import load_weights
from repq_fx.models import cifar_repvgg

_CALIBRATION_IMAGES = 32
_BATCH = 50


@dataclass(frozen=True)
class Task:
    """A merged float network, its calibration images and how outputs are judged.

    Attributes:
        images: One tensor for each size or batch of images.
        quality: ``top1_percent`` or ``psnr_db`` of the outputs for `images`.
    """

    name: str
    model: nn.Module
    calibration: Tensor
    images: list[Tensor]
    quality: Callable[[list[Tensor]], dict[str, float]]
    protocol: str

    def write(self, folder: Path) -> None:
        """The data folder of `benchmarks.peers.job`."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.model.state_dict(), folder / "weights.pt")
        np.save(folder / "calibration.npy", self.calibration.numpy())
        arrays = {f"{index:04}": images.numpy() for index, images in enumerate(self.images)}
        np.savez(folder / "images.npz", **arrays)


def mobileone_s0(data: Path) -> Task:
    model, sample = _mobileone_s0(data)
    images = list(sample.batches(size=_BATCH))
    return Task(
        "mobileone_s0", model, images[0][:_CALIBRATION_IMAGES], images,
        lambda outputs: accuracy_fields(torch.cat(outputs), sample.labels),
        "500 ImageNet images, the first 32 calibrate, all are evaluated",
    )  # fmt: skip


def mobileone_s0_halves(data: Path) -> Task:
    """No image is both fitted and evaluated, for rounding that is learned can overfit."""
    model, sample = _mobileone_s0(data)
    images = torch.cat(list(sample.batches(size=_BATCH)))  # Sorted by class.
    labels = None if sample.labels is None else sample.labels[1::2]
    return Task(
        "mobileone_s0", model, images[::2].contiguous(), list(images[1::2].split(_BATCH)),
        lambda outputs: accuracy_fields(torch.cat(outputs), labels),
        "500 ImageNet images, every other one calibrates, the others are evaluated",
    )  # fmt: skip


def _mobileone_s0(data: Path) -> tuple[nn.Module, ImageData]:
    model = MobileOneS0().eval()
    load_weights(model, data / "weights" / "mobileone_s0_imagenet_deploy.pt")
    return model, open_images(data / "imagenet_sample" / "images.npz", Preprocessing())


def cifar(data: Path, calibration_images: int = _CALIBRATION_IMAGES) -> Task:
    to_input = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop=1.0)
    train = open_images(data / "cifar10" / "train.npz", to_input)
    test = open_images(data / "cifar10" / "test.npz", to_input)
    calibration = torch.cat(list(train.batches(calibration_images)))
    training_form = cifar_repvgg().eval()
    load_weights(training_form, CIFAR_WEIGHTS)
    return Task(
        "cifar_repvgg", _plain(training_form, calibration), calibration,
        list(test.batches(size=_BATCH)),
        lambda outputs: accuracy_fields(torch.cat(outputs), test.labels),
        f"5,000 test images, {calibration_images:,} training images calibrate",
    )  # fmt: skip


def _plain(training_form: nn.Module, images: Tensor) -> nn.Module:
    """The merged network as a class that can be imported where repq_fx is not installed."""
    merged = reparameterize(training_form, images[:2])
    plain = MergedRepVGG().eval()
    kinds = (nn.Conv2d, nn.Linear)
    sources = [module for module in merged.modules() if isinstance(module, kinds)]
    targets = [module for module in plain.modules() if isinstance(module, kinds)]
    for source, target in zip(sources, targets, strict=True):
        target.load_state_dict(source.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(plain(images), training_form(images), rtol=1e-3, atol=1e-3)
    return plain


def rvsr(data: Path) -> Task:
    model = MergedRVSR().eval()
    load_weights(model, data / "weights" / "rvsr_x4_deploy_authors.pt")
    sets = image_sets(data)
    pairs = [pair for images in sets for pair in images]

    def quality(outputs: list[Tensor]) -> dict[str, float]:
        values = [
            psnr_of_luma(output, high) for output, (_, high) in zip(outputs, pairs, strict=True)
        ]
        count = len(sets[0])
        return {"psnr_db": float(np.mean(values[:count])),
                "psnr_set14_db": float(np.mean(values[count:]))}  # fmt: skip

    return Task(
        "rvsr_x4", model, calibration_crops(data), [low for low, _ in pairs], quality,
        "PSNR of Y on Set5 and Set14; 32 low-resolution crops of COCO, 64x64, calibrate",
    )  # fmt: skip


def similarity(reference: list[Tensor], outputs: list[Tensor]) -> dict[str, float]:
    """``sqnr_db`` of all outputs, and ``agreement_percent`` of those that are scores of classes."""
    flat = [torch.cat([output.flatten() for output in part]) for part in (reference, outputs)]
    fields = {"sqnr_db": analysis.sqnr_db(*flat)}
    if reference[0].dim() == 2:
        fields["agreement_percent"] = analysis.agreement(torch.cat(reference), torch.cat(outputs))
    return fields


TASKS: dict[str, Callable[[Path], Task]] = {
    "mobileone_s0": mobileone_s0, "cifar_repvgg": cifar, "rvsr_x4": rvsr,
}  # fmt: skip
RECONSTRUCTION_TASKS: dict[str, Callable[[Path], Task]] = {
    "cifar_repvgg": lambda data: cifar(data, calibration_images=256),
    "mobileone_s0": mobileone_s0_halves,
}
