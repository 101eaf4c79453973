"""What evaluate prints for people."""

import numpy as np

from segjax.commands.results import metric_lines
from segjax.metrics import matching_metrics, semantic_metrics
from segjax.metrics.matching_f1 import THRESHOLDS


def test_of_many_figures_of_objects_the_main_ones_are_printed_beside_the_baseline():
    objects = matching_metrics(np.ones((1, len(THRESHOLDS), 4)))
    pixels = semantic_metrics(np.eye(2), ("background", "nucleus"))
    below = {f"watershed/{name}": 0.25 for name in objects}
    asked = {"boundary_f1": 0.5}
    lines = metric_lines({"step": 3, **pixels, **asked, **objects, **below})
    printed = [line.split() for line in lines]
    assert printed[0] == ["network", "watershed"]
    assert ["f1@0.5", "0.5000", "0.2500"] in printed
    assert ["iou/nucleus", "1.0000"] in printed
    names = {words[0] for words in printed}
    assert {
        "boundary_f1",
        "precision@0.75",
        "recall@0.75",
        "mean_f1",
        "panoptic_quality@0.5",
    } < names
    assert not {"f1@0.55", "matching_ap@0.5", "dsb_score", "step"} & names
    assert len(lines) < 17


def test_few_figures_are_all_printed():
    pixels = semantic_metrics(np.eye(2), ("background", "nucleus"))
    lines = metric_lines({"split": "test", **pixels})
    assert [line.split()[0] for line in lines] == list(pixels)
