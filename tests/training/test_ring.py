"""Kernels whose parts are passed on: the same numbers and gradients, and nothing is gathered."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.inspect.compiled import collectives_in
from segjax.layers.conv import Conv, UpConv
from segjax.models.deconvnet import FullyConnectedTranspose
from segjax.training.gathering import gathered
from segjax.training.layout import Layout
from segjax.training.sharding import Devices


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Params:
    """A state that has parameters alone."""

    params: Any


LAYERS = {
    "output channels": (Conv(8, (3, 3), stride=2, padding=1), (4, 6, 6, 4), 3),
    "input channels": (Conv(4, (3, 3)), (4, 5, 5, 8), 2),
    "blocks": (UpConv(4), (4, 3, 3, 8), 3),
    "windows": (FullyConnectedTranspose(4, 3), (4, 2, 2, 8), 3),
}


def divided_step(layer):
    """Loss and gradients of a layer, whose parameters are divided as those of a run are."""

    def loss(params, x, wanted):
        y = layer.apply({"params": gathered(params)}, x)
        return ((y.astype(jnp.float32) - wanted) ** 2).sum()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("grid", [{"model": 4}, {"data": 2, "model": 2}], ids=str)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.quick(4)
def test_parts_that_are_passed_on_give_the_numbers_of_the_whole(name, grid, dtype):
    layer, shape, axis = LAYERS[name]
    layer = layer.clone(dtype=jnp.dtype(dtype))
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    wanted = rng.normal(size=layer.apply({"params": params}, x).shape)
    arguments = params, x, wanted.astype(np.float32)
    whole = divided_step(layer)(*arguments)

    devices = Devices(jax.devices()[:4], Layout(**grid, min_size=64, pass_size=64))
    places = devices.of_state(Params(params)).params
    assert places["kernel"].spec[axis] == "model"
    with devices.lowering():
        step = divided_step(layer)
        given = (
            jax.device_put(params, places),
            *(jax.device_put(a, devices.batch) for a in arguments[1:]),
        )
        text = step.lower(*given).compile().as_text()
        found = step(*given)
    moved = collectives_in(text)
    assert "collective-permute" in moved
    assert moved.keys() <= {"collective-permute", "all-reduce"}
    for ours, theirs in zip(*map(jax.tree.leaves, (found, whole)), strict=True):
        far = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        assert far < {"float32": 2e-6, "bfloat16": 0.1}[dtype]


def test_what_examples_cannot_share_is_gathered():
    layer = Conv(8, (3, 3))
    devices = Devices(jax.devices()[:4], Layout(model=4, min_size=64, pass_size=64))
    x = jnp.ones((1, 4, 4, 4))
    params = layer.init(jax.random.key(0), x)["params"]
    with devices.lowering():
        y = jax.jit(layer.apply)({"params": params}, x)
    np.testing.assert_allclose(y, layer.apply({"params": params}, x), rtol=1e-6)
