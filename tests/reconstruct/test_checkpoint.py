"""What a run has learned so far, in a file."""

import pytest
import torch

from repq_fx import FileFormatError
from repq_fx.backend.refinement import Refinement
from repq_fx.quant import AffineParameters, CoarseFine, PerChannel
from repq_fx.reconstruct.checkpoint import Checkpoint, fingerprint_of
from repq_fx.reconstruct.training import PartReport


@pytest.fixture
def refinement():
    weight = torch.randn(4, 3, 3, 3)
    return Refinement(
        {
            "a": CoarseFine(threshold=0).quantize(weight, 4),
            "b.c": PerChannel().quantize(weight, 16),
        },
        {"a": torch.randn(4), "b.c": None},
        {"observer": AffineParameters(0.1, 7)},
    )


REPORT = PartReport("a .. b.c", 0.5, 0.25, 100, "a reason")


def assert_same(found, wanted):
    assert found.ranges == wanted.ranges
    assert found.biases.keys() == wanted.biases.keys() == found.weights.keys()
    for name, weight in wanted.weights.items():
        torch.testing.assert_close(vars(found.weights[name]), vars(weight), rtol=0, atol=0)
        torch.testing.assert_close(found.biases[name], wanted.biases[name], rtol=0, atol=0)


@pytest.mark.parametrize("report", [REPORT, None], ids=["learned", "not-learned"])
def test_a_part_comes_back_as_it_was(tmp_path, refinement, report):
    path = tmp_path / "run.ckpt"
    written = Checkpoint(path, "x")
    assert not path.exists()
    written.add(0, refinement, report)
    written.add(1, Refinement(), None)
    assert list(tmp_path.iterdir()) == [path]
    for checkpoint in (written, Checkpoint(path, "x")):
        assert [part in checkpoint for part in range(3)] == [True, True, False]
        found, found_report = checkpoint[0]
        assert_same(found, refinement)
        assert found_report == report
        assert_same(checkpoint[1][0], Refinement())


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch, refinement):
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint(None, "x")
    checkpoint.add(0, refinement, REPORT)
    assert_same(checkpoint[0][0], refinement)
    assert list(tmp_path.iterdir()) == []


def test_the_checkpoint_of_another_run_is_refused(tmp_path, refinement):
    path = tmp_path / "run.ckpt"
    Checkpoint(path, "x").add(0, refinement, None)
    content = path.read_bytes()
    with pytest.raises(FileFormatError, match=r"run\.ckpt' is the checkpoint of another run"):
        Checkpoint(path, "y")
    assert path.read_bytes() == content


def truncated(path):
    Checkpoint(path, "x").add(0, Refinement(), None)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"garbage"),
        lambda path: path.write_bytes(b""),
        lambda path: torch.save({"weights": torch.ones(3)}, path),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({"format": "repq_fx reconstruction 1"}, path),
        lambda path: torch.save(REPORT, path),
        truncated,
    ],
    ids=["garbage", "empty", "other-dict", "list", "half", "code", "truncated"],
)
def test_files_that_are_no_checkpoints_are_refused(tmp_path, spoil):
    path = tmp_path / "run.ckpt"
    spoil(path)
    with pytest.raises(FileFormatError, match=r"run\.ckpt' is no checkpoint of reconstruct"):
        Checkpoint(path, "x")


def test_a_failed_write_leaves_the_parts_before(tmp_path, monkeypatch, refinement):
    path = tmp_path / "run.ckpt"
    checkpoint = Checkpoint(path, "x")
    checkpoint.add(0, refinement, REPORT)

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            checkpoint.add(1, refinement, REPORT)
    found = Checkpoint(path, "x")
    assert_same(found[0][0], refinement)
    assert 1 not in found
    assert list(tmp_path.iterdir()) == [path]


def test_a_fingerprint_is_of_text_and_values():
    tensors = [torch.randn(3, 4), torch.arange(5), torch.tensor(2.5), torch.ones(2, 3).T]
    first = fingerprint_of("text", tensors)
    assert fingerprint_of("text", [t.clone() for t in tensors]) == first
    assert fingerprint_of("Text", tensors) != first
    for tensor in tensors:
        tensor.view(-1)[-1:].add_(1) if tensor.is_contiguous() else tensor.add_(1)
        changed = fingerprint_of("text", tensors)
        assert changed != first
        first = changed
