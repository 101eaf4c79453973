"""The command line: every verb, once through."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tifffile
from PIL import Image

from segjax.commands.program import Program
from segjax.main import VERBS
from segjax.output import manifest
from segjax.training import loop
from segjax.training.checkpoints import checkpoint_files

EM_SMOKE = "configs/unet_em.py:smoke"
EM = f"--config={EM_SMOKE}"
TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("main") / "run"


@pytest.fixture(scope="module")
def ended(workdir, cache_dir, run_segjax):
    """A training through a process of its own."""
    return run_segjax(EM, f"--workdir={workdir}", f"--cache_dir={cache_dir}")


def test_train_is_the_verb_that_need_not_be_given(ended, workdir):
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["step"] == 2
    assert not result["interrupted"]
    assert {"parameters_sha256", "mean_iou", "pixel_error", "rand_error"} <= set(result)
    assert json.loads((workdir / "config.json").read_text())["num_steps"] == 2
    pictures = {path.name for path in (workdir / "pictures").iterdir()}
    assert {"curves.png", "confusion.png", "validation_000.png"} <= pictures
    assert "1 of 1 images of validation" in (workdir / "report.html").read_text()


def test_the_screen_before_training_says_what_there_is(ended):
    for words in (
        "unet, 1,682 parameters, 64x64 -> 64x64, batch 4",
        "em_sections: train 2, validation 1, test 1",
        "membrane",
        "(ignored)",
        "GFLOP, peak memory",
        "2 steps take about",
    ):
        assert words in ended.stderr
    assert "Warning" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluate_ends_with_one_json_object(main, workdir, cache_dir, split):
    ended = main(
        "evaluate",
        f"--workdir={workdir}",
        f"--cache_dir={cache_dir}",
        f"--split={split}",
    )
    assert ended.code == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["step"] == 2
    assert found["split"] == split
    assert len(found["parameters_sha256"]) == 64
    named = {"pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"}
    named |= {"iou/cell", "dice/membrane", "pixel_error", "rand_error", "warping_error"}
    assert named <= set(found)
    assert 0 <= found["mean_iou"] <= 1
    assert found["pixel_error"] == pytest.approx(1 - found["pixel_accuracy"])


@pytest.mark.usefixtures("ended")
def test_evaluate_agrees_with_what_training_measured(main, workdir, cache_dir, ended):
    again = main("evaluate", f"--workdir={workdir}", f"--cache_dir={cache_dir}")
    found, before = (json.loads(x.stdout.splitlines()[-1]) for x in (again, ended))
    assert found["parameters_sha256"] == before["parameters_sha256"]
    assert found["mean_iou"] == pytest.approx(before["mean_iou"], abs=1e-3)


@pytest.mark.usefixtures("ended")
def test_evaluate_best_and_baseline(main, workdir, cache_dir):
    ended = main(
        "evaluate",
        f"--workdir={workdir}",
        f"--cache_dir={cache_dir}",
        "--checkpoint=best",
        "--baseline",
        "--tile=32",
    )
    assert ended.code == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["step"] == 2
    assert 0 < found["otsu/mean_iou"] < 1


@pytest.mark.usefixtures("ended")
def test_report_measures_a_split_and_replaces_nothing_of_the_user(
    main, workdir, cache_dir, tmp_path
):
    path = tmp_path / "test.html"
    arguments = (str(workdir), f"--cache_dir={cache_dir}", f"--output={path}")
    ended = main("report", *arguments, "--split=test")
    assert ended.code == 0, ended.stderr
    assert ended.stdout == f"Report: {path}\n"
    assert "1 of 1 images of test" in path.read_text()
    path.write_text("my notes")
    refused = main("report", *arguments)
    assert refused.code == 1
    assert "test.html would be overwritten" in refused.sentence
    assert path.read_text() == "my notes"


@pytest.mark.usefixtures("ended")
def test_predict_writes_what_was_asked_for(main, workdir, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    stack = rng.integers(0, 255, (3, 40, 50), np.uint8)
    tifffile.imwrite(tmp_path / "in/a.tif", stack, photometric="minisblack")
    picture = Image.fromarray(rng.integers(0, 255, (33, 21), np.uint8))
    picture.save(tmp_path / "in/b.png")
    arguments = (f"--workdir={workdir}", f"--input={tmp_path / 'in'}")
    whole = main("predict", *arguments, f"--output={tmp_path / 'whole'}", "--tile=0")
    assert whole.code == 0, whole.stderr
    found = {p.name for p in (tmp_path / "whole").iterdir()}
    assert found == {"a.tif", "b.png", manifest.NAME}
    assert whole.stdout == f"Wrote 2 label files to {tmp_path / 'whole'}\n"
    tiled = main(
        "predict",
        *arguments,
        f"--output={tmp_path / 'tiled'}",
        "--tile=16",
        "--probabilities",
        "--overlay",
    )
    assert tiled.code == 0, tiled.stderr
    assert {p.name for p in (tmp_path / "tiled").iterdir()} == {
        "a.tif",
        "b.png",
        "a_probabilities.tif",
        "b_probabilities.tif",
        "a_overlay.tif",
        "b_overlay.png",
        manifest.NAME,
    }
    report = "Wrote 2 label files, 2 files of probabilities, 2 overlays to "
    assert tiled.stdout.splitlines()[-1] == f"{report}{tmp_path / 'tiled'}"
    labels = [tifffile.imread(tmp_path / f / "a.tif") for f in ("whole", "tiled")]
    assert labels[0].shape == (3, 40, 50)
    assert (labels[0] != labels[1]).mean() < 1e-3


@pytest.mark.usefixtures("ended")
def test_overwrite_is_advised_and_does_what_it_says(main, workdir, tmp_path):
    Image.fromarray(np.zeros((33, 21), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/b.png").write_bytes(b"drawn by hand")
    arguments = (f"--input={tmp_path / 'b.png'}", f"--output={tmp_path / 'out'}")
    ended = main("predict", f"--workdir={workdir}", *arguments)
    assert ended.code == 1
    assert ended.sentence.endswith(
        "out/b.png would be overwritten, but segjax did not write it, or it has been "
        "changed since. Give another --output, or --overwrite to replace it."
    )
    assert (tmp_path / "out/b.png").read_bytes() == b"drawn by hand"
    ended = main("predict", f"--workdir={workdir}", *arguments, "--overwrite")
    assert ended.code == 0, ended.stderr
    with Image.open(tmp_path / "out/b.png") as label:
        assert label.size == (21, 33)


def test_prepare_exports_neither_into_its_data_nor_over_labels(main, tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
        for i in range(3):
            pixels = 255 * rng.integers(0, 2, (40, 48), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"mine/{kind}/{i}.png")
    shutil.copytree(tmp_path / "mine", tmp_path / "other")
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*/*.png")}
    asked = ("prepare", "--config=configs/unet_folder.py:smoke")
    asked += (f"--data_root={tmp_path / 'mine'}", f"--cache_dir={tmp_path / 'data'}")
    ended = main(*asked, f"--write_images={tmp_path / 'mine'}", "--overwrite")
    assert "mine is the folder of the data set" in ended.sentence
    ended = main(*asked, f"--write_images={tmp_path / 'other'}")
    assert "other files would be overwritten" in ended.sentence
    assert "--overwrite to replace them" in ended.sentence
    assert {path: path.read_bytes() for path in before} == before
    ended = main(*asked, f"--write_images={tmp_path / 'other'}", "--overwrite")
    assert ended.code == 0, ended.stderr
    assert {path: path.read_bytes() for path in before} != before


def test_import_makes_a_folder_that_predicts(main, tmp_path):
    source = "torchvision/lraspp_mobilenet_v3_large"
    random_state_dict = runpy.run_path(str(TESTS / "pretrained/random_weights.py"))[
        "state_dict"
    ]
    with np.load(TESTS / "golden/pretrained.npz") as arrays:
        shapes = json.loads(arrays[f"{source} shapes"].tobytes())
    state = random_state_dict({name: tuple(shape) for name, shape in shapes.items()})
    safetensors.numpy.save_file(state, tmp_path / "weights.safetensors")
    run = f"--workdir={tmp_path / 'run'}"
    asked = ("import", f"--source={source}", run)
    missing = main(*asked, f"--weights={tmp_path / 'none.npz'}")
    assert missing.code == 1
    assert "There is no file" in missing.sentence
    state.pop("classifier.scale.1.weight")
    safetensors.numpy.save_file(state, tmp_path / "less.safetensors")
    less = main(*asked, f"--weights={tmp_path / 'less.safetensors'}")
    assert less.code == 1
    assert "1 missing: classifier.scale.1.weight" in less.sentence
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("mine")
    asked = (*asked, f"--weights={tmp_path / 'weights.safetensors'}")
    assert "config.json would be overwritten" in main(*asked).sentence
    ended = main(*asked, "--overwrite")
    assert ended.code == 0, ended.stderr
    assert json.loads(ended.stdout)["parameters"] == 3_221_538
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["data"] == {"name": "voc"}
    assert config["pipeline"]["normalization"] == "imagenet"
    (about,) = checkpoint_files.abouts_on_disk(tmp_path / "run")
    assert about["step"] == 0
    assert about["label_spec"]["names"][15] == "person"
    assert about["initialization"]["source"] == source
    again = main(*asked)
    assert "holds a run already" in again.sentence
    pixels = np.random.default_rng(0).integers(0, 256, (65, 81, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = f"--input={tmp_path / 'a.png'}"
    ended = main("predict", run, images, f"--output={tmp_path / 'out'}")
    assert ended.code == 0, ended.stderr
    assert np.asarray(Image.open(tmp_path / "out/a.png")).shape == (65, 81)


def test_a_classifier_of_images_is_no_segmentation_to_import(main, tmp_path):
    ended = main(
        "import",
        "--source=torchvision/resnet50",
        f"--weights={tmp_path / 'a.npz'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert ended.code == 1
    assert "torchvision/resnet50 classifies whole images" in ended.sentence
    assert not (tmp_path / "run").exists()


def test_summary_is_a_table_or_json(main):
    table = main("summary", "--config=configs/unet_em.py:paper")
    assert table.code == 0, table.stderr
    assert "31,030,658" in table.stdout
    assert "572x572x1 -> 388x388x2" in table.stdout
    found = json.loads(
        main("summary", "--config=configs/unet_em.py:paper", "--json").stdout
    )
    assert found["parameters"] == 31_030_658


def test_prepare_builds_and_exports(main, cache_dir, tmp_path):
    ended = main(
        "prepare", EM, f"--cache_dir={cache_dir}", f"--write_images={tmp_path}"
    )
    assert ended.code == 0, ended.stderr
    assert "em_sections: train 2" in ended.stdout
    names = {path.name for path in (tmp_path / "images").iterdir()}
    assert len(names) == 2
    assert names == {path.name for path in (tmp_path / "labels").iterdir()}


def test_a_folder_of_ones_own_trains(main, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
    for i in range(3):
        image = rng.integers(0, 256, (40, 48), np.uint8)
        Image.fromarray(image).save(tmp_path / f"mine/images/{i}.png")
        mask = np.where(image > 99, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"mine/labels/{i}.png")
    ended = main(
        "train",
        "--config=configs/unet_folder.py:smoke",
        f"--data_root={tmp_path / 'mine'}",
        f"--cache_dir={tmp_path / 'data'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.stderr
    assert "foreground" in ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["step"] == 2
    for kind in ("images", "labels"):  # one of another content, and one of another name
        path = tmp_path / f"mine/{kind}"
        Image.open(path / "0.png").rotate(180).save(path / "3.png")
        (path / "1.png").rename(path / "4.png")
    ended = main("evaluate", str(tmp_path / "run"), f"--input={tmp_path / 'mine'}")
    assert "2 of the 4 images" in ended.stderr
    assert "are those of training" in ended.stderr


def test_overrides_reach_the_run(main, cache_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    ended = main(
        "train",
        EM,
        "--config.model.features=2,3,4",
        "--config.num_steps=3",
        "--config.optimizer.weight_decay=0.5",
        f"--workdir={tmp_path}",
        f"--cache_dir={cache_dir}",
    )
    assert ended.code == 0, ended.stderr
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept["model"]["features"] == [2, 3, 4]
    assert kept["optimizer"]["weight_decay"] == 0.5
    assert json.loads(ended.stdout.splitlines()[-1])["step"] == 3


def test_help_names_verbs_and_flags(run_segjax):
    ended = run_segjax("--help")
    assert ended.returncode == 0
    for word in (
        "train",
        "evaluate",
        "predict",
        "summary",
        "prepare",
        "import",
        "tune crf",
    ):
        assert word in ended.stdout


def test_help_of_a_verb_names_its_flags_alone(main):
    for verb in VERBS:
        ended = main(*verb.split(), "--help")
        assert ended.code == 0
        shown = set(re.findall(r"^  --(\w+)", ended.stdout, re.MULTILINE))
        assert shown == {*Program(VERBS).flags_of(verb)}
    assert "--tile" in main("predict", "--help").stdout
    assert "--tile" not in main("train", "--help").stdout


def test_things_are_flags_that_need_no_name(main, tmp_path):
    named = main("summary", f"--config={EM_SMOKE}")
    assert main("summary", EM_SMOKE) == named
    twice = main("summary", EM_SMOKE, f"--config={EM_SMOKE}")
    assert "are given: one of them is enough" in twice.sentence
    several = main("evaluate", str(tmp_path / "none"), "runs/b", "runs/c")
    assert "none does not exist" in several.sentence
    apart = main("evaluate", "--workdir", str(tmp_path / "none"), "--tile", "64")
    assert "none does not exist" in apart.sentence


def test_a_verb_that_wants_a_noun_says_which(main):
    assert (
        main("tune").sentence
        == 'segjax: "tune" needs a noun, such as: segjax tune crf '
        "or segjax tune instances or segjax tune temperature."
    )


def test_help_loads_neither_jax_nor_tensorflow():
    code = (
        "import importlib, sys; from segjax.main import VERBS; "
        "import segjax.commands.program; "
        "[importlib.import_module(name) for name in VERBS.values()]; "
        "print({'jax', 'flax', 'tensorflow'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"


def test_processes_need_all_three_flags(main, tmp_path):
    ended = main("train", EM, f"--workdir={tmp_path / 'a'}", "--num_processes=2")
    assert ended.code == 1
    assert "--coordinator, --num_processes and --process_id" in ended.sentence


def test_a_traceback_comes_when_asked_for(run_segjax, tmp_path):
    ended = run_segjax("evaluate", f"--workdir={tmp_path / 'none'}", "--verbosity=1")
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
