"""What quantization decides, to the last bit: shows that a rewrite changed nothing.

`python -m benchmarks.fingerprints --out before.json` in one checkout, then
`python -m benchmarks.fingerprints --compare before.json` in another, on the same machine.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import repq_fx
from benchmarks.accuracy import cifar10, mobileone
from benchmarks.accuracy.rvsr import calibration_crops
from benchmarks.accuracy.rvsr_network import RVSR, Mixer
from repq_fx import RepAPQ, Scheme
from repq_fx.cli.model_source import load_weights

_SCHEMES = {"w8a8": Scheme(), "w6a6": Scheme.w6a6(), "min-max": Scheme.vanilla()}
_LEARNED = "w4a8, RepAPQ"
_ITERATIONS = 20


@dataclass(frozen=True)
class Network:
    """A network in training or deploy form and the images that calibrate it."""

    name: str
    model: nn.Module
    images: Tensor


def networks(data: Path) -> Iterator[Network]:
    """The three benchmark networks; `data` as in README."""
    for task in (cifar10.load_task(data), mobileone.load_task(data)):
        yield Network(task.name, task.model, task.calibration)
    rvsr = RVSR(Mixer).eval()
    load_weights(rvsr, data / "weights" / "rvsr_x4_train.pt")
    yield Network("rvsr", rvsr, calibration_crops(data))


def fingerprints(network: Network) -> dict[str, str]:
    """Digests of each integer tensor, scale and bias, of the outputs and of the saved file."""
    merged = repq_fx.reparameterize(network.model, network.images[:2])
    found = {}
    for name, scheme in _SCHEMES.items():
        reference = repq_fx.quantize(
            merged, network.images, scheme=scheme, backend="reference", progress=False
        )
        found |= _digests(f"{network.name}, {name}", reference, network.images)
    learned = repq_fx.quantize(
        merged, network.images, scheme=Scheme.w4a8(), backend="reference",
        reconstruction=RepAPQ(iterations=_ITERATIONS, batch_size=8), progress=False,
    )  # fmt: skip
    found |= _digests(f"{network.name}, {_LEARNED}", learned, network.images)
    int8 = repq_fx.quantize(merged, network.images, progress=False)
    with torch.inference_mode():
        found[f"{network.name}, INT8 output"] = _digest(int8(network.images[:2]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.repq")
        repq_fx.save(int8, file)
        found[f"{network.name}, file"] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return found


def _digests(label: str, model: nn.Module, images: Tensor) -> dict[str, str]:
    found = {f"{label}, {key}": _digest(value) for key, value in model.state_dict().items()}
    with torch.inference_mode():
        return found | {f"{label}, output": _digest(model(images[:2]))}


def _digest(tensor: Tensor) -> str:
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    raw = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + raw).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--out", type=Path, help="write the digests here")
    parser.add_argument("--compare", type=Path, help="digests of another version")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, str] = {}
    for network in networks(arguments.data):
        found |= fingerprints(network)
        print(f"{network.name}: {len(found)} digests so far", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.compare:
        before = json.loads(arguments.compare.read_text())
        changed = [key for key in before | found if before.get(key) != found.get(key)]
        print(f"{len(changed)} of {len(before | found)} digests differ", *changed[:20], sep="\n  ")
        sys.exit(bool(changed))


if __name__ == "__main__":
    main()
