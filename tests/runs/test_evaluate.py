"""Measuring runs: other data, single images, several runs as one, calibrated probabilities."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from segjax import config as config_lib
from segjax.data.dataset import Dataset, hash_of_image
from segjax.data.files.images import normalize
from segjax.data.folds import with_fold
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.metrics import (
    calibration_counts,
    calibration_metrics,
    confusion_counts,
    semantic_metrics,
)
from segjax.runs.ensemble import load_ensemble
from segjax.runs.evaluate import _check_fold, evaluate_run
from segjax.runs.load import load_trained
from segjax.runs.predict import predict_run
from segjax.runs.tune_temperature import tune_temperature_run
from segjax.tasks.table import make_task
from segjax.training.about import LEARNED, TRAIN_IMAGES, about_run, image_hashes
from segjax.training.checkpoints.checkpoint import Checkpoints
from segjax.training.run_files.workdir import write_or_check_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache_dir):
    """Two untrained runs: other networks, other normalisations."""
    root, folder = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("runs")
    found = []
    for name, features, method in (
        ("a", (4, 8), "range"),
        ("b", (3, 6), "per_image"),
    ):
        config = config_lib.load(f"{root}/configs/unet_em.py:smoke")
        config.model.features, config.pipeline.normalization = features, method
        config.data.size = 96
        with config.unlocked():
            config.evaluation = {"calibration": True}  # without the errors of neurons
        (workdir := folder / name).mkdir()
        task = make_task(config)
        dataset = task.open_dataset(cache_dir, None)
        about = about_run(config, dataset) | {LEARNED: task.learn(dataset)}
        write_or_check_config(workdir, config)
        with Checkpoints(workdir, "mean_iou") as checkpoints:
            checkpoints.save(jax.jit(task.init_state, static_argnums=0)(1), about)
        found.append(workdir)
    return found


def probabilities(workdir, image):
    trained = load_trained(workdir)
    seen = normalize(image, trained.task.normalization)
    return trained.task.predictor(trained.variables).probabilities(seen)


def test_several_runs_are_measured_by_the_mean_of_their_probabilities(runs, cache_dir):
    found = evaluate_run(runs[0], split="test", cache_dir=cache_dir, ensemble=runs[1:])
    task = load_trained(runs[0]).task
    (record,) = task.open_dataset(cache_dir, None).splits["test"]
    label = record["label"].astype(int)
    mean = np.mean([probabilities(run, record["image"]) for run in runs], 0)
    counts = confusion_counts(label, mean.argmax(-1), num_classes=2)
    expected = semantic_metrics(counts, ("membrane", "cell"))
    expected |= calibration_metrics(calibration_counts(label, mean))
    true = np.take_along_axis(mean, label[..., None], -1)
    expected["loss"] = -np.log(true).mean()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    digests = {load_trained(run).parameters_sha256 for run in runs}
    assert found["parameters_sha256"] not in digests


def test_several_runs_predict_files_together(runs, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 40), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    (file,) = predict_run(
        runs[0], tmp_path / "a.png", tmp_path / "out", ensemble=runs[1:]
    )
    mean = sum(probabilities(run, image[..., None]) for run in runs)
    with Image.open(file) as labels:
        np.testing.assert_array_equal(np.asarray(labels), mean.argmax(-1))
    np.testing.assert_array_equal(load_ensemble(runs).labels(image), mean.argmax(-1))


def test_a_temperature_is_kept_and_leaves_labels_alone(runs, cache_dir, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    before = evaluate_run(run, cache_dir=cache_dir)
    tuned = tune_temperature_run(run, save=True, cache_dir=cache_dir)
    after = evaluate_run(run, cache_dir=cache_dir)
    for name, found in (("before", before), ("tuned", after)):
        likelihood = tuned[f"{name}/negative_log_likelihood"]
        assert found["loss"] == pytest.approx(likelihood, rel=1e-3)
    assert after["loss"] < before["loss"]
    assert after["mean_iou"] == before["mean_iou"]
    again = tune_temperature_run(run, cache_dir=cache_dir)["calibration"]
    assert again["temperature"] == pytest.approx(
        tuned["calibration"]["temperature"], rel=1e-2
    )


def test_every_image_has_a_row_and_a_prediction(runs, cache_dir, tmp_path):
    evaluate_run(
        runs[0],
        split="train",
        cache_dir=cache_dir,
        output=tmp_path / "out",
        save_predictions=True,
    )
    text = (tmp_path / "out" / "per_image.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    records = load_trained(runs[0]).task.open_dataset(cache_dir, None).splits["train"]
    images = {record["name"]: record["image"] for record in records}
    assert {row["name"] for row in rows} == images.keys()
    for row in rows:
        assert float(row["loss"]) > 0
        assert float(row["expected_calibration_error"]) > 0
        expected = probabilities(runs[0], images[row["name"]]).argmax(-1)
        with Image.open(tmp_path / "out" / row["prediction"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), expected)
    with pytest.raises(UserError, match="--save_predictions needs --output"):
        evaluate_run(runs[0], save_predictions=True)


def test_other_data_is_measured_where_classes_and_channels_agree(runs, cache_dir):
    other = {"size": 64, "train": 1, "validation": 2, "test": 1}
    neurons, shapes = (other | {"name": name} for name in ("em_sections", "shapes"))
    found = evaluate_run(runs[0], data=neurons, cache_dir=cache_dir)
    assert (found["images"], found["split"]) == (2, "validation")
    objects = shapes | {"name": "instance_shapes"}
    for data, sentence in (
        (shapes, r"has 5 classes \(.*\), but this run knows 2 \(membrane, cell\)"),
        ("em_section", 'Did you mean "em_sections"'),
        ("no/config.py", "^--data=no/config.py: there is no file"),
        (objects, "this run was trained on labels of pixels"),
    ):
        with pytest.raises(UserError, match=sentence):
            evaluate_run(runs[0], data=data, cache_dir=cache_dir)
    with pytest.raises(UserError, match="both say what is measured"):
        evaluate_run(runs[0], data="shapes", input="folder")


def test_a_step_without_a_checkpoint_is_refused_with_those_there_are(runs):
    with pytest.raises(UserError, match=r"no checkpoint of step 7 in .*only of 0"):
        evaluate_run(runs[0], step=7)


def test_pages_and_channels_are_those_of_a_folder():
    for flag, given in (("pages", [1]), ("channels", ["DAPI"])):
        with pytest.raises(
            UserError, match=rf"--{flag} is about the images of a folder"
        ):
            evaluate_run("run", **{flag: given})


def test_a_fold_is_known_by_its_images_not_by_their_number():
    def fold(values):
        images = [np.full((2, 2, 1), value, np.uint8) for value in values]
        records = [{"name": "same", "image": image} for image in images]
        splits = {"train": records[:2], "validation": records[2:]}
        hashes = {
            split: [hash_of_image(record["image"]) for record in part]
            for split, part in splits.items()
        }
        spec = LabelSpec(("dark", "light"), ((0, 0, 0), (9, 9, 9)))
        whole = Dataset("folder", spec, 1, splits, image_hashes=hashes)
        return with_fold(whole, "validation", index=0, count=2)

    task = SimpleNamespace(
        config={"fold": 0}, evaluation=SimpleNamespace(split="validation")
    )
    learned = image_hashes(fold(range(4)), "train")
    assert len(learned) == 2
    about = {"images": {"train": 2, "validation": 2}, TRAIN_IMAGES: learned}
    trained = SimpleNamespace(task=task, about=about)
    _check_fold(trained, fold(range(4)))
    with pytest.raises(UserError, match="1 of the images that this fold trains on now"):
        _check_fold(trained, fold((0, 1, 2, 9)))
    with pytest.raises(UserError, match="there are 5 now, which are divided otherwise"):
        _check_fold(trained, fold(range(5)))


def test_runs_of_other_classes_are_not_averaged(runs):
    with pytest.raises(UserError, match="differ in classes: membrane, cell and back"):
        load_ensemble([runs[0], "nuclei"])
