"""Early stopping: the rule on series of evaluations."""

import math

import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.tasks.table import make_task
from segjax.training.early_stopping import EarlyStopping, evaluations_in


def stops_at(values, metric="mean_iou", **rule):
    """The first step at which the rule ends a run with these values; None where it does not."""
    stopping = EarlyStopping(metric=metric, **rule)
    found = [(10 * (i + 1), {metric: value}) for i, value in enumerate(values)]
    stops = [
        step for i, (step, _) in enumerate(found) if stopping.reason(found[: i + 1])
    ]
    return stops[0] if stops else None


@pytest.mark.parametrize(
    ("values", "rule", "step"),
    [
        ([0.1, 0.2, 0.3, 0.4], {"patience": 1}, None),
        ([0.1, 0.2, 0.2, 0.4], {"patience": 1}, 30),
        ([0.3, 0.2, 0.4, 0.3, 0.3], {"patience": 2}, 50),
        ([0.3, 0.2, 0.3, 0.4], {"patience": 3}, None),
        ([0.5, 0.55, 0.59, 0.7], {"patience": 2, "min_delta": 0.1}, 30),
        ([0.5, 0.55, 0.7, 0.7], {"patience": 2, "min_delta": 0.1}, None),
        ([math.nan, None, 0.1, math.nan], {"patience": 3}, None),
        ([math.nan, None, 0.1], {"patience": 2}, 20),
        ([0.3, 0.2, 0.25, 0.1], {"patience": 1, "metric": "rand_error"}, 30),
    ],
)
def test_a_run_ends_after_so_many_evaluations_that_were_no_better(values, rule, step):
    assert stops_at(values, **rule) == step


def test_the_reason_names_metric_value_and_step():
    rule = EarlyStopping(patience=1, metric="rand_error")
    found = [(5, {"rand_error": 0.25}), (10, {"rand_error": 0.5})]
    assert rule.reason(found) == (
        "rand_error has not been better than 0.25, of step 5, in 1 evaluations"
    )
    undefined = EarlyStopping(patience=1, metric="x").reason([(5, {"x": None})])
    assert undefined == "x has not been defined in 1 evaluations"


def test_later_rows_and_other_splits_do_not_count():
    rows = [
        {"step": step, "split": split, "x": 1.0}
        for step in (1, 2, 3)
        for split in ("train", "validation")
    ]
    found = evaluations_in(rows, "validation", 2)
    assert [(step, row["split"]) for step, row in found] == [
        (1, "validation"),
        (2, "validation"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"patience": 0}, "patience is 0"),
        ({"patience": 2.0}, "patience is 2.0"),
        ({"patience": 1, "min_delta": -1}, "min_delta is -1"),
        ({"patience": 1, "min_delta": math.nan}, "min_delta is nan"),
        ({"patience": 1, "metric": "sections"}, "metric is 'sections'"),
    ],
)
def test_rules_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        EarlyStopping(**arguments)


def test_a_metric_that_is_not_measured_is_a_sentence():
    with pytest.raises(UserError, match=r"'mean_iuo', which is not measured.*mean_iou"):
        EarlyStopping(1, metric="mean_iuo").require_metric({"mean_iou"})


@pytest.mark.parametrize("metric", ["mean_iuo", "iuo/cell", "dice"])
def test_it_is_looked_for_before_data_are_opened(smoke, metric):
    smoke.early_stopping = {"patience": 1, "metric": metric}
    with pytest.raises(UserError, match=rf"early_stopping\.metric is '{metric}'"):
        make_task(smoke)
    make_task(smoke, training=False)


def test_that_of_a_class_is_looked_for_once_the_classes_are_known(smoke, cache_dir):
    smoke.early_stopping = {"patience": 1, "metric": "iou/house"}
    task = make_task(smoke)
    with pytest.raises(UserError, match=r"early_stopping\.metric .*'iou/house'"):
        task.open_dataset(cache_dir, None)


def test_that_of_objects_is_known_without_data():
    config = config_lib.load("mask_rcnn_shapes:smoke")
    config.early_stopping = {"patience": 1, "metric": "mask_AP/disc"}
    make_task(config)
    config.early_stopping.metric = "mask_AP51"
    with pytest.raises(UserError, match="mask_AP51', which is not"):
        make_task(config)
