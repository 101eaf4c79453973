"""The search for the CRF's values: its candidates, its measure, and what it leaves behind."""

import dataclasses
import errno
import json
import os

import numpy as np
import pytest

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.ops.crf.permutohedral import CapacityError
from segjax.runs import tune_crf
from segjax.runs.train import train
from segjax.runs.tune_crf import tune_run
from segjax.tasks.semantic import crf_scores, crf_search
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.crf_scores import (
    Scene,
    mean_iou_alone,
    mean_ious,
    predict_scenes,
)
from segjax.tasks.semantic.crf_search import coarse, fine, tune
from segjax.tasks.semantic.evaluate import evaluate
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop
from segjax.training.run_files.workdir import lock, write_or_check_config

SPEC = LabelSpec(("dark", "light"), ((0, 0, 0), (255, 255, 255)))
START = CRF(w1=0.1, w2=3.0, sigma_gamma=0.5, num_iterations=3)


class Specks:
    """A network that is right but for specks: logits of the label, which it knows."""

    def __init__(self, label):
        self.label = label

    def pages(self, images, outputs):
        assert outputs == ("logits",)
        for _ in images:
            rows, columns = np.mgrid[:10, :12]
            wrong = (rows * 5 + columns * 3) % 7 == 0
            label = np.where(wrong, 1 - self.label, self.label)
            yield {"logits": np.eye(2, dtype=np.float32)[label]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Records, and the scenes that are made of them."""
    label = np.zeros((10, 12), np.uint8)
    label[2:8, 3:9] = 1
    noise = np.random.default_rng(0).integers(-9, 10, (10, 12, 3))
    image = (70 + 100 * label[..., None] + noise).astype(np.uint8)
    records = [{"image": image, "label": label, "name": "a"}] * 2
    folder = tmp_path_factory.mktemp("logits")
    scenes = predict_scenes(Specks(label), records, [0, 1], "range", folder)
    return records, scenes


def test_a_search_on_few_images_says_that_they_are_few(
    world, caplog, monkeypatch
) -> None:
    _, scenes = world
    monkeypatch.setattr(crf_search, "coarse", lambda *_: [START])
    monkeypatch.setattr(crf_search, "fine", lambda *_: [])
    with caplog.at_level("WARNING", logger="segjax"):
        tune(scenes, SPEC, START)
        assert "2 images: so few are weak evidence" in caplog.text
        caplog.clear()
        monkeypatch.setattr(crf_search, "FEW_IMAGES", 2)
        tune(scenes, SPEC, START)
    assert not caplog.text


def test_candidates_go_from_large_steps_to_small_ones() -> None:
    first = coarse(START, 500)
    assert first[0] == START
    assert {crf.sigma_alpha for crf in first[1:]} == {7.5, 15.0, 30.0, 60.0, 100.0}
    assert {(crf.sigma_gamma, crf.num_iterations) for crf in first} == {(0.5, 3)}
    assert len(first) == 1 + 5 * 3 * 4 * 2
    second = fine(dataclasses.replace(START, w1=5.0, sigma_alpha=60.0, w2=0.0))
    assert {crf.sigma_alpha for crf in second} == {48.0, 60.0, 75.0}
    assert {crf.w1 for crf in second} == {3.5, 5.0, 7.0}
    assert {crf.w2 for crf in second} == {0.0, 1.0}


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_candidates_measured_together_are_those_measured_alone(world, method) -> None:
    records, scenes = world
    base = dataclasses.replace(START, method=method, sigma_alpha=5.0, sigma_beta=20.0)
    candidates = [dataclasses.replace(base, w1=w1) for w1 in (0.1, 0.5, 4.0)]
    found = mean_ious(scenes, candidates, SPEC.names)
    options = {"split": "validation", "normalization": "range"}
    for crf, score in zip(candidates, found, strict=True):
        report = evaluate(Specks(scenes[0].label), records, SPEC, **options, crf=crf)
        assert score == pytest.approx(report.metrics["mean_iou"])
    assert len(set(found)) > 1


def test_the_search_finds_what_mends_the_image(world, monkeypatch) -> None:
    monkeypatch.setattr(crf_search, "COARSE_FRACTIONS", (0.5,))
    monkeypatch.setattr(crf_search, "COARSE_WEIGHTS", (5.0,))
    monkeypatch.setattr(crf_search, "COARSE_COLORS", (12.0,))
    monkeypatch.setattr(crf_search, "FINE_ALPHA", (1.0,))
    monkeypatch.setattr(crf_search, "FINE_BETA", (1.0,))
    found = tune(world[1], SPEC, START)
    assert found.without < found.best
    assert found.start < found.best == 1
    assert found.crf.sigma_gamma == START.sigma_gamma
    assert found.without == mean_iou_alone(world[1], SPEC.names)


def test_widths_without_room_for_their_lattice_are_never_the_best(world) -> None:
    image, label, logits = world[1][0]
    tiny = dataclasses.replace(
        START, method="lattice", sigma_alpha=1e-4, sigma_beta=1e-4
    )
    scores = mean_ious([Scene(image, label, logits)], [tiny], SPEC.names)
    assert scores.tolist() == [-np.inf]


def test_one_image_without_room_is_enough(world, monkeypatch) -> None:
    """Such values would end an evaluation, however good the other images are."""
    image, label, logits = world[1][0]
    build = crf_scores.crf_filters
    calls = []

    def first_has_no_room(image, *widths, **options):
        calls.append(widths)
        if len(calls) == 1:
            raise CapacityError("no room")
        return build(image, *widths, **options)

    monkeypatch.setattr(crf_scores, "crf_filters", first_has_no_room)
    other = dataclasses.replace(START, sigma_alpha=2 * START.sigma_alpha)
    scenes = [Scene(image, label, logits)] * 2
    scores = mean_ious(scenes, [START, other], SPEC.names)
    assert scores[0] == -np.inf
    assert scores[1] > 0
    assert len(calls) == 3  # the first pair of widths is not tried again


def test_a_run_is_tuned_and_then_refined(
    main, smoke, cache_dir, tmp_path, monkeypatch
) -> None:
    for name in ("COARSE_FRACTIONS", "COARSE_COLORS", "COARSE_WEIGHTS"):
        monkeypatch.setattr(crf_search, name, getattr(crf_search, name)[-1:])
    for name in ("FINE_ALPHA", "FINE_BETA", "FINE_W1", "FINE_W2"):
        monkeypatch.setattr(crf_search, name, (1.0,))
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    smoke.num_steps, smoke.schedule.warmup_steps = 1, 0
    smoke.evaluation.cell_class = None
    smoke.crf = {"w1": 0.5, "num_iterations": 2}
    train(smoke, tmp_path, cache_dir)
    run = (f"--workdir={tmp_path}", f"--cache_dir={cache_dir}")
    tuned = main("tune", "crf", *run, "--num_images=1", "--save")
    assert tuned.code == 0, tuned.stderr
    paste, last = tuned.stdout.splitlines()[-2:]
    found = json.loads(last)
    assert found["tuned/mean_iou"] >= found["default/mean_iou"]
    assert (found["images"], found["crf"]["num_iterations"]) == (1, 2)
    names: dict = {}
    exec(paste, names)
    assert CRF(**names["crf"]) == CRF(**found["crf"])
    assert json.loads((tmp_path / "config.json").read_text())["crf"] == found["crf"]
    refined = main("evaluate", *run, "--crf")
    assert refined.code == 0, refined.stderr
    result = json.loads(refined.stdout.splitlines()[-1])
    # Another program: some of 16,384 pixels, 1e-4 each, may lie so near to even scores
    # that rounding decides. Without what was kept it is 1e-2 less.
    assert result["mean_iou"] == pytest.approx(found["tuned/mean_iou"], abs=1e-3)


def test_a_config_without_the_group_gets_advice_how_to_add_it(smoke) -> None:
    with pytest.raises(UserError, match=r"--crf needs a group config\.crf, .* --save"):
        SemanticTask(smoke).refinement()
    smoke.crf = {"sigma": 3.0}
    with pytest.raises(UserError, match=r'config\.crf has an unknown key "sigma"'):
        SemanticTask(smoke)
    smoke.crf = {"sigma_beta": -3.0}
    with pytest.raises(UserError, match=r"config\.crf: sigma_beta is a finite number"):
        SemanticTask(smoke)


def full(folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_could_not_be_kept_is_reported_before_the_search(
    smoke, tmp_path, monkeypatch
) -> None:
    def search(*_, **__):
        raise AssertionError("the search began")

    monkeypatch.setattr(tune_crf, "load_trained", search)
    write_or_check_config(tmp_path, smoke)
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory"):
        tune_run(tmp_path, save=True)
    (tmp_path / ".lock").rmdir()
    with monkeypatch.context() as patch:
        patch.setattr("segjax.training.run_files.workdir.require_writable", full)
        with pytest.raises(UserError, match=r"cannot be written \(No space left"):
            tune_run(tmp_path, save=True)
    (tmp_path / "config.json").rename(tmp_path / "elsewhere.json")
    (tmp_path / "config.json").symlink_to("elsewhere.json")
    with pytest.raises(UserError, match=r"config\.json is a link"):
        tune_run(tmp_path, save=True)
    with pytest.raises(AssertionError, match="the search began"):
        tune_run(tmp_path)  # which writes nothing


def test_a_search_beside_a_training_hinders_neither_and_loses_nothing(
    smoke, tmp_path, monkeypatch
) -> None:
    found = {"crf": dataclasses.asdict(CRF(w1=7.0))}

    def search(*_):
        with lock(tmp_path):  # as a training does that starts meanwhile
            return found

    monkeypatch.setattr(tune_crf, "_search", search)
    write_or_check_config(tmp_path, smoke)
    with lock(tmp_path), monkeypatch.context() as patch:
        patch.setattr(tune_crf, "_search", lambda *_: found)
        with pytest.raises(UserError, match="not kept: Another process") as caught:
            tune_run(tmp_path, save=True)
    assert "crf" not in json.loads((tmp_path / "config.json").read_text())
    advised = json.loads(f"{{{str(caught.value).partition('config.json: ')[2]}}}")
    assert advised == found
    assert tune_run(tmp_path, save=True) == found
    assert json.loads((tmp_path / "config.json").read_text())["crf"] == found["crf"]


def test_a_folder_without_a_run_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        tune_run(tmp_path)
