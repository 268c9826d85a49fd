"""Checkpoints that cannot be read or written, with no repository installed."""

import sys
import types

import pytest
import torch
from torch import nn

from repq_fx.errors import RepqError
from repq_fx.integrations.pickled_detector import Repository, read_checkpoint, write_checkpoint

REPOSITORY = Repository("absent_package_detect", letterbox="utils", maps_per_level=1)


def test_reads_the_averaged_network_first(tmp_path):
    path = tmp_path / "both.pt"
    torch.save({"model": nn.Conv2d(1, 1, 1), "ema": nn.Linear(1, 1)}, path)
    assert isinstance(read_checkpoint(path, REPOSITORY), nn.Linear)
    torch.save({"model": nn.Conv2d(1, 1, 1), "ema": None}, path)
    assert isinstance(read_checkpoint(path, REPOSITORY), nn.Conv2d)


def test_missing_file(tmp_path):
    with pytest.raises(RepqError, match=r"there is no checkpoint '.*none.pt'"):
        read_checkpoint(tmp_path / "none.pt", REPOSITORY)


@pytest.mark.parametrize("content", [b"", b"no checkpoint"], ids=["empty", "text"])
def test_another_file(content, tmp_path):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(RepqError, match="is not a checkpoint that can be read"):
        read_checkpoint(path, REPOSITORY)


@pytest.mark.parametrize("content", [{"model": {"weight": 1}}, [1]], ids=["weights", "list"])
def test_no_network_inside(content, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(RepqError, match="holds no network under 'ema' or 'model'"):
        read_checkpoint(tmp_path / "weights.pt", REPOSITORY)


def test_missing_package_names_the_line_to_install(tmp_path, monkeypatch):
    module = types.ModuleType("a_repository")
    exec("import torch\nclass Model(torch.nn.Module): pass", vars(module))
    monkeypatch.setitem(sys.modules, "a_repository", module)
    torch.save({"model": module.Model()}, tmp_path / "model.pt")
    monkeypatch.delitem(sys.modules, "a_repository")
    with pytest.raises(RepqError, match=f"'a_repository'.*pip install {REPOSITORY.package}"):
        read_checkpoint(tmp_path / "model.pt", REPOSITORY)


def test_only_results_are_written(tmp_path):
    with pytest.raises(RepqError, match="expected what quantize or merge returned, got a Conv2d"):
        write_checkpoint(nn.Conv2d(1, 1, 1), tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
