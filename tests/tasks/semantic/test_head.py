"""The meaning of logits, by the config."""

from pathlib import Path

import ml_collections
import numpy as np
import pytest
from PIL import Image

from segjax.config import load
from segjax.data.label_spec import LabelSpec
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError
from segjax.runs.load import load_trained
from segjax.runs.train import train
from segjax.tasks.semantic.evaluate import Evaluation
from segjax.tasks.semantic.head import head_of
from segjax.tasks.table import make_task
from segjax.training import loop

ROOT = Path(__file__).resolve().parents[3]


def head(activation, num_classes):
    config = {"head": activation, "model": {"num_classes": num_classes}}
    return head_of(ml_collections.ConfigDict(config))


SPEC = LabelSpec(("background", "cell"), ((0, 0, 0), (255, 0, 0)))


def test_one_logit_tells_two_classes_apart():
    one = head("sigmoid", 1)
    assert (one.num_logits, one.num_classes, one.is_binary) == (1, 2, True)
    one.check_labels(SPEC, "folder")


def test_softmax_of_one_logit_is_refused():
    with pytest.raises(UserError, match="always 1"):
        head("softmax", 1)


def test_a_misspelt_head_gets_a_suggestion():
    with pytest.raises(UserError, match="sigmoid"):
        head("sigmiod", 1)


@pytest.mark.parametrize(
    ("activation", "loss"),
    [("softmax", "sigmoid_dice"), ("sigmoid", "cross_entropy")],
)
def test_losses_of_the_other_head_are_refused(activation, loss):
    with pytest.raises(UserError, match="use one of"):
        head(activation, 2).check_loss(loss)


def test_losses_from_outside_may_read_anything():
    head("sigmoid", 1).check_loss("package.module:loss")


def test_a_number_of_logits_that_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"num_classes is 3, .*or 1, with"):
        head("softmax", 3).check_labels(SPEC, "folder")


def test_a_data_set_whose_classes_overlap_wants_sigmoids():
    spec = OverlappingClasses(SPEC.names, SPEC.colors)
    head("sigmoid", 2).check_labels(spec, "folder")
    with pytest.raises(UserError, match="give config"):
        head("softmax", 2).check_labels(spec, "folder")
    with pytest.raises(UserError, match="leave config"):
        head("sigmoid", 2).check_labels(SPEC, "folder")


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("evaluation", "boundary_f1", True),
        ("evaluation", "cell_class", 0),
        ("pipeline", "border_weight", {"cell_class": 1}),
    ],
)
def test_what_overlapping_classes_do_not_have_is_named(group, key, value):
    config = ml_collections.ConfigDict({"evaluation": {}, "pipeline": {}})
    config[group][key] = value
    evaluation = Evaluation(**config.evaluation)
    head("softmax", 2).check_wishes(config, evaluation)
    with pytest.raises(UserError, match=f"config.{group}.{key}"):
        head("sigmoid", 2).check_wishes(config, evaluation)


@pytest.mark.parametrize("name", ["calibration", "boundary_iou"])
def test_what_overlapping_classes_do_not_have_is_not_measured_afterwards(name):
    config = load(str(ROOT / "configs/unet_folder.py:overlapping"))
    task = make_task(config, training=False)
    with pytest.raises(UserError, match=rf"config\.evaluation\.{name} is for pixels"):
        task.measure_also([name])


@pytest.mark.quick(1)
@pytest.mark.parametrize("preset", ["one_logit", "overlapping"])
def test_from_a_folder_to_labels(preset, tmp_path, cache_dir, monkeypatch):
    """Train, evaluate, load, predict: labels are where probabilities are above 1/2."""
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    rng = np.random.default_rng(0)
    for part, most in (("images", 256), ("labels", 2 + 2 * (preset == "overlapping"))):
        (tmp_path / "cells" / part).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, most, (32, 32)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "cells" / part / f"{i}.png")
    config = load(str(ROOT / f"configs/unet_folder.py:{preset}"))
    config.pipeline.input_size, config.model.features = (16, 16), (2, 4)
    config.num_steps = config.eval_every = config.checkpoint_every = 2
    config.schedule = {"name": "constant", "learning_rate": 1e-2}
    run, cells = tmp_path / "run", str(tmp_path / "cells")
    result = train(config, run, cache_dir, cells)
    assert {"mean_iou", "mean_dice"} <= result.metrics.keys()
    trained = load_trained(run)
    assert trained.task.model.num_classes == (1 if preset == "one_logit" else 2)
    image = rng.integers(0, 256, (40, 40)).astype(np.uint8)
    labels = trained.labels(image)
    predictor = trained.task.predictor(trained.variables)
    likely = predictor.probabilities(image[..., None].astype(np.float32) / 255) > 0.5
    if preset == "one_logit":
        assert predictor.probabilities(np.zeros((8, 8, 1), np.float32)).shape[-1] == 2
        expected = likely[..., 1]
    else:
        expected = likely @ [1, 2]
    seen = predictor.labels(image[..., None].astype(np.float32) / 255)
    assert (seen == expected).all()
    assert labels.dtype == np.uint8
    assert labels.shape == (40, 40)
