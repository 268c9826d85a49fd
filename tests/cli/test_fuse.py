"""`repq fuse`: the merged weights and the table."""

import json

import pytest
from safetensors.torch import load_file

from repq_fx.cli.fuse import _short

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
    report = json.loads((tmp_path / "merged.safetensors.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["as it was", "merged"]
    assert report["rows"][1]["size_bytes"] < report["rows"][0]["size_bytes"]
    assert report["rows"][1]["sqnr_db"] > 60
    assert all(region["merged"] for region in report["regions"])
    assert report["regions"][0]["parameters_before"] > report["regions"][0]["parameters_after"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--input-shape": "1x3"}, "--input-shape must be whole numbers"),
        ({"--input-shape": "1,3,28,28"}, "the model fails on an image of 3x28x28"),
        ({"--out": "m.pt"}, "--out must end in .safetensors, got 'm.pt'"),
        ({"--out": "nowhere/m.safetensors"}, "--out: there is no folder 'nowhere'"),
    ],
    ids=["shape", "channels", "suffix", "folder"],
)
def test_bad_input_is_one_sentence(changes, message, repq, tmp_path):
    options = {"--out": tmp_path / "m.safetensors", "--input-shape": "1,1,28,28"} | changes
    code, _, error = repq("fuse", MODEL, *(x for pair in options.items() for x in pair))
    assert code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_counts_have_three_digits():
    counts = (7, 999, 1000, 10_432, 164_608, 2_621_440, 13_500_000_000)
    assert [_short(count) for count in counts] == [
        "7", "999", "1.00k", "10.4k", "165k", "2.62M", "13.5G",
    ]  # fmt: skip
