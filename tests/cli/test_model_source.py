"""Weights files that do not fit."""

import pytest
import torch
from safetensors.torch import save_file

from repq_fx import FileFormatError
from repq_fx.cli.model_source import build_model, load_weights
from repq_fx.models import fashion_repvgg


def test_both_file_kinds_load(tmp_path):
    source, target = fashion_repvgg(), fashion_repvgg()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": source.state_dict()}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        load_weights(target, tmp_path / name)
        assert torch.equal(target.classifier.weight, source.classifier.weight)


def test_keys_that_do_not_match_are_listed(tmp_path):
    state = {f"module.{name}": value for name, value in fashion_repvgg().state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(FileFormatError, match=r"missing \(classifier.bias, .*unexpected \(module."):
        load_weights(fashion_repvgg(), tmp_path / "w.safetensors")


def test_wrong_shapes_are_named(tmp_path):
    state = fashion_repvgg().state_dict() | {"classifier.bias": torch.zeros(3)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(FileFormatError, match=r"'classifier.bias' is \(3,\), the model needs"):
        load_weights(fashion_repvgg(), tmp_path / "w.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_files_are_named(suffix, tmp_path):
    path = tmp_path / f"w{suffix}"
    state = fashion_repvgg().state_dict()
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match=path.name):
        load_weights(fashion_repvgg(), path)


@pytest.mark.parametrize("name", ["whole.pt", "net.onnx"])
def test_other_files_are_named_without_the_advice_to_run_them(name, tmp_path):
    if name == "whole.pt":
        torch.save(fashion_repvgg(), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"\x08\x07onnx" * 40)
    with pytest.raises(FileFormatError) as found:
        load_weights(fashion_repvgg(), tmp_path / name)
    assert name in str(found.value)
    assert "torch.save(model.state_dict(), ...)" in str(found.value)
    assert "\x1b" not in str(found.value)


def test_code_in_a_pickle_is_not_run(tmp_path):
    torch.save({"weights": build_model}, tmp_path / "w.pt")
    with pytest.raises(FileFormatError, match="weights_only"):
        load_weights(fashion_repvgg(), tmp_path / "w.pt")


def test_timm_models_come_with_their_preprocessing():
    pytest.importorskip("timm", reason="timm is not installed")
    model, preprocessing = build_model("timm:mobileone_s0")
    assert not model.training
    assert (preprocessing.size, len(preprocessing.mean)) == (224, 3)
