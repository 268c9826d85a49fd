"""What is measured of outputs, whatever their structure."""

import math

import torch
from torch import nn

import repq_fx
from repq_fx.analysis.report import (
    accuracy_fields,
    float_size,
    scores_of,
    similarity_fields,
    slow_steps_of,
)

SCORES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])


def test_only_scores_of_classes_have_an_accuracy():
    labels = torch.tensor([0, 1, 0, 0])
    assert accuracy_fields(SCORES, labels) == {"top1_percent": 75.0}
    assert accuracy_fields(SCORES, None) == {}
    assert accuracy_fields(SCORES.unsqueeze(1), labels) == {}
    assert similarity_fields(SCORES, SCORES) == {"sqnr_db": math.inf, "agreement_percent": 100.0}
    assert similarity_fields(SCORES[None], SCORES[None]) == {"sqnr_db": math.inf}


def test_the_size_of_a_checkpoint_counts_parameters_and_buffers():
    assert float_size(nn.BatchNorm2d(3)) == 4 * 3 * 4 + 8


def test_only_integer_programs_have_slow_steps():
    model, images = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval(), torch.randn(2, 1, 8, 8)
    quantized = {
        backend: repq_fx.quantize(model, images, backend=backend, progress=False)
        for backend in ("int8", "reference")
    }
    assert slow_steps_of(model, quantized["reference"], images[:1], threads=1) is None
    assert isinstance(slow_steps_of(model, quantized["int8"], images[:1], threads=1), tuple)


def test_outputs_of_any_structure_become_one_tensor():
    def model(batch):
        return {"a": batch, "b": [2 * batch[:, 0], "text"]}

    found = scores_of(model, torch.ones(6, 2, 2).split(3), label="x")
    assert found.shape == (6, 1, 6)
    assert found[0, 0].tolist() == [1, 1, 1, 1, 2, 2]
    assert torch.equal(scores_of(torch.nn.Identity(), [torch.ones(2, 3)], label="x"),
                       torch.ones(2, 3))  # fmt: skip
