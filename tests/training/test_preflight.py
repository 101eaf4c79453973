"""The screen before the first step."""

import numpy as np
import pytest

from segjax.data.dataset import Dataset
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.preflight import (
    describe_dataset,
    describe_experiment,
    describe_step,
)
from segjax.training.sharding import Devices

SPEC = LabelSpec(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def dataset_of(*labels):
    records = [
        {
            "image": np.zeros((*np.shape(x), 1), np.uint8),
            "label": np.uint8(x),
            "name": "r",
        }
        for x in labels
    ]
    return Dataset("mine", SPEC, 1, {"train": records, "validation": records[:1]})


def test_fractions_sizes_and_splits_are_reported():
    text = describe_dataset(dataset_of([[0, 0], [1, 255]], [[0, 1, 1, 0]]))
    assert "mine: train 2, validation 1" in text
    assert "1 of 1x4x1, 1 of 2x2x1" in text
    assert "a 57.1%, b 42.9%" in text
    assert "ignored 12.5% of all" in text
    assert SPEC.describe().splitlines()[1] in text


def test_a_class_that_is_never_seen_is_pointed_at():
    text = describe_dataset(dataset_of([[0, 1]]))
    assert "c 0.0%  <- never seen" in text
    assert "a 50.0%," in text


def test_nothing_but_ignored_pixels_is_refused():
    with pytest.raises(UserError, match=r"All pixels of the 2 records.*255"):
        describe_dataset(dataset_of([[255, 255]], [[255, 255]]))


def test_network_data_and_devices_are_reported(smoke, cache_dir):
    task = SemanticTask(smoke)
    dataset = task.open_dataset(cache_dir, None)
    text = describe_experiment(task, dataset, Devices())
    assert "unet, 1,682 parameters, 64x64 -> 64x64, batch 4" in text
    assert "Devices    4 x cpu" in text


class Compiled:
    """The memory analysis that XLA gives of a step."""

    def cost_analysis(self):
        return {"flops": 2e9}

    def memory_analysis(self):
        class Memory:
            temp_size_in_bytes = 3 * 2**20
            argument_size_in_bytes = 2**20

        return Memory()


def test_cost_counts_all_devices_and_memory_one():
    text = describe_step(Compiled(), 10, 4, 30.0)
    assert "8.0 GFLOP, peak memory 4 MiB a device" in text
    assert "10 steps take about 5 min 0 s" in text


def test_the_cost_of_a_tiny_network_is_not_0(monkeypatch):
    monkeypatch.setattr(Compiled, "cost_analysis", lambda _: {"flops": 3.456e6})
    assert "Step       0.0138 GFLOP," in describe_step(Compiled(), 10, 4, 30.0)


def test_a_finished_run_takes_no_time():
    assert "steps take" not in describe_step(Compiled(), 0, 4, 1.0)
