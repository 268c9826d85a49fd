"""Outputs over a data set, and what is said of them."""

import math

import pytest
import torch
from torch import nn

from repq_fx.analysis import agreement, predict, sqnr_db, top1_accuracy


def test_predict_concatenates_batches():
    model = nn.Linear(3, 2)
    rows = torch.randn(7, 3)
    scores = predict(model, rows.split(2), progress=False)
    torch.testing.assert_close(scores, model(rows).detach())


def test_top1_accuracy_in_percent():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert top1_accuracy(scores, torch.tensor([0, 1, 0, 0])) == 75.0


def test_sqnr_of_a_known_ratio():
    reference = torch.tensor([3.0, 4.0])
    assert sqnr_db(reference, reference + torch.tensor([0.0, 0.5])) == pytest.approx(20.0)


def test_sqnr_of_equal_and_of_silent_tensors():
    ones = torch.ones(3)
    assert sqnr_db(ones, ones) == math.inf
    assert sqnr_db(torch.zeros(3), ones) == -math.inf


def test_agreement_counts_rows():
    reference = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    other = torch.tensor([[2.0, 0.0], [0.0, 0.1], [1.0, 0.0], [3.0, 0.0]])
    assert agreement(reference, other) == 75.0
