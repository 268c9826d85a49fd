"""Quantize a YOLOv6 checkpoint to INT8, into one that the repository's own scripts run.

    python examples/yolov6_int8.py CHECKPOINT.pt IMAGES OUTPUT.pt
    export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1
    python tools/infer.py --weights OUTPUT.pt --source IMAGES

IMAGES is a folder that calibrates: a hundred or so of the images it was trained on. Needs the
repository's folder as the current one, or `pip install yolov6detect`. Reading a checkpoint
executes what is in it: use only files that you trust.
"""

import argparse
from pathlib import Path

from repq_fx.integrations import yolov6


def main() -> None:
    """Read, quantize and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--count", type=int, default=128, help="images to calibrate with")
    args = parser.parse_args()
    int8 = yolov6.quantize(args.checkpoint, args.images, imgsz=args.imgsz, images=args.count)
    yolov6.save_checkpoint(int8, args.output)


if __name__ == "__main__":
    main()
