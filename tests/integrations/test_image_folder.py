"""Folders of images: order, batches, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from repq_fx.errors import RepqError
from repq_fx.integrations.image_folder import ImageFolder


def stretch(image, shape, auto):
    """A letterbox function without a frame, which asserts how it is called."""
    assert not auto
    height, width = shape
    return np.array(Image.fromarray(image).resize((width, height))), 1.0, (0, 0)


def write(path, color, mode="RGB"):
    path.parent.mkdir(exist_ok=True)
    Image.new(mode, (20, 10), color).save(path)


def test_batches_of_the_first_images(tmp_path):
    write(tmp_path / "b.png", (255, 0, 0))
    write(tmp_path / "a.jpg", 51, "L")
    write(tmp_path / "c" / "c.bmp", (0, 0, 255))
    write(tmp_path / "c" / "d.png", (0, 0, 0))
    (tmp_path / "a.txt").write_text("no image")
    folder = ImageFolder(tmp_path, stretch, count=3, side=8, batch=2)
    for _ in range(2):
        first, second = folder
        assert len(folder) == 2
        assert first.shape == (2, 3, 8, 8)
        assert second.shape == (1, 3, 8, 8)
        torch.testing.assert_close(first[0], torch.full((3, 8, 8), 0.2), rtol=0, atol=0.01)
        torch.testing.assert_close(first[1, :, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
        torch.testing.assert_close(second[0, :, 0, 0], torch.tensor([0.0, 0.0, 1.0]))


def test_refusals(tmp_path):
    with pytest.raises(RepqError, match=r"there is no folder '.*missing'"):
        ImageFolder(tmp_path / "missing", stretch, 1, 8, 1)
    with pytest.raises(RepqError, match="there are no images in"):
        ImageFolder(tmp_path, stretch, 1, 8, 1)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        ImageFolder(tmp_path, stretch, 1, 8, 0)
    with pytest.raises(RepqError, match=r"cannot read the image '.*broken.jpg'"):
        list(ImageFolder(tmp_path, stretch, 1, 8, 1))
