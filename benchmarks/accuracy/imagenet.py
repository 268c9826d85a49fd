"""The CFWS paper's ablations on ImageNet, for those who have it.

    python -m benchmarks.accuracy.imagenet --data VAL --train-data TRAIN \
        --model repvgg_a1 --weights RepVGG-A1-train.pth

Both folders hold one folder of images for each class. 32 training images calibrate, all of VAL is
evaluated (resize the shorter side to 256, cut 224 from the centre), and the table has the published
figures beside ours. `cfws_paper` says what differs from the paper. All variants are held in memory
at once, so that every image is decoded only once: about 3 GB for RepVGG-B1.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.fx import GraphModule
from tqdm import tqdm

from benchmarks.accuracy import cfws_paper
from benchmarks.accuracy.cfws_paper import PUBLISHED_FLOAT, Histograms, Scores, Variant
from benchmarks.accuracy.repvgg_imagenet import load_model
from benchmarks.publish import protocol_report, publish
from repq_fx import Scheme, api, reparameterize
from repq_fx.analysis.report import Column, Columns, Row, decimals
from repq_fx.cli.image_data import ImageData, open_images

_MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
_STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
_CALIBRATION_IMAGES = 32
_OWN_SCHEMES = {"vanilla": Scheme.vanilla(), "repq_fx default": Scheme()}


COLUMNS: Columns = (
    Column("weight", "weights"),
    Column("placement", "range taken"),
    Column("rule", "rule"),
    Column("top1", "top-1 %"),
    Column("agreement", "agrees %"),
    Column("published", "published", decimals(1)),  # What the paper prints for the same network.
)


def to_input(image: Image.Image) -> Tensor:
    """Resize the shorter side to 256 (bilinear), cut 224x224 from the centre, normalize."""
    image = image.convert("RGB")
    shorter = min(image.size)
    image = image.resize(
        tuple(side * 256 // shorter for side in image.size), Image.Resampling.BILINEAR
    )
    left, top = (round((side - 224) / 2) for side in image.size)
    image = image.crop((left, top, left + 224, top + 224))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    return (pixels - _MEAN) / _STD


def open_classes(path: Path) -> ImageData:
    """A folder of one folder for each class; the labels are the places of their sorted names."""
    data = open_images(path, to_input)
    if data.labels is None:
        raise SystemExit(f"{path} must hold one folder of images for each class.")
    return data


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="validation images")
    parser.add_argument("--train-data", type=Path, required=True, help="32 of these calibrate")
    parser.add_argument("--model", default="repvgg_a1", help="repvgg_a0/a1/b0/b1, or timm:NAME")
    parser.add_argument("--weights", type=Path, required=True, help="training-form checkpoint")
    parser.add_argument("--all", action="store_true", help="also what the paper has no figure for")
    parser.add_argument("--backend", default="int8", choices=("int8", "reference"))
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="chooses the calibration images")
    parser.add_argument("--limit", type=int, help="evaluate evenly spaced images, write nothing")
    run(parser.parse_args())


def run(arguments: argparse.Namespace) -> list[Row]:
    """Quantize, evaluate, print and write; also returns the rows."""
    data, train = open_classes(arguments.data), open_classes(arguments.train_data)
    model = load_model(arguments.model, arguments.weights)
    shuffled = torch.randperm(train.count, generator=torch.Generator().manual_seed(arguments.seed))
    calibration = torch.stack([train.read(int(i)) for i in shuffled[:_CALIBRATION_IMAGES]])
    merged = reparameterize(model, calibration[:2])
    variants = cfws_paper.all_variants() if arguments.all else cfws_paper.paper_variants()
    quantized = quantize(merged, calibration, variants, arguments.backend)
    chosen = _spaced(data.count, arguments.limit)
    batches = tqdm(chosen.split(arguments.batch), desc="evaluate", unit="batch")
    scores = cfws_paper.evaluate(
        merged,
        quantized,
        (torch.stack([data.read(int(i)) for i in batch]) for batch in batches),
        data.labels[chosen],
    )
    rows = rows_of(arguments.model, variants, scores)
    name = arguments.model.replace(":", "_")
    report = protocol_report(
        f"{name}: W8A8, {len(chosen)} ImageNet images, {len(calibration)} training images "
        "calibrate; 'published' was not measured here",
        COLUMNS, rows, backend=arguments.backend,
    )  # fmt: skip
    publish(f"imagenet_{name}" if arguments.limit is None else None, report)
    return rows


def quantize(
    merged: GraphModule, calibration: Tensor, variants: Sequence[Variant], backend: str
) -> list[GraphModule]:
    """Each variant, and `_OWN_SCHEMES`."""
    histograms = Histograms.collect(merged, calibration)
    quantized = [
        cfws_paper.quantize(merged, calibration, histograms, variant, backend)
        for variant in tqdm(variants, desc="quantize", unit="variant")
    ]
    return quantized + [
        api.quantize(merged, calibration, scheme=scheme, backend=backend, progress=False)
        for scheme in _OWN_SCHEMES.values()
    ]


def rows_of(network: str, variants: Sequence[Variant], scores: Sequence[Scores]) -> list[Row]:
    """FP32, the variants, and our own schemes."""
    of_float, *others = scores
    published = PUBLISHED_FLOAT.get(network)
    rows = [Row("FP32, merged", top1=of_float.top1, published=published)]
    rows += [
        Row(
            variant.weight, placement=variant.placement.value, rule=variant.rule, top1=score.top1,
            agreement=score.agreement, published=variant.published(network),
        )
        for variant, score in zip(variants, others, strict=False)
    ]  # fmt: skip
    return rows + [
        Row(name, top1=score.top1, agreement=score.agreement)
        for name, score in zip(_OWN_SCHEMES, others[len(variants) :], strict=True)
    ]


def _spaced(count: int, limit: int | None) -> Tensor:
    """All indices, or `limit` of them over all classes."""
    wanted = count if limit is None else min(limit, count)
    return torch.arange(wanted) * count // wanted


if __name__ == "__main__":
    main()
