"""Quantize a model of timm with its own transforms.

    python examples/timm_int8.py mobileone_s0 IMAGES model.repq

IMAGES is a folder with images of the kind that the model is for. The pretrained weights are
downloaded unless --weights names a checkpoint.
"""

import argparse
from pathlib import Path

import repq_fx
from repq_fx.integrations import timm


def main() -> None:
    """Quantize and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--count", type=int, default=32, help="images to calibrate with")
    args = parser.parse_args()
    int8 = timm.quantize(
        args.model, args.images, weights=args.weights, pretrained=args.weights is None,
        images=args.count,
    )  # fmt: skip
    repq_fx.save(int8, args.output)


if __name__ == "__main__":
    main()
