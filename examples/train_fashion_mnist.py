"""Train the network that `repq demo` ships, and pack its test and calibration images.

    apt-get install dataset-fashion-mnist        # Zalando's Fashion-MNIST, MIT licence
    python examples/train_fashion_mnist.py       # about 10 minutes on 2 cores

Writes `repq_fx/cli/demo_assets/` (`--out` to change): the training-form weights as safetensors,
2,000 test images and 128 calibration images (taken from the training set) as one `.npz`.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from repq_fx.models import fashion_repvgg

DEBIAN_PACKAGE = Path("/usr/share/datasets/fashion-mnist")


def read_idx(path: Path) -> np.ndarray:
    """Read one gzipped IDX file of bytes: images ``[N, 28, 28]`` or labels ``[N]``."""
    raw = gzip.decompress(path.read_bytes())
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">i4", dimensions, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def to_input(images: np.ndarray) -> Tensor:
    """Bytes ``[N, 28, 28]`` to the network's input ``[N, 1, 28, 28]`` in [-1, 1]."""
    return torch.from_numpy(images.copy()).float().div(127.5).sub(1.0).unsqueeze(1)


def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image with probability 0.5 and shift the batch by up to two pixels."""
    flip = torch.rand(len(batch), generator=generator) < 0.5
    batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
    height, width = batch.shape[2:]
    padded = F.pad(batch, (2, 2, 2, 2), value=-1.0)
    dy, dx = torch.randint(0, 5, (2,), generator=generator).tolist()
    return padded[:, :, dy : dy + height, dx : dx + width]


def train(
    model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, learning_rate: float = 0.1
) -> None:
    """SGD with momentum 0.9, cosine schedule and plain L2 on every weight, batch 128."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(
        model.parameters(), learning_rate, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    steps = len(images) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=epochs * steps, pct_start=0.1
    )
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for indices in tqdm(order[: steps * 128].split(128), desc=f"epoch {epoch}", mininterval=10):
            batch = augment(images[indices], generator).to(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(batch), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent."""
    predicted = torch.cat([model(batch).argmax(1) for batch in images.split(500)])
    return 100.0 * (predicted == labels).float().mean().item()


def main() -> None:
    """Train, report the accuracy on all 10,000 test images, and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEBIAN_PACKAGE)
    parser.add_argument("--out", type=Path, default=Path("repq_fx/cli/demo_assets"))
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()

    train_images = read_idx(args.data / "train-images-idx3-ubyte.gz")
    train_labels = read_idx(args.data / "train-labels-idx1-ubyte.gz")
    test_images = read_idx(args.data / "t10k-images-idx3-ubyte.gz")
    test_labels = read_idx(args.data / "t10k-labels-idx1-ubyte.gz")

    torch.manual_seed(0)
    model = fashion_repvgg().to(memory_format=torch.channels_last)
    train(model, to_input(train_images), torch.from_numpy(train_labels).long(), epochs=args.epochs)
    score = accuracy(model, to_input(test_images), torch.from_numpy(test_labels).long())
    tqdm.write(f"top-1 on the 10,000 test images: {score:.2f}")

    args.out.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, args.out / "fashion_repvgg.safetensors", {"top1_10000_test": f"{score:.2f}"})
    np.savez_compressed(
        args.out / "fashion_mnist.npz",
        test_images=test_images[:2000],
        test_labels=test_labels[:2000],
        calibration_images=train_images[:128],
    )


if __name__ == "__main__":
    main()
