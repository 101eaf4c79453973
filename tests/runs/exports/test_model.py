"""A run as one file: what it holds, and that it is used like the run."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import zipfile
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
from PIL import Image

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.runs import initialization
from segjax.runs.exports import model as export
from segjax.runs.exports.model import export_run
from segjax.runs.load import load_trained
from segjax.runs.model_file import config_of, shipped_parameters
from segjax.runs.predict import predict_run
from segjax.runs.run_config import OF_ONE_RUN, get_config, without
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.loop import INITIALIZATION

ROOT = Path(__file__).resolve().parents[3]


def smoke() -> ml_collections.ConfigDict:
    return config_lib.load(f"{ROOT}/configs/unet_em.py:smoke")


@pytest.fixture(scope="module")
def run(tmp_path_factory, write_run) -> Path:
    """A run of two checkpoints, of which the first is the best; nothing is compiled."""
    workdir = tmp_path_factory.mktemp("here") / "run"
    config = smoke()
    source = {"source": "segjax/run", "input": str(workdir.parent / "before")}
    config[INITIALIZATION] = source
    config.fold = {"index": 0, "count": 5}
    about = {
        "channels": 1,
        "label_spec": {"names": ["dark", "light"], "colors": [[0, 0, 0], [9, 9, 9]]},
        "max_intensity": 4095,
        "records": {"train": {"count": 5, "sha256": "0"}},
        INITIALIZATION: source,
    }
    return write_run(workdir, config, **about)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("elsewhere") / "cells.segjax"
    export_run(run, path, description="Cells, stained.")
    return path


def test_the_best_checkpoint_is_exported_with_its_figures(run, exported) -> None:
    trained, best = load_trained(exported), load_trained(run, best=True)
    assert trained.step == best.step == 1
    assert trained.parameters_sha256 == best.parameters_sha256
    assert trained.about["metrics"] == {"mean_iou": 0.75}
    assert trained.max_intensity == 4095
    assert trained.label_spec == best.label_spec
    ours, theirs = (jax.device_get(x.variables) for x in (trained, best))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_the_card_says_what_the_model_is(exported) -> None:
    with zipfile.ZipFile(exported) as archive:
        card = archive.read("README.md").decode()
    for words in (
        "Cells, stained.",
        "dark, light",
        "fold_0 of 5 folds",
        "5 in train",
        "| mean_iou | 0.7500",
    ):
        assert words in card


def test_the_card_names_the_weights_that_training_began_with(exported) -> None:
    trained = load_trained(exported)
    about = dict(trained.about)
    nuclei = shipped_parameters()["nuclei"]
    foreign = {"source": "torchvision/resnet50", "sha256": "beef", "licence": "BSD"}
    for begun, words in (
        ({"source": "segjax/run", "sha256": "cafe"}, "another model, parameters"),
        ({"source": "segjax/run", "sha256": nuclei}, "the model nuclei of segjax"),
        (foreign, "weights of torchvision/resnet50, file (SHA-256) beef"),
    ):
        about[INITIALIZATION] = begun
        text = export.card(trained, trained.task.config, about, "")
        assert f"| begun with | {words}" in text
        assert begun["sha256"] in text
        assert ("| licence of what it began with | BSD" in text) == (begun is foreign)
    del about[INITIALIZATION]
    assert "begun with" not in export.card(trained, trained.task.config, about, "")


def test_the_card_says_of_what_size_pixels_are(exported) -> None:
    trained = dataclasses.replace(load_trained(exported), pixel_size=(0.5, 0.25))
    text = export.card(trained, trained.task.config, trained.about, "")
    assert ", pixels of 0.5 x 0.25 micrometres" in text


def test_the_fold_of_a_run_is_not_that_of_the_next(run, exported) -> None:
    assert config_of(run).fold == config_of(exported).fold
    for source in (run, exported):
        assert "fold" not in get_config(str(source))


def test_what_is_of_one_run_alone_does_not_go_along(run) -> None:
    config = config_of(run)
    with config.unlocked():
        config.hooks = ({"name": "wandb", "project": "of somebody else"},)
        config.calibration = {"temperature": 2.0}
    portable = export.portable_config(config)
    assert "hooks" not in portable
    assert portable.calibration.temperature == 2.0
    kept = without(config, *OF_ONE_RUN)
    assert "hooks" not in kept
    assert "hooks" in config


def test_no_folder_of_the_machine_is_named(run, exported) -> None:
    assert str(run.parent).encode() not in exported.read_bytes()


def test_files_and_arrays_are_labelled_as_by_the_run(run, exported, tmp_path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 57), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    moved = shutil.move(shutil.copy(exported, tmp_path), tmp_path / "moved.segjax")
    (ours,) = predict_run(moved, tmp_path / "a.png", tmp_path / "ours")
    (theirs,) = predict_run(run, tmp_path / "a.png", tmp_path / "theirs", best=True)
    expected = np.asarray(Image.open(theirs))
    assert len(np.unique(expected)) == 2
    assert ours.read_bytes() == theirs.read_bytes()

    labels = load_trained(moved).labels
    np.testing.assert_array_equal(labels(image), expected)
    np.testing.assert_array_equal(labels(image[..., None]), expected)
    stack = np.stack([image, image[::-1], image])
    found = labels(stack)
    assert found.shape == stack.shape
    np.testing.assert_array_equal(found, labels(stack[..., None]))
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], labels(image[::-1]))
    assert labels(stack[:0]).shape == (0, 40, 57)


def test_a_file_of_the_user_stays_and_one_of_ours_is_replaced(run, tmp_path) -> None:
    path = tmp_path / "cells.segjax"
    path.write_text("mine")
    with pytest.raises(UserError, match=r"cells\.segjax would be overwritten"):
        export_run(run, path)
    assert path.read_text() == "mine"
    first = export_run(run, path, overwrite=True)
    assert export_run(run, path)["sha256"] == first["sha256"]
    with pytest.raises(UserError, match=r"does not end in \.segjax"):
        export_run(run, tmp_path / "cells.zip")
    with pytest.raises(UserError, match="is a model file already"):
        export_run(path, tmp_path / "again.segjax")


@pytest.mark.parametrize(
    ("output", "suffix", "expected"),
    [
        ("cells.zip", ".segjax", "cells.segjax"),
        ("a/cells", ".bioimageio.zip", "a/cells.bioimageio.zip"),
        ("cells.tar.gz", ".onnx", "cells.onnx"),
        (".", ".segjax", "model.segjax"),
        ("/", ".onnx", "/model.onnx"),
    ],
)
def test_a_file_that_can_be_written_is_suggested(output, suffix, expected) -> None:
    assert export.suggested(Path(output), suffix) == Path(expected)


def test_facts_of_a_model_file_keep_how_many_images_there_were() -> None:
    of_a_run = {"records": {"train": {"count": 5, "sha256": "0"}}}
    facts = export.portable(of_a_run)
    assert facts["images"] == export.portable(facts)["images"] == {"train": 5}


def test_an_export_that_fails_leaves_nothing(run, tmp_path, monkeypatch) -> None:
    def full(file, *_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_model_file", full)
    with pytest.raises(UserError, match="No space left"):
        export_run(run, tmp_path / "cells.segjax")
    assert not list(tmp_path.glob("*.segjax"))
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize("source", ["run", "exported"])
def test_training_goes_on_from_a_run_or_a_file(source, request, tmp_path) -> None:
    path = request.getfixturevalue(source)
    config = get_config(str(path))
    assert INITIALIZATION not in config
    begun = initialization.continued(config, path)
    assert INITIALIZATION not in config
    task = SemanticTask(begun)
    weights = initialization.read(begun, task.model, 1, tmp_path)
    trained = load_trained(path)
    jax.tree.map(
        np.testing.assert_array_equal,
        weights.variables,
        jax.device_get(trained.variables),
    )
    assert weights.about["sha256"] == trained.parameters_sha256


def test_other_classes_have_a_new_head_and_the_rest_goes_on(
    exported, tmp_path, caplog
) -> None:
    config = initialization.continued(get_config(str(exported)), exported)
    config.model.num_classes = 3
    task = SemanticTask(config)
    with caplog.at_level(logging.INFO, "segjax"):
        weights = initialization.read(config, task.model, 1, tmp_path)
    assert "New layers logits, as there are 3 classes (were 2)" in caplog.text
    theirs = load_trained(exported).variables["params"]
    assert theirs.keys() - weights.variables["params"].keys() == {"logits"}


def test_a_network_of_another_size_is_refused(exported, tmp_path) -> None:
    config = initialization.continued(smoke(), exported)
    config.model.features = (5, 6)
    task = SemanticTask(config)
    with pytest.raises(UserError, match=r"has no place for: .* more") as caught:
        initialization.read(config, task.model, 1, tmp_path)
    assert "--continue_from without --config" in str(caught.value)


def test_the_command_takes_the_config_of_the_file(exported, main, tmp_path) -> None:
    more = (f"--continue_from={exported}", f"--workdir={tmp_path / 'run'}")
    ended = main("train", *more, "--config.batch_siz=2")
    assert 'config has no key "batch_siz"' in ended.sentence
    ended = main("train", f"--continue_from={tmp_path / 'none'}", more[1])
    assert ended.sentence.startswith(f"segjax: {tmp_path / 'none'} does not exist")
    assert main("export", str(exported), str(tmp_path / "a.segjax")).code == 1
    ended = main("predict", f"--model={exported}", f"--workdir={exported}")
    assert ended.code == 1
    assert not (tmp_path / "run").exists()


def test_a_run_with_folds_is_no_network_to_go_on_from(run, main, tmp_path) -> None:
    shutil.copytree(run, tmp_path / "five" / "fold_0")
    five = tmp_path / "five"
    given = f"{five} holds 5 folds: give one of them, such as {five / 'fold_0'}."
    for config in ([], [f"--config={ROOT}/configs/unet_em.py:smoke"]):
        more = (f"--continue_from={five}", f"--workdir={tmp_path / 'run'}")
        ended = main("train", *config, *more)
        assert ended.sentence == f"segjax: {given}"
    assert not (tmp_path / "run").exists()


def test_the_command_exports_and_says_so_in_json(run, main, tmp_path) -> None:
    path = tmp_path / "cells.segjax"
    ended = main("export", str(run), str(path), "--checkpoint=latest")
    result = json.loads(ended.stdout.splitlines()[-1])
    assert (result["step"], result["bytes"]) == (2, path.stat().st_size)
