"""Our RepVGG on CIFAR-10: `python -m benchmarks.accuracy.cifar10 [--ablation]`."""

from pathlib import Path

import torch

from benchmarks.accuracy.protocol import Task, data_argument, run
from repq_fx.cli.image_data import Preprocessing, open_images
from repq_fx.cli.model_source import load_weights
from repq_fx.models import cifar_repvgg

WEIGHTS = Path(__file__).with_name("cifar_repvgg.safetensors")  # examples/train_cifar10.py


def load_task(data: Path) -> Task:
    """The model and the images below the folder `data`."""
    model = cifar_repvgg().eval()
    load_weights(model, WEIGHTS)
    to_input = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop=1.0)
    train = open_images(data / "cifar10" / "train.npz", to_input)
    test = open_images(data / "cifar10" / "test.npz", to_input)
    return Task(
        "cifar_repvgg", model, torch.cat(list(train.batches(32))),
        torch.cat(list(test.batches())), test.labels,
        "5,000 test images, 32 training images calibrate",
    )  # fmt: skip


def main() -> None:
    arguments = data_argument(__doc__)
    task = load_task(arguments.data)
    run(task, ablation=arguments.ablation, backend=arguments.backend)


if __name__ == "__main__":
    main()
