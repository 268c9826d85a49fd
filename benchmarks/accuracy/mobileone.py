"""MobileOne-S0 on 500 ImageNet images: `python -m benchmarks.accuracy.mobileone [--ablation]`."""

from pathlib import Path

import torch

from benchmarks.accuracy.mobileone_s0 import MobileOneS0
from benchmarks.accuracy.protocol import Task, data_argument, run
from repq_fx.cli.image_data import Preprocessing, open_images
from repq_fx.cli.model_source import load_weights


def load_task(data: Path) -> Task:
    """The model and the images below the folder `data`."""
    model = MobileOneS0().eval()
    load_weights(model, data / "weights" / "mobileone_s0_imagenet_deploy.pt")
    sample = open_images(data / "imagenet_sample" / "images.npz", Preprocessing())
    images = torch.cat(list(sample.batches()))
    return Task(
        "mobileone_s0", model, images[:32], images, sample.labels,
        "500 ImageNet images, the first 32 calibrate, all are evaluated",
    )  # fmt: skip


def main() -> None:
    arguments = data_argument(__doc__)
    task = load_task(arguments.data)
    run(task, ablation=arguments.ablation, backend=arguments.backend)


if __name__ == "__main__":
    main()
