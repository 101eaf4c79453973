"""predict: from a run's folder to files, for networks that find objects."""

import types

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.runs import predict
from segjax.tasks.instance.evaluate import InstanceEvaluation
from segjax.tasks.instance.task import InstanceTask
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.task import require


@pytest.fixture
def trained(monkeypatch):
    """A run whose network finds one object that fills the image."""
    task = object.__new__(InstanceTask)
    task.config = types.SimpleNamespace(
        model=types.SimpleNamespace(name="mask_rcnn"), data={"name": "instance_folder"}
    )
    task.evaluation = InstanceEvaluation(batch_size=1)
    task.evaluated_buckets, task.resize = ((16, 16),), "shrink"

    def detect(batch):
        count = len(batch["image"])
        return {
            "boxes": np.tile(np.float32([[0, 0, 16, 16]]), (count, 1, 1)),
            "scores": np.full((count, 1), 0.9, np.float32),
            "classes": np.ones((count, 1), np.int32),
            "masks": np.ones((count, 1, 28, 28), np.float32),
            "valid": np.ones((count, 1), bool),
        }

    task.detector = lambda variables: detect
    spec = LabelSpec(("background", "cell"), ((0, 0, 0), (9, 9, 9)))
    found = types.SimpleNamespace(
        task=task,
        variables={},
        label_spec=spec,
        instance_spec=InstanceSpec((17,)),
        channels=3,
    )
    monkeypatch.setattr(predict, "load_ensemble", lambda workdirs, **_: found)
    return found


def test_a_run_with_objects_writes_label_images_and_results(trained, tmp_path):
    Image.new("L", (16, 12)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    files = predict.predict_run(tmp_path, tmp_path / "a.png", out, overlay=True)
    assert files == [out / "a.png"]
    label = np.asarray(Image.open(files[0]))
    assert label.shape == (12, 16)
    assert (label[1:-1, 1:-1] == 1).all()
    assert '"category_id": 17' in (out / "results.json").read_text()
    assert (out / "a_overlay.png").exists()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [("probabilities", "--probabilities is for"), ("crf", "--crf is for networks")],
)
def test_options_for_pixels_are_refused_for_objects(
    trained, tmp_path, option, sentence
):
    with pytest.raises(UserError, match=sentence):
        predict.predict_run(tmp_path, tmp_path, tmp_path / "out", **{option: True})
    assert not (tmp_path / "out").exists()


def test_a_finder_is_for_objects(smoke):
    with pytest.raises(
        UserError, match=r"^finder is for networks that find objects, but .*labels pix"
    ):
        require(SemanticTask(smoke), "instances", "finder")


def test_channels_are_chosen_and_as_many_as_were_trained(trained, tmp_path):
    with pytest.raises(UserError, match=r"--channels=DAPI,1 chooses 2, but .* on 3"):
        predict.predict_run(tmp_path, tmp_path, tmp_path / "o", channels=["DAPI", "1"])
    seen = []
    finder = trained.task.finder

    def watched(variables, tile, spread):
        find = finder(variables, tile=tile, spread=spread)
        return lambda image: seen.append(image) or find(image)

    trained.task.finder = watched
    planes = np.random.default_rng(0).integers(0, 255, (4, 12, 16), np.uint8)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "RFP", "Cy5"]}}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", planes, photometric="minisblack", metadata=metadata
    )
    predict.predict_run(
        tmp_path, tmp_path / "a.ome.tif", tmp_path / "o", channels=["Cy5", "DAPI", "1"]
    )
    np.testing.assert_array_equal(seen[0], np.moveaxis(planes[[3, 0, 1]], 0, -1))
    predict.predict_run(
        tmp_path, tmp_path / "a.ome.tif", tmp_path / "one", channels=["GFP"]
    )
    np.testing.assert_array_equal(seen[1], np.moveaxis(planes[[1, 1, 1]], 0, -1))
    with pytest.raises(UserError, match=r"has 4 channels, .*--channels of DAPI, GFP"):
        predict.predict_run(tmp_path, tmp_path / "a.ome.tif", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_images_are_resized_by_one_rule(tmp_path, monkeypatch, smoke):
    found = types.SimpleNamespace(task=SemanticTask(smoke))
    monkeypatch.setattr(predict, "load_ensemble", lambda *_, **__: found)
    with pytest.raises(UserError, match=r"--rescale and --downscale both .*: give one"):
        predict.predict_run(
            tmp_path, tmp_path, tmp_path / "o", rescale=True, downscale=2
        )
