"""A labelled folder that is not the data set of a run, opened with its classes."""

from types import SimpleNamespace

import ml_collections
import numpy as np
import optax
import pytest
import tifffile
from PIL import Image

from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import LabelSpec
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError
from segjax.training.experiment import open_labelled, schedule_from

SPEC = LabelSpec(("void", "cell"), ((0, 0, 0), (9, 9, 9)), remap=((7, 1),))
WEIGHTS = SimpleNamespace(label_spec=SPEC, channels=1, instance_spec=None)


@pytest.fixture
def cells(tmp_path):
    """A folder whose images `index.csv` sorts into no split that trains."""
    label = np.zeros((8, 9), np.uint8)
    label[2:5, 2:6] = 7
    for part in ("images", "labels"):
        (tmp_path / "cells" / part).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(label).save(tmp_path / "cells" / part / f"{name}.png")
    index = tmp_path / "cells" / "index.csv"
    index.write_text("id,split\na,test\nb,test\n")
    return tmp_path / "cells"


def opened(cells, data, weights=WEIGHTS):
    config = ml_collections.ConfigDict({"data": data})
    return open_labelled(config, weights, str(cells), str(cells.parent / "memory"))


def test_labels_mean_what_they_mean_in_the_data_set_of_the_run(cells):
    records = opened(cells, {"name": "camvid"}).splits["all"]
    assert [record["name"] for record in records] == ["a", "b"]
    assert records[0]["label"].sum() == 12
    own = {"name": "folder", "labels": "instances"}
    classes = (("background", (0, 0, 0)), ("nucleus", (9, 9, 9)))
    dataset = opened(cells, own | {"classes": classes})
    assert dataset.label_spec.names == ("background", "nucleus")
    assert dataset.splits["all"][1]["cells"].max() == 7


def test_pages_and_channels_of_the_folder_are_chosen(cells):
    for part, planes in (("images", 2), ("labels", 1)):
        stack = np.arange(3 * planes, dtype=np.uint8).reshape(3, planes, 1, 1)
        stack = np.broadcast_to(stack if planes > 1 else 7, (3, planes, 8, 9)).astype(
            np.uint8
        )
        stack[..., 0, 0] = 0
        for path in (cells / part).iterdir():
            path.unlink()
        path = cells / part / "s.tif"
        tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZCYX"})
    config = ml_collections.ConfigDict({"data": {"name": "camvid"}})
    folder, memory = str(cells), str(cells.parent / "memory")
    records = open_labelled(config, WEIGHTS, folder, memory, ("1",), (0, 2)).splits[
        "all"
    ]
    assert [record["name"] for record in records] == ["s/000", "s/002"]
    assert [record["image"].max() for record in records] == [1, 5]


def test_classes_that_overlap_are_read_as_such(cells):
    colors = ((1, 1, 1), (9, 9, 9), (5, 5, 5))
    weights = SimpleNamespace(
        label_spec=OverlappingClasses(("a", "b", "c"), colors),
        channels=1,
        instance_spec=None,
    )
    dataset = opened(cells, {"name": "own_package:data"}, weights)
    assert isinstance(dataset.label_spec, OverlappingClasses)
    assert dataset.splits["all"][0]["label"].max() == 7  # a pixel of all three


def test_objects_of_one_class_are_read_as_such(cells):
    weights = SimpleNamespace(
        label_spec=SPEC, channels=3, instance_spec=InstanceSpec((1,))
    )
    dataset = opened(cells, {"name": "instance_shapes"}, weights)
    assert len(dataset.splits["all"]) == 2
    assert dataset.label_spec.names == ("background", "cell")
    many = LabelSpec(("background", "a", "b"), ((0, 0, 0),) * 3)
    weights = SimpleNamespace(
        label_spec=many, channels=3, instance_spec=InstanceSpec((1, 2))
    )
    with pytest.raises(UserError, match="objects of one class, but this run has 2"):
        opened(cells, {"name": "coco"}, weights)


def test_a_missing_folder_is_a_sentence(cells):
    with pytest.raises(UserError, match=r"^--input=.*nowhere is not a folder"):
        opened(cells / "nowhere", {"name": "folder"})


def schedule_of(**group):
    config = ml_collections.ConfigDict({"schedule": group, "num_steps": 100})
    return schedule_from(config)


def test_a_schedule_of_optax_takes_rate_and_steps_by_its_own_names():
    cosine = schedule_of(name="optax:cosine_decay_schedule", learning_rate=0.5)
    ours = schedule_of(name="cosine", learning_rate=0.5)
    rates = [(float(cosine(i)), float(ours(i))) for i in (0, 31, 100)]
    assert all(a == pytest.approx(b) for a, b in rates)
    own = {"init_value": 0.0, "warmup_steps": 10, "decay_steps": 50}
    name = "optax:warmup_cosine_decay_schedule"
    rising = schedule_of(name=name, learning_rate=0.5, **own)
    expected = optax.warmup_cosine_decay_schedule(peak_value=0.5, **own)
    assert [float(rising(i)) for i in (0, 5, 10, 50)] == [
        float(expected(i)) for i in (0, 5, 10, 50)
    ]
    with pytest.raises(UserError, match='unknown key "decay_step"'):
        schedule_of(name="optax:cosine_decay_schedule", init_value=1.0, decay_step=9)
