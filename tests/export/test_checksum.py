"""A changed byte anywhere in a file is noticed before anything in it is used."""

import random

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import FileFormatError
from repq_fx.export import checksum
from tests.export.model_files import edited

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.repq"
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    repq_fx.save(repq_fx.quantize(model, [IMAGES], progress=False), path)
    return path.read_bytes()


def test_any_flipped_bit_is_noticed(content, tmp_path):
    path, generator = tmp_path / "model.repq", random.Random(0)
    for place in [*range(8), *generator.sample(range(len(content)), 300), len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(FileFormatError):
            repq_fx.load(path)


def test_a_flipped_bit_of_a_weight_is_named_as_damage(content, tmp_path):
    (tmp_path / "model.repq").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FileFormatError, match="is damaged: it does not have its own checksum"):
        repq_fx.load(tmp_path / "model.repq")


def test_a_file_without_its_checksum_is_refused(content, tmp_path):
    path = tmp_path / "model.repq"
    path.write_bytes(content.replace(b'\\"sha256\\"', b'\\"sha257\\"', 1))
    with pytest.raises(FileFormatError, match="'sha256' is missing"):
        repq_fx.load(path)


def test_files_of_version_2_have_no_checksum(content, tmp_path):
    path = tmp_path / "model.repq"
    path.write_bytes(content)
    expected = repq_fx.load(path)(IMAGES)

    def age(header):
        header["version"] = 2
        del header["repeats"]

    edited(path, age)
    path.write_bytes(path.read_bytes().replace(b'\\"sha256\\"', b'\\"sha257\\"', 1))
    assert torch.equal(repq_fx.load(path)(IMAGES), expected)


@pytest.mark.parametrize("found", ["", "0" * 63, "é" * 64], ids=["empty", "short", "accents"])
def test_what_is_no_sum_is_not_one(found):
    assert not checksum.is_intact(b"content", found)
