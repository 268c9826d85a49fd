"""RVSR x4 super-resolution on Set5 and Set14: `python -m benchmarks.accuracy.rvsr [--ablation]`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.accuracy.protocol import ablation_schemes, headline_schemes
from benchmarks.accuracy.rvsr_network import RVSR, Mixer
from benchmarks.publish import protocol_report, publish
from repq_fx import analysis, api, reparameterize
from repq_fx.analysis.report import Column, Columns, Row, decimals
from repq_fx.cli.model_source import load_weights

_SETS = ("Set5", "Set14")
_SCALE = 4
_CROP = 64  # pixels of a low-resolution calibration crop
_CROPS = 32

Pair = tuple[Tensor, Tensor]


COLUMNS: Columns = (
    Column("name", "model"),
    Column("set5_db", "Set5 PSNR dB"),
    Column("set14_db", "Set14 PSNR dB"),
    # Of all output pixels, and of what the network adds to the bilinear image.
    Column("sqnr_db", "SQNR dB", decimals(1)),
    Column("residual_sqnr_db", "without bilinear", decimals(1)),
)


def image_pair(path: Path) -> Pair:
    """Low- and high-resolution tensors ``[1, 3, H, W]`` of an image, cut to multiples of 4."""
    high = Image.open(path).convert("RGB")
    high = high.crop((0, 0, *(side // _SCALE * _SCALE for side in high.size)))
    return _tensor(_downscale(high)), _tensor(high)


def psnr_of_luma(first: Tensor, second: Tensor) -> float:
    """As the super-resolution literature measures it: Y of BT.601, without 4 pixels of border."""
    weight = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    error = ((first.clamp(0, 1) - second) * weight).sum(1)[:, 4:-4, 4:-4]
    return float(10 * torch.log10(255**2 / error.square().mean()))


def image_sets(data: Path) -> list[list[Pair]]:
    """The `image_pair` of every image of Set5, and of Set14."""
    folder = data / "super_resolution"
    return [[image_pair(path) for path in sorted((folder / name).glob("*.png"))] for name in _SETS]


def calibration_crops(data: Path) -> Tensor:
    """``[32, 3, 64, 64]``: the centres of the first COCO images large enough, downscaled."""
    folder = data / "coco128" / "images" / "val2017"
    crops = []
    for path in sorted(folder.glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        if min(image.size) >= _CROP * _SCALE:
            low = _tensor(_downscale(image))
            top, left = ((side - _CROP) // 2 for side in low.shape[2:])
            crops.append(low[:, :, top : top + _CROP, left : left + _CROP])
        if len(crops) == _CROPS:
            return torch.cat(crops)
    raise SystemExit(f"{folder} holds {len(crops)} large images, {_CROPS} are needed.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--backend", default="int8", choices=("int8", "reference"))
    parser.add_argument("--ablation", action="store_true", help="the default, one thing changed")
    parser.add_argument("--limit", type=int, help="images of each set; nothing is written then")
    arguments = parser.parse_args()
    model = RVSR(Mixer).eval()
    load_weights(model, arguments.data / "weights" / "rvsr_x4_train.pt")
    sets = [pairs[: arguments.limit] for pairs in image_sets(arguments.data)]
    crops = calibration_crops(arguments.data)
    merged = reparameterize(model, crops[:2])
    reference = _outputs(merged, sets)
    rows = [Row("FP32, merged", **_psnr(reference, sets))]
    schemes = ablation_schemes() if arguments.ablation else headline_schemes()
    for name, scheme in tqdm(schemes.items(), unit="scheme"):
        quantized = api.quantize(
            merged, crops, scheme=scheme, backend=arguments.backend, progress=False
        )
        outputs = _outputs(quantized, sets)
        rows.append(Row(name, **_psnr(outputs, sets), **_sqnr(reference, outputs, sets)))
    name = "rvsr_ablation" if arguments.ablation else "rvsr"
    report = protocol_report(
        "RVSR x4: PIL bicubic inputs, Y channel, 4-pixel border; 32 COCO crops calibrate",
        COLUMNS, rows, backend=arguments.backend,
    )  # fmt: skip
    publish(name if arguments.limit is None else None, report)


def _outputs(model: nn.Module, sets: Sequence[Sequence[Pair]]) -> list[list[Tensor]]:
    with torch.inference_mode():
        return [[model(low) for low, _ in pairs] for pairs in sets]


def _psnr(outputs: Sequence[Sequence[Tensor]], sets: Sequence[Sequence[Pair]]) -> dict[str, float]:
    """The mean of each set."""
    means = [
        sum(psnr_of_luma(output, high) for output, (_, high) in zip(images, pairs, strict=True))
        / len(pairs)
        for images, pairs in zip(outputs, sets, strict=True)
    ]
    return dict(zip(("set5_db", "set14_db"), means, strict=True))


def _sqnr(
    reference: Sequence[Sequence[Tensor]],
    outputs: Sequence[Sequence[Tensor]],
    sets: Sequence[Sequence[Pair]],
) -> dict[str, float]:
    """Of the whole output, and of what the network adds to the bilinear image."""
    expected, actual = (_flat(images) for images in (reference, outputs))
    bilinear = _flat([
        [nn.functional.interpolate(low, scale_factor=_SCALE, mode="bilinear") for low, _ in pairs]
        for pairs in sets
    ])  # fmt: skip
    return {
        "sqnr_db": analysis.sqnr_db(expected, actual),
        "residual_sqnr_db": analysis.sqnr_db(expected - bilinear, actual - bilinear),
    }


def _flat(images: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.cat([image.flatten() for group in images for image in group])


def _downscale(image: Image.Image) -> Image.Image:
    width, height = (side // _SCALE for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


if __name__ == "__main__":
    main()
