"""Outputs over a data set."""

import torch
from torch import nn

from repq_fx.analysis import predict, top1_accuracy


def test_predict_concatenates_batches():
    model = nn.Linear(3, 2)
    rows = torch.randn(7, 3)
    scores = predict(model, rows.split(2), progress=False)
    torch.testing.assert_close(scores, model(rows).detach())


def test_top1_accuracy_in_percent():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert top1_accuracy(scores, torch.tensor([0, 1, 0, 0])) == 75.0
