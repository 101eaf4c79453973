"""Pyramid pooling beside PyTorch's results, and the form of the release in Caffe."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers.pyramid_pooling import PyramidPooling
from segjax.ops.pooling.adaptive import adaptive_avg_pool
from segjax.ops.pooling.windowed import avg_pool

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "pspnet.npz"))

QUICK = {"xla_backend_optimization_level": 0}
"""What small maps cost is the compilation."""


def fast(function):
    return jax.jit(function, compiler_options=QUICK)


def applied(module, variables, x):
    return fast(functools.partial(module.apply, train=False))(variables, x)


def golden_variables(owner):
    """The golden variables below `owner`, nested."""
    variables = {"params": {}, "batch_stats": {}}
    for key, value in GOLDEN.items():
        if found := re.fullmatch(rf"variables/(\w+)/{owner}/(.+)", key):
            place, path = variables[found[1]], found[2].split("/")
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = jnp.asarray(value)
    return variables


@pytest.mark.parametrize("reduce", [True, False], ids=["reduced", "whole"])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_grids_are_those_of_pytorch(pooling, reduce):
    module = PyramidPooling(pooling=pooling, reduce=reduce)
    variables = golden_variables("pyramid") if reduce else {}
    found = applied(module, variables, GOLDEN["map"])
    expected = GOLDEN[f"{pooling} {'reduced' if reduce else 'whole'}"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("side", "windows"), [(60, (60, 20, 10)), (90, (45, 15))])
def test_bins_that_divide_the_map_are_caffes_windows(side, windows):
    x = np.random.default_rng(0).normal(size=(1, side, side, 1)).astype(np.float32)
    for window in windows:
        expected = fast(functools.partial(avg_pool, window=window))(x)
        found = fast(functools.partial(adaptive_avg_pool, size=side // window))(x)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_pyramid_doubles_the_channels_or_adds_a_map_for_each_grid():
    def channels(**options):
        x = jax.ShapeDtypeStruct((1, 60, 60, 2048), jnp.float32)
        init = lambda x: PyramidPooling(**options).init_with_output(
            jax.random.key(0), x, train=False
        )
        y, variables = jax.eval_shape(init, x)
        return y.shape[-1], sum(
            leaf.size for leaf in jax.tree.leaves(variables.get("params", {}))
        )

    assert channels() == (4096, 4 * (2048 * 512 + 2 * 512))
    assert channels(reduce=False) == (5 * 2048, 0)
    assert channels(bins=(1,)) == (4096, 2048 * 2048 + 2 * 2048)


def test_a_constant_map_stays_constant_whatever_the_bins():
    x = jnp.full((1, 5, 7, 2), 3.0)
    y = applied(PyramidPooling(reduce=False), {}, x)
    np.testing.assert_allclose(y, np.full((1, 5, 7, 10), 3.0), rtol=1e-6)


def test_grids_keep_the_order_of_bins():
    x = jnp.asarray(GOLDEN["map"])
    forth, back = (
        applied(PyramidPooling(bins=bins, reduce=False), {}, x)
        for bins in ((1, 2, 3, 6), (6, 3, 2, 1))
    )
    first, *grids = jnp.split(forth, 5, axis=-1)
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(jnp.concatenate([x, *grids[::-1]], -1), back)


def test_too_few_channels_for_the_grids_are_reported():
    sentence = r"bins \(1, 2, 3, 6\) are 4 grids, too many to share the 3 channels"
    with pytest.raises(ValueError, match=sentence):
        PyramidPooling().init(jax.random.key(0), jnp.zeros((1, 6, 6, 3)), train=False)


def test_a_single_bin_has_a_norm_or_a_bias():
    module = PyramidPooling(bins=(1, 2), norm_single_bin=False)
    x = jax.ShapeDtypeStruct((1, 4, 4, 6), jnp.float32)
    init = lambda x: module.init(jax.random.key(0), x, train=False)
    params = jax.eval_shape(init, x)["params"]
    assert set(params["bins1"]) == {"conv"}
    assert set(params["bins1"]["conv"]) == {"kernel", "bias"}
    assert set(params["bins2"]) == {"conv", "norm"}
