"""Results that are bad, few images, labels that do not fit."""

import math

import pytest
import torch

from repq_fx import RepqError
from repq_fx.analysis.report import Row
from repq_fx.cli.caveats import labels_for, warn_of_bad_result, warn_of_few_images
from repq_fx.cli.image_data import ImageData
from repq_fx.cli.stages import Stages

NOISE = {"stem": 0.1, "body": 0.6, "head": 0.3, "tail": 0.0}


def warnings_of(reference, row):
    stages = Stages()
    warn_of_bad_result([Row("FP32", **reference), Row("INT8", **row)], lambda: NOISE, stages)
    return stages.warnings


@pytest.mark.parametrize(
    ("reference", "row"),
    [
        ({}, {"sqnr_db": 14.9}),
        ({}, {"sqnr_db": 20.0, "agreement_percent": 89.9}),
        ({}, {"sqnr_db": -math.inf}),
        ({}, {"sqnr_db": math.nan}),
        ({"map50_95_percent": 40.0}, {"sqnr_db": 30.0, "map50_95_percent": 37.9}),
    ],
    ids=["noise", "agreement", "silence", "nan", "precision"],
)
def test_bad_results_name_three_layers(reference, row):
    (warning,) = warnings_of(reference, row)
    assert "body (60%), head (30%), stem (10%)." in warning
    assert "tail" not in warning


@pytest.mark.parametrize(
    ("reference", "row"),
    [
        ({}, {"sqnr_db": 15.0, "agreement_percent": 90.0}),
        ({}, {"sqnr_db": math.inf}),
        ({"map50_95_percent": 40.0}, {"sqnr_db": 30.0, "map50_95_percent": 38.1}),
    ],
    ids=["limits", "equal", "precision"],
)
def test_good_results_do_not(reference, row):
    assert warnings_of(reference, row) == []


@pytest.mark.parametrize(("count", "warned"), [(1, True), (15, True), (16, False)])
def test_few_images_are_a_warning(count, warned):
    stages = Stages()
    warn_of_few_images(count, stages)
    assert bool(stages.warnings) == warned


def images(labels, folders=None):
    return ImageData(len(labels), torch.tensor(labels), torch.zeros, "x.npz", folders)


def test_labels_are_used_where_they_are_classes():
    stages = Stages()
    scores = torch.zeros(1, 3)
    assert labels_for(images([0, 2]), scores, stages).tolist() == [0, 2]
    assert labels_for(images([0, 2], folders=3), scores, stages).tolist() == [0, 2]
    assert labels_for(images([0, 2]), torch.zeros(1, 3, 4, 4), stages) is None
    assert labels_for(images([0, 2]), (scores,), stages) is None
    assert stages.warnings == []
    assert labels_for(images([0, 1], folders=2), scores, stages) is None
    assert "scores 3 classes, but 'x.npz' has 2 subfolders" in stages.warnings[0]


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(RepqError, match="labels from 1 to 3, but the model scores 3 classes"):
        labels_for(images([1, 3]), torch.zeros(1, 3), Stages())


def test_a_result_stands_without_its_diagnosis():
    def fail():
        raise RepqError("no way.")

    stages = Stages()
    warn_of_bad_result([Row("FP32"), Row("INT8", sqnr_db=3.0)], fail, stages)
    unknown, bad = stages.warnings
    assert unknown == "which layers hurt most is unknown: no way."
    assert "far from FP32 (SQNR 3.0 dB)" in bad
