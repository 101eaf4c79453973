"""The loss of images with objects: dealt out to processes, and left out without leave."""

from types import SimpleNamespace

import jax
import ml_collections
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.tasks.instance import measurement, validation_loss
from segjax.training import sharding


@pytest.fixture
def made(monkeypatch):
    """Examples that hold the number of their record, and which were made."""
    numbers = []

    def maker(*_):
        def make(i, *_):
            numbers.append(i)
            return {"number": np.float32(i)}

        return make

    monkeypatch.setattr(validation_loss, "InstanceExampleMaker", maker)
    monkeypatch.setattr(
        validation_loss,
        "facts_of",
        lambda records: SimpleNamespace(sizes=np.full((len(records), 2), 8)),
    )
    return numbers


def of_records(count):
    return validation_loss.validation_loss(
        lambda _, batch, key: {"loss": batch["number"][0], "box": np.float32(1)},
        {},
        range(count),
        buckets=((8, 8),),
        resize="shrink",
        max_objects=1,
        mask_size=2,
        keypoint_swap=None,
    )


def test_processes_share_the_images_and_take_the_mean_of_all(made, monkeypatch):
    assert of_records(3) == {"loss": 1.0, "box": 1.0}
    parts = []
    monkeypatch.setattr(sharding, "process_count", lambda: 4)
    gather = lambda rows: parts.append(rows) or np.ones_like(rows, shape=(1, 2))
    monkeypatch.setattr(sharding, "gather", gather)
    made.clear()
    for index in range(4):
        monkeypatch.setattr(sharding, "process_index", lambda index=index: index)
        of_records(3)
    assert made == [0, 1, 2, 0]  # the last one has no image of its own
    assert np.concatenate(parts).tolist() == [[1, 0], [1, 1], [1, 2]]


def test_without_leave_for_the_code_of_the_loss_it_is_left_out(monkeypatch):
    def refuse(_):
        raise UserError("Give --allow_code=own_package.")

    monkeypatch.setattr(measurement, "InstanceLossFromConfig", refuse)
    task = object.__new__(measurement.InstanceMeasurement)
    task.config = ml_collections.ConfigDict({"loss": {"name": "own_package:loss"}})
    assert task._validation_loss({}, None, "validation") == {}


def test_the_network_is_put_on_the_devices_once(monkeypatch):
    given = []
    measured = lambda _, variables, *args, **more: given.append(variables) or {}
    monkeypatch.setattr(measurement, "validation_loss", measured)
    pipeline = {"max_objects": 1, "mask_size": 2}
    task = SimpleNamespace(
        config=ml_collections.ConfigDict({"pipeline": pipeline}),
        loss=print,
        _image_loss=print,
        records=lambda *_: [],
        evaluated_buckets=(),
        resize="shrink",
    )
    dataset = SimpleNamespace(instances=None)
    of_split = measurement.InstanceMeasurement._validation_loss
    of_split(task, {"kernel": np.ones(2)}, dataset, "validation")
    assert isinstance(given[0]["kernel"], jax.Array)
