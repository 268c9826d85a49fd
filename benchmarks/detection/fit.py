"""Fit a YOLOv6-n and a small YOLOv7 to a few labelled images, so that their mAP means something.

    python -m benchmarks.detection.fit --data DIR --out FOLDER [--minutes 12]

DIR holds ``images/train2017`` and ``labels/train2017`` in YOLO format; nothing is written there.
Each network learns its first images by heart, with its repository's own loss, until the minutes are
over, and is written as ``FOLDER/yolov6n.pt`` or ``FOLDER/yolov7_small.pt`` in its repository's own
format. Needs ``pip install yolov6detect yolov7detect``.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

CLASSES = 80
_BATCH = 4
_ANCHORS = [[10, 12, 16, 26, 30, 20], [32, 52, 62, 40, 56, 96], [110, 90, 130, 170, 220, 200]]
Loss = Callable[[Any, Tensor, int], Tensor]


@dataclass(frozen=True)
class Labelled:
    """Letterboxed images and their boxes.

    Attributes:
        images: uint8 ``[N, 3, side, side]``.
        boxes: For each image ``[n, 5]``: class, and centre, width and height as shares of the side.
        paths: The files.
    """

    images: Tensor
    boxes: list[Tensor]
    paths: list[Path]

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Images, and targets ``[n, 6]`` that begin with the place in the batch."""
        rows = [
            torch.cat([torch.full((len(self.boxes[i]), 1), float(place)), self.boxes[i]], 1)
            for place, i in enumerate(indices)
        ]
        return self.images[indices], torch.cat(rows)


def labelled_images(data: Path, split: str, count: int, side: int) -> Labelled:
    """The first `count` images of a split."""
    images, boxes = [], []
    paths = sorted((data / "images" / split).glob("*.jpg"))[:count]
    for path in paths:
        image = Image.open(path).convert("RGB")
        scale = side / max(image.size)
        width, height = (round(length * scale) for length in image.size)
        left, top = (side - width) // 2, (side - height) // 2
        canvas = Image.new("RGB", (side, side), (114, 114, 114))
        canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR), (left, top))
        images.append(torch.from_numpy(np.array(canvas)).permute(2, 0, 1))
        label = data / "labels" / split / f"{path.stem}.txt"
        text = label.read_text() if label.is_file() else ""
        rows = torch.tensor([[float(v) for v in line.split()] for line in text.splitlines()])
        rows = rows.reshape(-1, 5)
        size = torch.tensor([1, width, height, width, height]) / torch.tensor([1, *[side] * 4])
        boxes.append(rows * size + torch.tensor([0, left, top, 0, 0]) / side)
    return Labelled(torch.stack(images), boxes, paths)


def yolov6n(side: int) -> tuple[nn.Module, Loss]:
    """YOLOv6-n with three branches in each block, and its loss."""
    import yolov6
    from yolov6.models.losses.loss import ComputeLoss
    from yolov6.models.yolo import Model
    from yolov6.utils.config import Config

    config = Config.fromfile(str(Path(yolov6.__file__).parent / "configs" / "yolov6n.py"))
    config.training_mode = "repvgg"
    head = config.model.head
    model = Model(config, num_classes=CLASSES)
    with patch.object(nn.Module, "cuda", lambda module, *_: module):  # It asks for one.
        compute = ComputeLoss(
            num_classes=CLASSES, ori_img_size=side, use_dfl=head.use_dfl, reg_max=head.reg_max,
            iou_type=head.iou_type, warmup_epoch=0,
        )  # fmt: skip

    def loss(outputs: Any, targets: Tensor, step: int) -> Tensor:
        return compute(outputs[0], targets, step, step)[0]

    return model, loss


def small_yolov7(_: int) -> tuple[nn.Module, Loss]:
    """A YOLOv7 with a few of each of its layers, and its loss."""
    from yolov7.models.yolo import Model
    from yolov7.utils.loss import ComputeLoss

    model = Model(small_yolov7_config(_ANCHORS))
    model.hyp = {
        "box": 0.05, "cls": 0.5, "obj": 1.0, "cls_pw": 1.0, "obj_pw": 1.0, "fl_gamma": 0.0,
        "anchor_t": 4.0, "label_smoothing": 0.0,
    }  # fmt: skip
    model.gr = 1.0
    compute = ComputeLoss(model)

    def loss(outputs: Any, targets: Tensor, _: int) -> Tensor:
        return compute(outputs, targets)[0].squeeze()

    return model, loss


def small_yolov7_config(anchors: list[list[int]]) -> dict[str, Any]:
    """Layers of a network of three levels, as the repository's YAML files describe them."""
    conv, rep, concat = "Conv", "RepConv", "Concat"
    backbone = [
        [-1, 1, conv, [16, 3, 2]], [-1, 1, conv, [32, 3, 2]], [-1, 1, rep, [32, 3, 1]],
        [-1, 1, conv, [64, 3, 2]],
        [-1, 1, conv, [32, 1, 1]], [-2, 1, conv, [32, 1, 1]], [-1, 1, rep, [32, 3, 1]],
        [[-1, -2, -3], 1, concat, [1]], [-1, 1, conv, [64, 1, 1]],  # 8: stride 8.
        [-1, 1, conv, [128, 3, 2]],
        [-1, 1, conv, [64, 1, 1]], [-2, 1, conv, [64, 1, 1]], [-1, 1, rep, [64, 3, 1]],
        [[-1, -2, -3], 1, concat, [1]], [-1, 1, conv, [128, 1, 1]],  # 14: stride 16.
        [-1, 1, "MP", []], [-1, 1, conv, [256, 3, 1]], [-1, 1, "SPPCSPC", [128]],  # 17: stride 32.
    ]  # fmt: skip
    up = [-1, 1, "nn.Upsample", [None, 2, "nearest"]]
    head = [
        [-1, 1, conv, [64, 1, 1]], up, [14, 1, conv, [64, 1, 1]], [[-1, -2], 1, concat, [1]],
        [-1, 1, conv, [64, 3, 1]],  # 22
        [-1, 1, conv, [32, 1, 1]], up, [8, 1, conv, [32, 1, 1]], [[-1, -2], 1, concat, [1]],
        [-1, 1, conv, [32, 3, 1]],  # 27
        [27, 1, rep, [64, 3, 1]], [22, 1, rep, [128, 3, 1]], [17, 1, rep, [256, 3, 1]],
        [[28, 29, 30], 1, "IDetect", ["nc", "anchors"]],
    ]  # fmt: skip
    return {
        "nc": CLASSES, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": anchors,
        "backbone": backbone, "head": head,
    }  # fmt: skip


NETWORKS = {"yolov6n": yolov6n, "yolov7_small": small_yolov7}


def fit(model: nn.Module, loss: Loss, data: Labelled, minutes: float, rate: float) -> None:
    """Adam without augmentation but mirroring; the rate falls linearly with the time spent."""
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-4)
    start, step = time.monotonic(), 0
    bar = tqdm(unit="step")
    while (spent := (time.monotonic() - start) / (60.0 * minutes)) < 1.0:
        for indices in _batches(len(data.paths)):
            images, targets = data.batch(indices)
            if step % 2:
                images, targets = images.flip(3), targets.clone()
                targets[:, 2] = 1.0 - targets[:, 2]
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 20) * max(1.0 - spent, 0.02)
            error = loss(model.train()(images.float() / 255.0), targets, step)
            optimizer.zero_grad()
            error.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            step += 1
            bar.update()
            bar.set_postfix(loss=f"{error.item():.3f}")
    bar.close()


def _batches(count: int) -> Iterator[list[int]]:
    order = torch.randperm(count).tolist()
    return (order[i : i + _BATCH] for i in range(0, count, _BATCH))


def main() -> None:
    """Fit and write each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--minutes", type=float, default=12.0, help="for each network")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rate", type=float, default=2e-3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data = labelled_images(args.data, "train2017", args.images, args.side)
    for name in args.networks:
        torch.manual_seed(0)
        model, loss = NETWORKS[name](args.side)
        fit(model, loss, data, args.minutes, args.rate)
        model.nc, model.names = CLASSES, [str(index) for index in range(CLASSES)]
        model.eval().requires_grad_(False)  # As theirs are: their fusing edits parameters.
        torch.save({"model": model, "ema": None, "epoch": -1}, args.out / f"{name}.pt")


if __name__ == "__main__":
    main()
