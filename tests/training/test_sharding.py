"""Devices: even parts, batches and states where they belong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.inspect.compiled import collectives_in, gathered_in
from segjax.ops.convolution.convolve import conv
from segjax.ops.resizing.resize import resize_bilinear
from segjax.training import sharding
from segjax.training.checkpoints.checkpoint import Checkpoints, abstract_like
from segjax.training.divergence import all_finite, not_finite
from segjax.training.gathering import gathered, gathering
from segjax.training.layout import Layout
from segjax.training.leaves import local_values
from segjax.training.sharding import Devices
from segjax.training.state import TrainState, tree_sha256


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


KERNELS = {
    "conv": {"kernel": np.arange(72.0, dtype=np.float32).reshape(3, 3, 2, 4)},
    "bias": np.ones(3, np.float32),
}


def state_with_moments():
    moments = jax.tree.map(lambda x: 2 * x, KERNELS)
    return TrainState(
        np.int32(7),
        KERNELS,
        {},
        {"mu": moments},
        ema={"params": KERNELS, "batch_stats": {}},
    )


def grid(count, **axes):
    return Devices(jax.devices()[:count], Layout(min_size=8, **axes))


def test_a_divided_state_has_the_hash_of_the_whole_one():
    state = state_with_moments()
    placed = grid(4, model=4).put_state(state)
    for tree in (placed.params, placed.opt_state["mu"], placed.ema["params"]):
        shapes = [x.data.shape for x in tree["conv"]["kernel"].addressable_shards]
        assert shapes == [(3, 3, 2, 1)] * 4
        assert tree["bias"].is_fully_replicated
    assert tree_sha256(placed) == tree_sha256(state)
    assert len(local_values(placed.params["conv"]["kernel"])) == 4
    assert len(local_values(placed.params["bias"])) == 1


def test_a_number_that_is_not_finite_is_found_on_any_device():
    state = state_with_moments()
    assert all_finite(grid(4, model=4).put_state(state))
    kernel = KERNELS["conv"]["kernel"].copy()
    kernel[..., -1] = np.nan
    broken = TrainState(np.int32(7), {"conv": {"kernel": kernel}}, {}, ())
    placed = grid(4, model=4).put_state(broken)
    assert not all_finite(placed)
    assert list(not_finite(placed)) == ["params/conv/kernel"]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_checkpoint_of_four_devices_is_the_same_on_others(count, tmp_path):
    state = state_with_moments()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(grid(4, model=4).put_state(state), {})
        checkpoints.wait()
    places = grid(count, model=count).of_state(state)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        found, about = checkpoints.restore(7, abstract_like(state, places))
    kernel = found.params["conv"]["kernel"]
    assert kernel.sharding == places.params["conv"]["kernel"]
    assert len({str(x.index) for x in kernel.addressable_shards}) == count
    assert about["state_sha256"] == tree_sha256(found) == tree_sha256(state)
    assert about["parameters_sha256"] == tree_sha256(KERNELS)


def test_rows_of_maps_are_divided_and_what_is_uneven_is_not():
    batch = {
        "image": np.zeros((4, 8, 6, 1), np.float32),
        "label": np.zeros((4, 5, 3), np.int32),
        "record": np.zeros(4, np.int32),
    }
    placed = grid(4, rows=2).put_batch(batch)
    shapes = {name: x.addressable_shards[0].data.shape for name, x in placed.items()}
    assert shapes == {"image": (2, 4, 6, 1), "label": (2, 5, 3), "record": (2,)}


def test_batches_are_for_as_many_images_at_a_time_as_there_are_groups_of_devices():
    grid(4, rows=2).check_batch_size(2)
    with pytest.raises(
        UserError, match="4 devices, 2 to an image, cannot share evenly"
    ):
        grid(4, rows=2).check_batch_size(3)


def test_the_grid_is_said_where_it_is_not_the_usual():
    assert grid(4).described == "4 x cpu"
    assert grid(4, model=2, rows=2).described == "4 x cpu (2 along model, 2 along rows)"


def test_of_a_small_map_and_a_large_kernel_the_kernel_is_gathered():
    rng = np.random.default_rng(0)
    x, kernel = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((4, 2, 2, 64), (3, 3, 64, 32))
    )
    devices = grid(4, model=4)
    loss = lambda kernel, x: jnp.sum(jnp.sin(conv(x, kernel["conv"], padding=1)))
    state = TrainState(np.int32(0), {"conv": kernel}, {}, ())
    places = (devices.of_state(state).params, devices.batch)
    assert not places[0]["conv"].is_fully_replicated

    def of_gathered(kernel, x):
        return gathering(lambda kernel: loss(gathered(kernel), x))(kernel)

    gradient = jax.jit(
        jax.grad(of_gathered), in_shardings=places, out_shardings=places[0]
    )
    with devices.lowering():
        compiled = gradient.lower(state.params, x).compile()
    text = compiled.as_text()
    assert gathered_in(text, devices.divided(state)) == []
    assert collectives_in(text).keys() == {"all-gather", "all-reduce"}
    found = compiled(*jax.device_put((state.params, x), places))["conv"]
    wanted = jax.jit(jax.grad(loss))(state.params, x)["conv"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_parameters_are_gathered_by_the_step_where_they_are_divided_alone():
    function = lambda params: params
    for devices in (grid(4), grid(4, rows=4), grid(4, model=4, gather=False)):
        with devices.lowering():
            assert gathering(function) is function
            assert gathered(KERNELS) is KERNELS
    with grid(4, model=4).lowering():
        assert gathering(function) is not function


@pytest.mark.parametrize("side", [16, 17], ids=["even", "uneven"])
def test_enlarged_maps_fetch_rows_at_the_border_alone(side):
    devices = grid(4, rows=4)
    enlarged = lambda x, scale: scale * resize_bilinear(x, size=(4 * side, 4 * side))
    loss = devices.by_rows(lambda scale, x: jnp.sum(jnp.sin(enlarged(x, scale))))
    x = jax.ShapeDtypeStruct((1, side, side, 8), jnp.float32)
    gradient = jax.jit(jax.grad(loss), in_shardings=devices.replicated)
    compiled = gradient.lower(jnp.ones(()), x).compile()
    moved = collectives_in(compiled.as_text())
    assert gathered_in(compiled.as_text()) == []
    assert moved["collective-permute"]["bytes"] < 4 * 4 * side * side * 8
    assert moved["all-reduce"]["bytes"] < 100


@pytest.mark.parametrize("height", [72, 70], ids=["even", "uneven"])
def test_gradients_of_divided_rows_fetch_no_map(height):
    """Of a map whose kernel gradient a CPU takes in blocks of rows."""
    rng = np.random.default_rng(0)
    x, kernel = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((1, height, 72, 8), (3, 3, 8, 8))
    )
    devices = grid(4, rows=4)
    loss = lambda kernel, x: jnp.sum(jnp.sin(conv(x, kernel, padding=1)))
    gradient = jax.value_and_grad(devices.by_rows(loss))
    whole = devices.replicated
    compiled = jax.jit(gradient, in_shardings=whole).lower(kernel, x).compile()
    assert gathered_in(compiled.as_text()) == []
    assert collectives_in(compiled.as_text())["collective-permute"]["count"] >= 2
    found = compiled(*jax.device_put((kernel, x), whole))
    wanted = jax.jit(jax.value_and_grad(loss))(kernel, x)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
