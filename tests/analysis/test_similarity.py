"""Similarity measures on hand-made tensors."""

import math

import pytest
import torch

from repq_fx.analysis import agreement, sqnr_db


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
