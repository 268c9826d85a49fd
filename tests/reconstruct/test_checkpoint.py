"""What a run has learned so far, in a file."""

import hashlib
import io
import random

import pytest
import torch

from repq_fx import FileFormatError
from repq_fx.quant import AffineParameters, CoarseFine, PerChannel
from repq_fx.reconstruct.checkpoint import Checkpoint, fingerprint_of
from repq_fx.reconstruct.training import PartReport
from repq_fx.refine.refinement import Refinement


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


def sealed(content, path):
    """Write what a forger would: anything, with the right checksum."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    path.write_bytes(b"repq_fx reconstruction 2 " + digest + b"\n" + buffer.getvalue())


def with_parts(parts):
    return lambda path: sealed({"fingerprint": "x", "parts": parts}, path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"garbage"),
        lambda path: path.write_bytes(b""),
        lambda path: torch.save({"weights": torch.ones(3)}, path),
        lambda path: torch.save({"format": "repq_fx reconstruction 1", "parts": {}}, path),
        lambda path: sealed([1, 2], path),
        lambda path: sealed({"fingerprint": "x"}, path),
        lambda path: sealed(REPORT, path),
        with_parts([1]),
        with_parts({0: 3}),
        with_parts({0: {"weights": {"a": {"depth": 1}}, "biases": {}, "ranges": {}}}),
        with_parts({0: {"weights": {}, "biases": 1, "ranges": {}, "report": None}}),
        with_parts({0: {"weights": {}, "biases": {}, "ranges": {}, "report": {"a": 1}}}),
    ],
    ids=["garbage", "empty", "other-dict", "version-1", "list", "half", "code", "parts-list",
         "part", "weights", "biases", "report"],
)  # fmt: skip
def test_files_that_are_no_checkpoints_are_refused(tmp_path, spoil):
    path = tmp_path / "run.ckpt"
    spoil(path)
    with pytest.raises(FileFormatError, match=r"run\.ckpt' is no checkpoint of reconstruct"):
        Checkpoint(path, "x")


def test_any_flipped_bit_and_any_cut_is_noticed(tmp_path, refinement):
    path, generator = tmp_path / "run.ckpt", random.Random(0)
    Checkpoint(path, "x").add(0, refinement, REPORT)
    content = path.read_bytes()
    for place in [*range(100), *generator.sample(range(len(content)), 300)]:
        changed = bytearray(content)
        changed[place] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(FileFormatError):
            Checkpoint(path, "x")
    for kept in (len(content) - 1, len(content) - 200, 60, 10):
        path.write_bytes(content[:kept])
        with pytest.raises(FileFormatError):
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
