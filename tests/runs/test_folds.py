"""train --folds: runs of their own, their mean and spread, and one prediction of all."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from segjax.data.dataset import Dataset
from segjax.data.files.images import normalize
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.runs import folds
from segjax.runs.evaluate import evaluate_run
from segjax.runs.exports.model import export_run
from segjax.runs.folds import summarize_folds, train_folds
from segjax.runs.load import load_trained
from segjax.runs.train import _few_images, train
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop


def test_folds_are_trained_once_and_predict_together(
    smoke, cache_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    workdir = tmp_path / "run"
    results, summary = train_folds(smoke, workdir, 2, cache_dir)
    assert len({result.parameters_sha256 for result in results}) == 2
    kept = json.loads((workdir / "folds.json").read_text())
    assert kept["mean"]["mean_iou"] == summary["mean"]["mean_iou"]

    monkeypatch.setattr(loop, "compile_step", None)  # nothing is trained again
    again, same = train_folds(smoke, workdir, 2, cache_dir)
    assert [x.parameters_sha256 for x in again] == [
        x.parameters_sha256 for x in results
    ]
    assert same["mean"]["mean_iou"] == summary["mean"]["mean_iou"]

    both = load_trained(workdir)
    assert both.folds == 2
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 1), np.uint8)
    seen = normalize(image, both.task.normalization)
    models = [load_trained(workdir / f"fold_{i}") for i in range(2)]
    found, *each = (
        x.task.predictor(x.variables).probabilities(seen) for x in (both, *models)
    )
    np.testing.assert_allclose(found, np.mean(each, 0), atol=1e-6)
    np.testing.assert_array_equal(both.labels(image), found.argmax(-1))

    export_run(workdir / "fold_1", tmp_path / "fold.segjax", best=False)
    measured = evaluate_run(tmp_path / "fold.segjax", cache_dir=cache_dir)
    assert measured["mean_iou"] == pytest.approx(results[1].metrics["mean_iou"])
    open_data, fewer = (
        SemanticTask.open_dataset,
        lambda dataset: dataclasses.replace(
            dataset,
            splits=dict(dataset.splits) | {"train": dataset.splits["train"][1:]},
        ),
    )
    changed = lambda *given: fewer(open_data(*given))
    monkeypatch.setattr(SemanticTask, "open_dataset", changed)
    for fold in (workdir / "fold_1", tmp_path / "fold.segjax"):
        with pytest.raises(UserError, match="which are divided otherwise"):
            evaluate_run(fold, cache_dir=cache_dir)

    with pytest.raises(UserError, match="each trained on images of the split"):
        evaluate_run(workdir, cache_dir=cache_dir)
    with pytest.raises(UserError, match="tune is for one network"):
        both.single("tune")
    with pytest.raises(UserError, match="go on with --folds=2"):
        train_folds(smoke, workdir, 3, cache_dir)
    with pytest.raises(UserError, match="holds 2 folds"):
        train(smoke, workdir, cache_dir)
    (workdir / "fold_1" / "config.json").unlink()
    with pytest.raises(UserError, match="fold_1 is missing, one of 2 folds"):
        load_trained(workdir)


def test_one_process_writes_the_summary(smoke, tmp_path, monkeypatch):
    result = SimpleNamespace(metrics={"mean_iou": 0.5}, interrupted=False, signal=None)
    monkeypatch.setattr(folds, "train", lambda *_, **__: result)
    task = SimpleNamespace(capabilities={"labels"}, open_dataset=lambda *_: None)
    monkeypatch.setattr(folds, "make_task", lambda _: task)
    for process, written in ((1, False), (0, True)):
        monkeypatch.setattr(folds.sharding, "process_index", lambda x=process: x)
        _, summary = train_folds(smoke, tmp_path, 2)
        assert summary["mean"] == {"mean_iou": 0.5}
        assert (tmp_path / "folds.json").exists() == written


def test_a_metric_that_is_undefined_in_a_fold_is_left_out():
    metrics = [{"iou": 0.5, "f1": math.nan}, {"iou": 0.7, "f1": 1.0}, {"iou": 0.6}]
    summary = summarize_folds(metrics)
    assert summary["mean"] == pytest.approx({"iou": 0.6, "f1": 1.0})
    assert summary["std"]["iou"] == pytest.approx(0.1)
    assert math.isnan(summary["std"]["f1"])


def test_few_images_are_named_and_folds_advised():
    task = SimpleNamespace(
        evaluation=SimpleNamespace(split="validation"),
        records=lambda dataset, split: dataset.splits[split],
        capabilities={"labels"},
        config={},
    )

    def said(count, **more):
        names = [{"name": f"image{i}"} for i in range(count)]
        splits = {"train": names[1:], "validation": names[:1]}
        spec = LabelSpec(("background", "cell"), ((0, 0, 0), (9, 9, 9)))
        return _few_images(task, Dataset("folder", spec, 1, splits, **more))

    text = said(4)
    assert "3 to train, and 1 image that validates: image0. " in text
    assert "--folds=4" in text
    stacks = {"train": ["a", "a", "b"], "validation": ["a"]}
    assert "--folds=2" in said(4, groups=stacks)
    assert said(10) == ""
    task.config = {"fold": {"index": 0, "count": 2}}
    assert said(4).endswith("validates: image0.")
