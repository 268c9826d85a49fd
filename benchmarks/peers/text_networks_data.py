"""Networks that read text, from wheels of PyPI, and rendered pictures to show them."""

import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CALIBRATION_IMAGES, JUDGES = 32, 16
_WORDS = [
    "Structural", "re-parameterization", "trains", "several", "parallel", "branches", "and",
    "merges", "them", "into", "one", "convolution", "for", "inference", "quantization", "OPEN",
    "24h", "EXIT", "Cafe", "1984", "$19.99",
]  # fmt: skip


class UnavailableError(Exception):
    """A wheel that cannot be downloaded, or a folder without what is read from it."""


@dataclass(frozen=True)
class Sources:
    """Where pictures and networks come from.

    Attributes:
        photographs: Folder whose folders hold ``*.jpg``.
        fonts: Folder of ``*.ttf``.
        wheels: Folder in which downloaded wheels are kept.
    """

    photographs: Path
    fonts: Path
    wheels: Path

    def wheel(self, requirement: str) -> Path:
        """The wheel of ``name==version``, downloaded once."""
        name, version = requirement.split("==")
        pattern = f"{name.replace('-', '_')}-{version}-*.whl"
        if not list(self.wheels.glob(pattern)):
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
                       "--only-binary=:all:", "--dest", str(self.wheels), requirement]  # fmt: skip
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
                raise UnavailableError(f"cannot download {requirement}: {reason}")
        return next(self.wheels.glob(pattern))

    def font_files(self) -> list[Path]:
        return _files(self.fonts, "*.ttf", 1)


def _files(folder: Path, pattern: str, least: int) -> list[Path]:
    """Sorted by name; at least so many."""
    files = sorted(folder.glob(pattern))
    if len(files) < least:
        raise UnavailableError(f"{folder} has {len(files)} of {pattern}, not {least}")
    return files


def scenes(sources: Sources, side: int) -> np.ndarray:
    """Photographs with three to seven texts on each: ``[N, side, side, 3]``, RGB of 0 to 255."""
    generator = random.Random(0)
    fonts = sources.font_files()
    pictures = []
    count = CALIBRATION_IMAGES + JUDGES
    for photograph in _files(sources.photographs, "*/*.jpg", count)[:count]:
        picture = Image.open(photograph).convert("RGB").resize((320, 320))
        draw = ImageDraw.Draw(picture)
        for _ in range(generator.randint(3, 7)):
            text = " ".join(generator.sample(_WORDS, generator.randint(1, 3)))
            font = ImageFont.truetype(str(generator.choice(fonts)), generator.randint(14, 34))
            place = (generator.randint(0, 200), generator.randint(0, 290))
            color = tuple(generator.randint(0, 255) for _ in range(3))
            draw.text(place, text, fill=color, font=font)
        pictures.append(np.asarray(picture.resize((side, side))))
    return np.stack(pictures)


def lines(sources: Sources, width: int, *, turned: bool) -> np.ndarray:
    """Single lines of two words: ``[N, 48, width, 3]``; every other one upside down if `turned`."""
    generator = random.Random(1)
    fonts = sources.font_files()
    pictures = []
    for index in range(CALIBRATION_IMAGES + JUDGES):
        paper = tuple(generator.randint(120, 255) for _ in range(3))
        picture = Image.new("RGB", (width, 48), paper)
        font = ImageFont.truetype(str(generator.choice(fonts)), generator.randint(18, 28))
        place = (generator.randint(2, 20), generator.randint(2, 8))
        ink = tuple(generator.randint(0, 100) for _ in range(3))
        text = " ".join(generator.sample(_WORDS, 2))
        ImageDraw.Draw(picture).text(place, text, fill=ink, font=font)
        half_a_turn = turned and index % 2
        pictures.append(np.asarray(picture.rotate(180) if half_a_turn else picture))
    return np.stack(pictures)


@dataclass(frozen=True)
class TextNetwork:
    """One network and what it is shown.

    Attributes:
        wheel: Requirement whose wheel holds it.
        member: Its path in there.
        pictures: Renders what it reads, RGB.
        mean: Subtracted from each channel, of pixels from 0 to 255 in the order BGR.
        std: What is then divided by.
        judge: Names what is measured beside the SQNR; see `text_networks.quality`.
        learns: Whether it is also reconstructed.
        attends: Whether it has attention, for which NNCF has a setting.
    """

    wheel: str
    member: str
    pictures: Callable[[Sources], np.ndarray]
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    judge: str = ""
    learns: bool = False
    attends: bool = False

    def content(self, sources: Sources) -> bytes:
        """The ONNX file."""
        with zipfile.ZipFile(sources.wheel(self.wheel)) as archive:
            return archive.read(self.member)

    def images(self, sources: Sources) -> Tensor:
        """Normalized ``[N, 3, H, W]``; the first 32 calibrate."""
        blue_first = torch.from_numpy(self.pictures(sources)[..., ::-1].copy()).float()
        return ((blue_first - torch.tensor(self.mean)) / torch.tensor(self.std)).permute(
            0, 3, 1, 2
        ).contiguous()  # fmt: skip


def _pp_ocr(
    wheel: str, file: str, pictures: Callable[[Sources], np.ndarray], judge: str
) -> TextNetwork:
    member = f"rapidocr_onnxruntime/models/{file}.onnx"
    if judge != "map":
        return TextNetwork(wheel, member, pictures, judge=judge, attends="_rec_" in file)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # Of ImageNet, as PaddleOCR.
    return TextNetwork(wheel, member, pictures, mean, std, judge, learns=True)


def _scenes(side: int) -> Callable[[Sources], np.ndarray]:
    return lambda sources: scenes(sources, side)


def _lines(width: int, *, turned: bool = False) -> Callable[[Sources], np.ndarray]:
    return lambda sources: lines(sources, width, turned=turned)


_V4, _V3 = "rapidocr-onnxruntime==1.4.4", "rapidocr-onnxruntime==1.2.3"
NETWORKS = {
    "PP-OCRv4 detector": _pp_ocr(_V4, "ch_PP-OCRv4_det_infer", _scenes(320), "map"),
    "PP-OCRv3 detector": _pp_ocr(_V3, "ch_PP-OCRv3_det_infer", _scenes(320), "map"),
    "PP-OCRv4 recognizer": _pp_ocr(_V4, "ch_PP-OCRv4_rec_infer", _lines(320), "classes"),
    "PP-OCRv3 recognizer": _pp_ocr(_V3, "ch_PP-OCRv3_rec_infer", _lines(320), "classes"),
    # The same file in both wheels.
    "PP-OCRv2 direction": _pp_ocr(
        _V4, "ch_ppocr_mobile_v2.0_cls_infer", _lines(192, turned=True), "classes"
    ),
    "ddddocr detector": TextNetwork(
        "ddddocr==1.4.11", "ddddocr/common_det.onnx", _scenes(416), (0.0,) * 3, (1.0,) * 3
    ),
}
