"""Devices: even parts, batches and states where they belong."""

import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.training import sharding
from segjax.training.sharding import Devices
from segjax.training.state import TrainState


def test_all_devices_are_in_the_mesh():
    assert Devices().count == jax.device_count() == 4


@pytest.mark.parametrize("size", [4, 8, 400])
def test_even_batches_pass(size):
    Devices().check_batch_size(size)


@pytest.mark.parametrize(
    ("size", "nearest"), [(1, "use 4."), (3, "use 4."), (6, "4 or 8"), (9, "8 or 12")]
)
def test_uneven_batches_are_refused_with_the_nearest(size, nearest):
    with pytest.raises(UserError, match=f"config.batch_size is {size}") as caught:
        Devices().check_batch_size(size)
    assert nearest in str(caught.value)


def test_a_batch_is_divided_along_its_first_axis():
    devices = Devices()
    image = np.arange(8 * 3).reshape(8, 3).astype(np.float32)
    placed = devices.put_batch({"image": image})["image"]
    np.testing.assert_array_equal(placed, image)
    assert [s.data.shape for s in placed.addressable_shards] == [(2, 3)] * 4


def test_a_state_is_whole_on_every_device():
    state = TrainState(np.int32(7), {"a": np.arange(3.0, dtype=np.float32)}, {}, ())
    placed = Devices().put_state(state)
    assert placed.step.dtype == np.int32
    for shard in placed.params["a"].addressable_shards:
        np.testing.assert_array_equal(shard.data, np.arange(3.0))
    assert len(placed.params["a"].addressable_shards) == 4


def test_one_process_gathers_what_it_has():
    rows = np.arange(6, dtype=np.int64).reshape(3, 2)
    assert sharding.gather(rows) is rows
    sharding.barrier("alone")
    assert (sharding.process_index(), sharding.process_count()) == (0, 1)
