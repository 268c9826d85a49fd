"""What of a part is learned, and in which mode the rest runs."""

import torch
from torch import nn

import repq_fx
from repq_fx import RepAPQ, Scheme
from repq_fx.reconstruct.learned_part import LearnedPart
from repq_fx.refine.refinement import Refinement
from tests.reconstruct.nets import conv, inputs_of, lively, prepared_net


class Dropping(nn.Module):
    """Dropout and a normalization that no convolution can take up."""

    def __init__(self):
        super().__init__()
        self.first, self.second = conv(3, 8), conv(8, 8)
        self.norm, self.drop = nn.BatchNorm2d(8), nn.Dropout(0.9)

    def forward(self, image):
        x = self.first(image).relu()
        return self.second(self.drop(torch.tanh(self.norm(x))))


def test_dropout_and_normalization_stay_in_evaluation(monkeypatch):
    modes = []
    original = LearnedPart.harden

    def harden(part, *, hard):
        original(part, hard=hard)
        modes.append({type(m).__name__ for m in part.module.modules() if m.training})

    monkeypatch.setattr(LearnedPart, "harden", harden)
    model = lively(Dropping())
    data = inputs_of(model, 24)
    prepared = prepared_net(model, data, Scheme.w4a8())
    statistics = {n: b.clone() for n, b in prepared.named_buffers() if "running" in n}
    method = RepAPQ(iterations=3, batch_size=8, validation=0.25)
    repq_fx.reconstruct(prepared, data, method, progress=False)
    assert Refinement.left_on(prepared) is not None
    inside = set().union(*modes)
    assert "LearnedStep" in inside
    assert not inside & {"Dropout", "BatchNorm2d"}
    after = dict(prepared.named_buffers())
    assert all(torch.equal(after[name], value) for name, value in statistics.items())
