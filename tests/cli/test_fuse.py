"""`repq fuse`: the merged weights and the table."""

from safetensors.torch import load_file

MODEL = "repq_fx.models:fashion_repvgg"


def test_writes_merged_weights(repq, weights, tmp_path):
    out = tmp_path / "merged.safetensors"
    code, output, _ = repq(
        "fuse", MODEL, "--weights", weights, "--out", out, "--input-shape", "1,1,28,28"
    )
    assert code == 0
    assert "stem" in output
    assert output.count(" merged") >= 9
    state = load_file(out)
    assert not any("running_mean" in name for name in state)


def test_bad_shape_is_one_sentence(repq, tmp_path):
    code, _, error = repq("fuse", MODEL, "--out", tmp_path / "m", "--input-shape", "1x3")
    assert code == 1
    assert "--input-shape must be whole numbers" in error
