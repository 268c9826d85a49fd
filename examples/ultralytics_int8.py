"""Quantize an ultralytics detector, and draw FP32, plain INT8 and ours side by side.

    python examples/ultralytics_int8.py yolov9t.pt coco128.yaml --images bus.jpg --output out/

Writes ``out/model.repq``, which `repq_fx.load` reads, and one picture for each image: FP32 on the
left, in the middle INT8 with one min-max range for each tensor (what one gets without care), on the
right ours. Reading a .pt file executes what is in it: use only files that you trust.
"""

import argparse
from pathlib import Path

import numpy as np
import typer
from PIL import Image, ImageDraw
from ultralytics import YOLO

import repq_fx
from repq_fx.integrations import ultralytics


def main() -> None:
    """Quantize twice, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path, help="the data set's YAML file; its train split is used")
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--output", type=Path, default=Path("out"))
    parser.add_argument("--imgsz", type=int)
    parser.add_argument("--count", type=int, default=128, help="images to calibrate with")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)

    yolo = YOLO(args.weights)
    options = {"data": args.data, "imgsz": args.imgsz, "images": args.count}
    ours = ultralytics.quantize(yolo, **options)
    repq_fx.save(ours, args.output / "model.repq")
    if args.images:
        vanilla = ultralytics.quantize(yolo, scheme=repq_fx.Scheme.vanilla(), **options)
        models = {"FP32": yolo, "INT8, plain min-max": vanilla, "INT8, repq_fx": ours}
        for path in args.images:
            target = args.output / f"{path.stem}.png"
            side_by_side(models, path, args.imgsz).save(target)
            typer.echo(f"wrote {target}")


def side_by_side(models: dict[str, YOLO], path: Path, imgsz: int | None) -> Image.Image:
    """The detections of every model in one picture, under its name."""
    size = {} if imgsz is None else {"imgsz": imgsz}
    pictures = []
    for name, model in models.items():
        (found,) = model.predict(path, verbose=False, **size)
        pixels = np.ascontiguousarray(found.plot()[..., ::-1])  # BGR
        picture = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + 20), "white")
        picture.paste(Image.fromarray(pixels), (0, 20))
        ImageDraw.Draw(picture).text((4, 4), f"{name}: {len(found.boxes)} objects", "black")
        pictures.append(picture)
    width = sum(picture.width for picture in pictures)
    result = Image.new("RGB", (width, pictures[0].height))
    left = 0
    for picture in pictures:
        result.paste(picture, (left, 0))
        left += picture.width
    return result


if __name__ == "__main__":
    main()
