"""MobileOne-S0 on 500 ImageNet images: `python -m benchmarks.accuracy.mobileone [--ablation]`."""

import torch

from benchmarks.accuracy.mobileone_s0 import MobileOneS0
from benchmarks.accuracy.protocol import Task, data_argument, run
from repq_fx.cli.image_data import Preprocessing, open_images
from repq_fx.cli.model_source import load_weights


def main() -> None:
    arguments = data_argument(__doc__)
    model = MobileOneS0().eval()
    load_weights(model, arguments.data / "weights" / "mobileone_s0_imagenet_deploy.pt")
    data = open_images(arguments.data / "imagenet_sample" / "images.npz", Preprocessing())
    images = torch.cat(list(data.batches()))
    task = Task(
        "mobileone_s0", model, images[:32], images, data.labels,
        "500 ImageNet images, the first 32 calibrate, all are evaluated",
    )  # fmt: skip
    run(task, ablation=arguments.ablation, backend=arguments.backend)


if __name__ == "__main__":
    main()
