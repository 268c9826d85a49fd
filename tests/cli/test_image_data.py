"""Images from folders and packs."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from repq_fx import RepqError
from repq_fx.cli.image_data import ImageData, Preprocessing, open_images

PLAIN = Preprocessing(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_folder_names_are_classes(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 10), (255 * label, 0, 0)).save(tmp_path / name / "1.png")
    data = open_images(tmp_path, PLAIN)
    assert data.labels.tolist() == [0, 1]
    (batch,) = data.batches()
    assert batch.shape == (2, 3, 8, 8)
    assert batch[1, 0].eq(1).all()
    assert batch[:, 1:].eq(0).all()


def test_loose_images_have_no_labels(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    assert open_images(tmp_path, PLAIN).labels is None


def test_pack_is_decoded_in_batches(image_pack):
    data = open_images(image_pack, Preprocessing(28, (0.5,), (0.5,)))
    assert [len(batch) for batch in data.batches(size=10)] == [10, 10, 4]
    assert [len(batch) for batch in data.batches(5)] == [5]
    assert data.labels.dtype == torch.int64


@pytest.mark.parametrize("count", [1, 3, 9, 10, 99])
def test_images_that_calibrate_are_evenly_spread(count, image_pack):
    data = open_images(image_pack, Preprocessing(28, (0.5,), (0.5,)))
    chosen = data.evenly(count)
    expected = [index * 24 // min(count, 24) for index in range(min(count, 24))]
    assert chosen.count == min(count, 24)
    assert torch.equal(chosen.labels, data.labels[expected])
    assert torch.equal(torch.cat(list(chosen.batches())), torch.cat(list(data.batches()))[expected])


@given(total=st.integers(1, 500), count=st.integers(1, 600))
def test_evenly_means_all_different_and_no_gap_much_larger(total, count):
    data = ImageData(total, None, torch.tensor).evenly(count)
    chosen = torch.cat(list(data.batches())).tolist()
    assert len(chosen) == min(total, count)
    gaps = [after - before for before, after in pairwise(chosen)]
    assert chosen[0] == 0
    assert all(gap >= 1 for gap in gaps)
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_some_of_every_class_calibrate(tmp_path):
    for index in range(40):
        folder = tmp_path / f"class{index // 10}"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / f"{index}.png")
    data = open_images(tmp_path, PLAIN)
    assert data.folders == 4
    assert data.evenly(8).labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_is_missing_is_named_with_its_option(tmp_path):
    with pytest.raises(RepqError, match=r"^--eval-data must be .* there is no 'nowhere'"):
        open_images(Path("nowhere"), PLAIN, option="--eval-data")
    (tmp_path / "x.zip").touch()
    with pytest.raises(RepqError, match=r"^--data must be .* got .*x\.zip"):
        open_images(tmp_path / "x.zip", PLAIN)


def test_broken_images_of_a_pack_are_named(image_pack, tmp_path):
    arrays = dict(np.load(image_pack))
    arrays["jpeg"][: arrays["offset"][1]] = 0
    np.savez(tmp_path / "broken.npz", **arrays)
    data = open_images(tmp_path / "broken.npz", PLAIN)
    with pytest.raises(RepqError, match=r"image 0 of .*broken\.npz' cannot be read"):
        data.read(0)


def test_normalization_and_size():
    image = Image.new("RGB", (50, 30), (255, 255, 255))
    tensor = Preprocessing(16)(image)
    assert tensor.shape == (3, 16, 16)
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(tensor[:, 3, 3], expected)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros(3)}, r"it holds pixels \(3,\)"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3)}, "2 images but labels"),
        ({}, "it holds nothing"),
    ],
    ids=["names", "labels", "empty"],
)
def test_other_layouts_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(RepqError, match=message):
        open_images(tmp_path / "x.npz", PLAIN)


def test_broken_files_are_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(RepqError, match=r"x\.npz.* cannot be read"):
        open_images(tmp_path / "x.npz", PLAIN)
    (tmp_path / "1.png").write_bytes(b"PNG")
    with pytest.raises(RepqError, match=r"1\.png.* cannot be read"):
        list(open_images(tmp_path, PLAIN).batches())
    (tmp_path / "empty").mkdir()
    with pytest.raises(RepqError, match="no images"):
        open_images(tmp_path / "empty", PLAIN)
