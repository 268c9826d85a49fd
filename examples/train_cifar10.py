"""Train the CIFAR-10 RepVGG of the accuracy benchmarks.

    python examples/train_cifar10.py --data DIR     # DIR holds train.npz and test.npz

Writes `benchmarks/accuracy/cifar_repvgg.safetensors` (`--out` to change). Both `.npz` hold `jpeg`
(all encoded images, concatenated), `offset` and `label`.
"""

import argparse
import io
import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from train_fashion_mnist import accuracy, train

from repq_fx.models import cifar_repvgg


def load_pack(path: Path) -> tuple[Tensor, Tensor]:
    """Images ``[N, 3, 32, 32]`` in [-1, 1] and labels ``[N]`` (int64)."""
    pack = np.load(path)
    raw, offset = pack["jpeg"].tobytes(), pack["offset"]
    pairs = itertools.pairwise(offset)
    images = np.stack([np.asarray(Image.open(io.BytesIO(raw[a:b]))) for a, b in pairs])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
    return pixels, torch.from_numpy(pack["label"]).long()


def main() -> None:
    """Train, report the accuracy on the test images, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default="benchmarks/accuracy/cifar_repvgg.safetensors")
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(0)
    model = cifar_repvgg().to(memory_format=torch.channels_last)
    train(model, *load_pack(args.data / "train.npz"), epochs=args.epochs)
    score = accuracy(model, *load_pack(args.data / "test.npz"))
    tqdm.write(f"top-1 on the test images: {score:.2f}")
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, args.out, {"top1_test": f"{score:.2f}"})


if __name__ == "__main__":
    main()
