"""The RepVGG networks of the CFWS paper, for the checkpoints that RepVGG's authors publish."""

from pathlib import Path

import torch
from torch import nn

from repq_fx.cli.model_source import build_model, load_weights
from repq_fx.errors import FileFormatError
from repq_fx.models import RepVGG

WIDTHS_AND_DEPTHS = {
    "repvgg_a0": ((48, 48, 96, 192, 1280), (2, 4, 14, 1)),
    "repvgg_a1": ((64, 64, 128, 256, 1280), (2, 4, 14, 1)),
    "repvgg_b0": ((64, 64, 128, 256, 1280), (4, 6, 16, 1)),
    "repvgg_b1": ((64, 128, 256, 512, 2048), (4, 6, 16, 1)),
}
# Their names for the parts of a block, and ours.
_BRANCHES = {"rbr_dense.conv": "dense.0", "rbr_dense.bn": "dense.1", "rbr_1x1.conv": "pointwise.0",
             "rbr_1x1.bn": "pointwise.1", "rbr_identity": "identity"}  # fmt: skip


def load_model(name: str, weights: Path) -> nn.Module:
    """A network of the table in training form, or any MODEL that ``repq quantize`` takes.

    Raises:
        RepqError: The file is not a checkpoint of that network, or the name is malformed.
    """
    if name not in WIDTHS_AND_DEPTHS:
        model, _ = build_model(name)
        load_weights(model, weights)
        return model
    model = RepVGG(*WIDTHS_AND_DEPTHS[name], classes=1000).eval()
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception:  # `load_weights` says what is wrong, or reads a .safetensors file.
        state = {}
    state = state.get("state_dict", state)
    if not any("rbr_dense" in key for key in state):
        if any("rbr_reparam" in key for key in state):
            raise FileFormatError(f"{str(weights)!r} is merged already; use the training form.")
        load_weights(model, weights)
        return model
    model.load_state_dict({rename(key): value for key, value in state.items()})
    return model


def rename(key: str) -> str:
    """The key of `repq_fx.models.RepVGG` for one of the authors' ``RepVGG-*-train.pth``."""
    stage, _, rest = key.removeprefix("module.").partition(".")
    if stage == "linear":
        return f"classifier.{rest}"
    for theirs, ours in _BRANCHES.items():
        rest = rest.replace(theirs, ours)
    return f"stem.{rest}" if stage == "stage0" else f"stages.{int(stage[5:]) - 1}.{rest}"
