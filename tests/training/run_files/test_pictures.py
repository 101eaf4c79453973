"""Pictures of a run: they replace earlier ones, and nothing of the user's."""

import functools
import os
import types

import numpy as np
import pytest

from segjax.data.dataset import Dataset
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.runs.train import train
from segjax.tasks.semantic.evaluate import Report
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop
from segjax.training.run_files import pictures
from segjax.training.run_files.pictures import are_plotted, plan_pictures, plot_run
from segjax.training.run_files.writer import Writer

SPEC = LabelSpec(("dark", "light"), ((0, 0, 0), (255, 255, 255)))


class Dark:
    """A network that finds everything dark."""

    def pages(self, images, outputs):
        for image in images:
            yield {"labels": np.zeros(image.shape[:2], np.uint8)}


@pytest.fixture
def run(tmp_path):
    """A folder with a log, an experiment, and its data."""
    writer = Writer(tmp_path)
    writer.write(1, "train", {"loss": 1.0})
    writer.close()
    image, label = np.zeros((8, 9, 1), np.uint8), np.ones((8, 9), np.uint8)
    records = [{"image": image, "label": label, "name": str(i)} for i in range(9)]
    task = types.SimpleNamespace(
        evaluation=types.SimpleNamespace(split="validation", tile=None),
        normalization="range",
        predictor=lambda variables, tile: Dark(),
        pictures=SemanticTask.pictures,
    )
    task.plot = functools.partial(SemanticTask.plot, task)
    return tmp_path, task, Dataset("synthetic", SPEC, 1, {"validation": records})


def plot_pictures(run):
    report = Report({"mean_iou": 0.5}, np.eye(2, dtype=np.int64))
    workdir, task, dataset = run
    return plot_run(workdir, task, {}, dataset, report)


def test_pictures_replace_those_of_before(run):
    names = ["curves.png", "confusion.png"]
    names += [f"validation_{i:03d}.png" for i in (0, 4, 8)]
    for _ in range(2):
        assert [path.name for path in plot_pictures(run)] == names
    assert {path.name for path in (run[0] / "pictures").glob("[!.]*")} == set(names)
    assert are_plotted(run[0])


@pytest.mark.parametrize("name", ["curves.png", "confusion.png", "validation_004.png"])
def test_a_picture_that_was_annotated_is_kept(run, name):
    plot_pictures(run)
    plan_pictures(*run)
    (run[0] / "pictures" / name).write_bytes(b"annotated")
    for plan in (lambda: plan_pictures(*run), lambda: plot_pictures(run)):
        with pytest.raises(UserError, match=rf"{name} would be .* Move or rename it\."):
            plan()
    (run[0] / "pictures" / name).rename(run[0] / "mine.png")  # as it was advised
    plot_pictures(run)
    assert (run[0] / "mine.png").read_bytes() == b"annotated"


def test_a_picture_of_the_user_is_reported_before_the_training_and_stops_nothing(
    smoke, cache_dir, tmp_path, caplog, capsys
):
    """A run that is extended: somebody has cropped a picture of its first part."""
    (tmp_path / pictures.FOLDER).mkdir()
    (tmp_path / pictures.FOLDER / "curves.png").write_bytes(b"mine")
    with caplog.at_level("INFO", "segjax"):
        result = train(smoke, tmp_path, cache_dir)
    assert result.step == smoke.num_steps
    assert os.listdir(tmp_path / pictures.FOLDER) == ["curves.png"]
    assert (tmp_path / pictures.FOLDER / "curves.png").read_bytes() == b"mine"
    logged = [message for message in caplog.messages if "no new pictures" in message]
    assert len(logged) == 1
    assert "curves.png would be overwritten" in logged[0]
    assert caplog.messages.index(logged[0]) < caplog.messages.index(
        next(x for x in caplog.messages if x.startswith("Compiling"))
    )
    assert "There are no new pictures" in capsys.readouterr().err


def test_a_picture_that_somebody_writes_during_the_training_does_not_stop_it(
    smoke, cache_dir, tmp_path, monkeypatch, capsys
):
    plan = loop.plan_pictures

    def written_after_the_check(workdir, *rest):
        planned = plan(workdir, *rest)
        (workdir / "pictures").mkdir()
        (workdir / "pictures/curves.png").write_bytes(b"mine")
        return planned

    monkeypatch.setattr(loop, "plan_pictures", written_after_the_check)
    result = train(smoke, tmp_path, cache_dir)
    assert result.step == smoke.num_steps
    assert not result.interrupted
    assert (tmp_path / "pictures/curves.png").read_bytes() == b"mine"
    assert "There are no new pictures" in capsys.readouterr().err
