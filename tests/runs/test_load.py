"""A run that was trained, loaded again; Otsu measured beside it."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.dataset import Dataset
from segjax.data.files.images import normalize
from segjax.data.intensities import count_intensities
from segjax.data.normalization import Percentiles
from segjax.errors import UserError
from segjax.predict.resampled import Resampling
from segjax.runs.evaluate import evaluate_run
from segjax.runs.load import load_trained
from segjax.runs.predict import predict_run
from segjax.runs.train import train
from segjax.tasks.semantic.baseline import PositionPredictor, evaluate_baseline
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.evaluate import Report
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop, state
from segjax.training.about import LEARNED, about_run
from segjax.training.checkpoints import checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache_dir):
    from pathlib import Path

    from segjax import config

    workdir = tmp_path_factory.mktemp("run")
    root = Path(__file__).resolve().parents[2]
    smoke = config.load(f"{root}/configs/unet_em.py:smoke")
    smoke.num_steps, smoke.eval_every = 3, 2
    smoke.pipeline.normalization = "percentiles"
    plot_run, loop.plot_run = loop.plot_run, lambda workdir, *_: [workdir]
    try:
        return workdir, train(smoke, workdir, cache_dir)
    finally:
        loop.plot_run = plot_run


def test_the_newest_checkpoint_is_loaded(run):
    workdir, result = run
    trained = load_trained(workdir)
    assert trained.step == 3
    assert trained.parameters_sha256 == result.parameters_sha256
    assert trained.channels == 1
    assert trained.label_spec.names == ("membrane", "cell")
    image = np.zeros((32, 32, 1), np.float32)
    assert trained.task.predictor(trained.variables).labels(image).shape == (32, 32)


def test_what_was_learned_of_the_training_split_is_kept(run, cache_dir, monkeypatch):
    workdir, result = run
    task = load_trained(workdir).task
    dataset = task.open_dataset(cache_dir, None)
    expected = count_intensities(dataset.splits["train"], Percentiles())
    assert task.normalization == Percentiles(learned=expected)
    monkeypatch.setattr(
        SemanticTask, "learn", None
    )  # a resumed run counts nothing anew
    assert train(task.config, workdir, cache_dir) == result


def test_a_checkpoint_that_learned_nothing_has_no_floor(run, monkeypatch):
    workdir, _ = run
    restore = checkpoint.Checkpoints.restore_newest

    def older(*arguments):
        state, about = restore(*arguments)
        return state, {key: x for key, x in about.items() if key != LEARNED}

    monkeypatch.setattr(checkpoint.Checkpoints, "restore_newest", older)
    assert load_trained(workdir).task.normalization == Percentiles()


def test_the_size_of_training_pixels_is_remembered(
    run, cache_dir, monkeypatch, tmp_path
):
    workdir, _ = run
    assert load_trained(workdir).pixel_size is None
    task = load_trained(workdir).task
    dataset = task.open_dataset(cache_dir, None)
    calibrated = dataclasses.replace(dataset, pixel_size=(0.5, 0.25))
    restore = checkpoint.Checkpoints.restore_newest

    def with_size(*arguments):
        state, about = restore(*arguments)
        size = about_run(task.config, calibrated)["pixel_size"]
        return state, {**about, "pixel_size": size}

    monkeypatch.setattr(checkpoint.Checkpoints, "restore_newest", with_size)
    assert load_trained(workdir).pixel_size == (0.5, 0.25)
    image = np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        imagej=True,
        resolution=(1, 1),
        metadata={"unit": "um"},
    )
    predict_run(workdir, tmp_path / "a.tif", tmp_path / "out", rescale=True)
    label = tifffile.imread(tmp_path / "out" / "a.tif")
    assert label.shape == image.shape
    resample, trained = Resampling(zoom=(2.0, 4.0)), load_trained(workdir)
    large = resample(image[..., None])
    assert large.shape == (80, 192, 1)
    predictor = trained.task.predictor(trained.variables)
    large = normalize(large, trained.task.normalization)
    page = next(predictor.pages([large], ("logits",)))
    expected = resample.answer(page, image.shape, ("labels",))["labels"]
    np.testing.assert_array_equal(label, expected)


@pytest.mark.quick(1)
@pytest.mark.parametrize("downscale", [3, 1])
def test_images_are_labelled_as_files_are(run, downscale, tmp_path):
    workdir, _ = run
    kept = shutil.copytree(workdir, tmp_path / "run")
    config = json.loads((kept / "config.json").read_text())
    config["data"]["downscale"] = downscale
    (kept / "config.json").write_text(json.dumps(config))
    image = np.random.default_rng(0).integers(0, 256, (97, 120), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    predict_run(kept, tmp_path / "a.png", tmp_path / "out")
    trained = load_trained(kept)
    image = image[..., None]
    found = trained.labels(image)
    np.testing.assert_array_equal(found, Image.open(tmp_path / "out/a.png"))

    small = normalize(Resampling(downscale)(image), trained.task.normalization)
    predictor = trained.task.predictor(trained.variables)
    page = next(predictor.pages([small], ("logits",)))
    expected = Resampling(downscale).answer(page, (97, 120), ("labels",))["labels"]
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) == 2

    predict_run(kept, tmp_path / "a.png", tmp_path / "as_it_is", downscale=1)
    as_it_is = np.asarray(Image.open(tmp_path / "as_it_is/a.png"))
    np.testing.assert_array_equal(trained.labels(image, downscale=1), as_it_is)
    assert (as_it_is == found).all() == (downscale == 1)


RED = np.zeros((32, 32, 3), np.uint8) + np.array([200, 0, 0], np.uint8)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((32, 32, 3, 2), np.uint8), r"2 channels.*trained on 1 channel"),
        (RED, r"3 channels \(RGB\).*trained on 1 channel"),
        (np.zeros((1, 1, 32, 32, 1), np.uint8), r"allowed are \[H, W\]"),
        (np.zeros(32, np.uint8), r"image is uint8 \[32\]; allowed are"),
        (np.zeros((32, 32, 1), np.complex64), "complex64"),
    ],
    ids=["channels", "colour", "five axes", "one axis", "type"],
)
def test_arrays_that_are_not_a_stored_image_are_reported(run, image, words):
    with pytest.raises((ValueError, UserError), match=words):
        load_trained(run[0]).labels(image)


def test_arrays_of_all_forms_are_taken(run):
    trained = load_trained(run[0])
    grey = np.random.default_rng(0).integers(0, 256, (32, 48), np.uint8)
    expected = trained.labels(grey[..., None])
    for same in (grey, grey[..., None].repeat(3, -1)):
        np.testing.assert_array_equal(trained.labels(same), expected)
    stack = np.stack([grey, grey[::-1]])
    np.testing.assert_array_equal(trained.labels(stack)[0], expected)
    assert trained.labels(stack[..., None]).shape == (2, 32, 48)


def test_objects_of_arrays_are_those_of_files(run, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    predict_run(run[0], tmp_path / "a.png", tmp_path / "out", instances=True)
    numbers = load_trained(run[0]).instances(image)
    stored = np.asarray(Image.open(tmp_path / "out/a_instances.png"))
    np.testing.assert_array_equal(numbers, stored)
    assert numbers.max() > 0


@pytest.mark.parametrize("factor", [0, 1.5, "2", None])
def test_an_impossible_downscale_is_reported(run, factor, tmp_path):
    kept = shutil.copytree(run[0], tmp_path / "run")
    config = json.loads((kept / "config.json").read_text())
    config["data"]["downscale"] = factor
    (kept / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.data\.downscale is an integer"):
        load_trained(kept)


def test_parameters_that_are_not_finite_stop_whatever_would_use_them(
    run, main, cache_dir, tmp_path, smoke
):
    kept = shutil.copytree(run[0], tmp_path / "run")
    task = load_trained(kept).task
    with checkpoint.Checkpoints(kept, task.evaluation.best_metric) as checkpoints:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = checkpoint.abstract_like(
            jax.eval_shape(lambda: task.init_state(1)), sharding
        )
        state, about = checkpoints.restore_newest(abstract)
        spoilt = jax.tree.map(lambda x: x.at[..., -1].set(np.nan), state.params)
        checkpoints.save(
            dataclasses.replace(state, step=state.step + 1, params=spoilt), about
        )
        checkpoints.wait()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "a.png")
    use = f"--workdir={kept}"
    asked = f"--cache_dir={cache_dir}"
    input, output = f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}"
    results = [
        main("predict", use, input, output),
        main("evaluate", use, asked),
        main("tune", "crf", use, asked),
    ]
    for ended in results:
        assert ended.code == 1
        assert "that of step 4, whose values are not finite" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert "evaluate and predict step 3 (--checkpoint=best)" in ended.stderr
    assert not (tmp_path / "out").exists()
    assert main("predict", use, input, output, "--checkpoint=best").code == 0
    smoke.initialization = {"source": "segjax/run", "input": str(kept)}
    with pytest.raises(UserError, match="values are not finite"):
        train(smoke, tmp_path / "next", cache_dir)
    smoke.initialization.input = str(kept / "checkpoints/7")
    with pytest.raises(UserError, match=r"no checkpoint of step 7 in .* of 4, 3\. "):
        train(smoke, tmp_path / "next", cache_dir)
    for path in (kept / "checkpoints/3/state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    again = main("predict", use, input, output)
    assert again.sentence.endswith("with a lower learning rate.")


def test_an_evaluation_reports_the_crf_that_refined(run, cache_dir, tmp_path):
    kept = shutil.copytree(run[0], tmp_path / "run")
    config = json.loads((kept / "config.json").read_text())
    config["crf"] = {"w1": 2.5, "num_iterations": 1}
    (kept / "config.json").write_text(json.dumps(config))
    crf = evaluate_run(kept, crf=True, cache_dir=cache_dir)["crf"]
    assert (crf["w1"], crf["num_iterations"], crf["sigma_alpha"]) == (2.5, 1, 49)


@pytest.mark.parametrize(
    ("values", "expected", "dtypes"),
    [
        (np.array([40, 3000, 900, 70], np.uint16), 4095, ["uint16"]),
        (np.array([40, 300, 90, 70], np.uint16), 1023, ["uint16"]),
        (np.array([40, 250, 90, 70], np.uint8), None, ["uint8"]),
        (np.array([0.25, 0.5], np.float32), None, ["float32"]),
        ([np.uint16(3000), np.uint8(200)], None, ["uint16", "uint8"]),
        ([], None, []),
    ],
    ids=["12 bits", "10 bits", "8 bits", "floats", "16 and 8 bits", "no images"],
)
def test_a_run_knows_types_and_range_of_its_training_images(
    run, values, expected, dtypes
) -> None:
    """One range for all images, so that a dark page of a stack keeps its contrast."""
    records = [{"image": np.full((2, 2, 1), x), "name": "a"} for x in values]
    trained = load_trained(run[0])
    dataset = Dataset("folder", trained.label_spec, 1, {"train": records})
    about = about_run(trained.task.config, dataset)
    assert about["max_intensity"] == expected
    assert about["image_dtypes"] == dtypes
    known = dataclasses.replace(trained, max_intensity=expected)
    assert known.in_range(CRF()).max_intensity == expected
    assert known.in_range(CRF(max_intensity=600)).max_intensity == 600


def test_evaluation_and_prediction_take_the_range_of_the_checkpoint(
    run, cache_dir, tmp_path, monkeypatch
) -> None:
    kept = shutil.copytree(run[0], tmp_path / "run")
    config = json.loads((kept / "config.json").read_text())
    config["crf"] = {"num_iterations": 1}
    (kept / "config.json").write_text(json.dumps(config))
    trained = dataclasses.replace(load_trained(kept), max_intensity=4095)
    monkeypatch.setattr("segjax.runs.ensemble.load_trained", lambda *_, **__: trained)
    crf = evaluate_run(kept, crf=True, cache_dir=cache_dir)["crf"]
    assert crf["max_intensity"] == 4095
    seen = []
    monkeypatch.setattr(
        CRF,
        "page",
        lambda crf, image, *_: seen.append(crf) or {"labels": image[..., 0]},
    )
    image = np.zeros((40, 40), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    predict_run(kept, tmp_path / "a.png", tmp_path / "out", crf=True)
    assert [crf.max_intensity for crf in seen] == [4095]


def test_the_best_checkpoint_may_be_an_old_one(smoke, cache_dir, tmp_path, monkeypatch):
    """Less is better for an error; that more is for the IoU, `test_checkpoint.py` sees."""
    measured = iter([(0.9, 0.3), (0.2, 0.1), (0.3, 0.4), (0.5, 0.2)])

    def evaluate(*_):
        iou, error = next(measured)
        return Report({"mean_iou": iou, "pixel_error": error}, np.eye(2))

    monkeypatch.setattr(SemanticTask, "evaluate", evaluate)
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    smoke.num_steps, smoke.eval_every = 4, 1
    smoke.evaluation.best_metric = "pixel_error"
    hashes = {}
    save = loop.checkpoint.Checkpoints.save

    def noted(self, state, *others):
        hashes[int(state.step)] = loop.parameters_sha256(state.params)
        save(self, state, *others)

    monkeypatch.setattr(loop.checkpoint.Checkpoints, "save", noted)
    train(smoke, tmp_path, cache_dir)
    trained = load_trained(tmp_path, best=True)
    assert trained.step == 2
    assert trained.parameters_sha256 == hashes[2]
    assert load_trained(tmp_path).step == 4


def test_loading_changes_nothing(run):
    workdir, _ = run
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    load_trained(workdir)
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


def test_a_run_without_evaluation_has_no_best(run, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(run[0], workdir)
    for path in (workdir / "checkpoints").glob("*/about/metadata"):
        about = json.loads(path.read_text()) | {"metrics": None}
        about["about_sha256"] = state.about_sha256(about)
        path.write_text(json.dumps(about))
    with pytest.raises(UserError, match="no evaluated checkpoint yet"):
        load_trained(workdir, best=True)


def test_a_damaged_best_checkpoint_is_no_traceback(run, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(run[0], workdir)
    best = load_trained(workdir, best=True).step
    for path in (workdir / f"checkpoints/{best}").rglob("d/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=rf"step {best} .* is damaged .*latest"):
        load_trained(workdir, best=True)


def test_evaluating_names_split_step_and_hash(run, cache_dir):
    workdir, result = run
    found = evaluate_run(workdir, split="test", cache_dir=cache_dir)
    assert (found["split"], found["step"]) == ("test", 3)
    assert "crf" not in found
    assert found["parameters_sha256"] == result.parameters_sha256


def test_an_unknown_split_is_refused(run, cache_dir):
    with pytest.raises(UserError, match='no images in a split "tset"; it has train'):
        evaluate_run(run[0], split="tset", cache_dir=cache_dir)


def test_all_images_of_a_labelled_folder_are_measured(run, cache_dir, tmp_path, caplog):
    workdir, _ = run
    label = np.zeros((40, 50), np.uint8)
    label[10:30, 10:40] = 1
    for part, values in (("images", label * 200), ("labels", label)):
        (tmp_path / "cells" / "test" / part).mkdir(parents=True)
        for name in ("a", "b", "c"):
            Image.fromarray(values).save(tmp_path / f"cells/test/{part}/{name}.png")
    given = {"input": str(tmp_path / "cells"), "cache_dir": str(tmp_path / "memory")}
    with caplog.at_level("INFO"):
        found = evaluate_run(workdir, output=tmp_path / "out", baseline=True, **given)
    assert (found["split"], found["images"]) == ("all", 3)
    assert found["otsu/iou/cell"] > 0.8
    assert "Measured 3 of 3 images" in caplog.text
    assert len((tmp_path / "out/per_image.csv").read_text().splitlines()) == 4
    assert (tmp_path / "out/worst_3.png").exists()
    (tmp_path / "out/per_image.csv").write_text("mine")
    with pytest.raises(UserError, match="segjax did not write"):
        evaluate_run(workdir, output=tmp_path / "out", **given)
    with pytest.raises(UserError, match="give one of them"):
        evaluate_run(workdir, split="test", **given)


def test_otsu_is_measured_as_the_network_is(smoke, cache_dir):
    task = SemanticTask(smoke)
    dataset = task.open_dataset(cache_dir, None)
    name, report = evaluate_baseline(
        dataset, "validation", task.evaluation, normalization=task.normalization
    )
    assert name == "otsu"
    assert 0.3 < report.metrics["mean_iou"] < 0.95
    assert {"rand_error", "warping_error"} <= report.metrics.keys()


def test_of_images_in_colour_the_commonest_class_at_each_place_is_the_baseline(
    smoke, cache_dir
):
    smoke.evaluation.cell_class = None
    task = SemanticTask(smoke)
    dataset = task.open_dataset(cache_dir, None)
    red = np.array([1, 0, 0], np.uint8)
    records = [x | {"image": x["image"] * red} for x in dataset.splits["train"]]
    dataset = dataclasses.replace(dataset, channels=3, splits={"train": records})
    name, report = evaluate_baseline(
        dataset, "train", task.evaluation, normalization=task.normalization
    )
    assert name == "position"
    labels = np.stack([record["label"] for record in dataset.splits["train"]])
    membrane = labels.mean(0) > 0.5
    expected = (labels == membrane).mean()
    assert report.metrics["pixel_accuracy"] == pytest.approx(expected)


def test_the_commonest_class_is_stretched_to_images_of_other_sizes():
    label = np.array([[0, 1], [2, 2]], np.uint8)
    ignored = np.full((4, 4), 255, np.uint8)
    records = [{"label": label}, {"label": label.repeat(2, 0).repeat(2, 1)}]
    predictor = PositionPredictor([*records, {"label": ignored}], 3)
    page = next(predictor.pages([np.zeros((6, 4, 3), np.float32)]))
    np.testing.assert_array_equal(page["labels"], label.repeat(3, 0).repeat(2, 1))
    assert page["probabilities"].shape == (6, 4, 3)
    np.testing.assert_array_equal(page["probabilities"].max(-1), 1)
