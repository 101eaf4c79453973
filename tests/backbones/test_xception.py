"""Xception: published counts, sizes and rates; dense against strided."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones import BACKBONES
from segjax.backbones.xception import Xception
from segjax.geometry.fields import output_size

STAGES = [f"stage{i}" for i in range(1, 6)]
SMALL = Xception(41, width=1 / 32)
QUICK = {"xla_backend_optimization_level": 0}
"""Small networks are run once: what they cost is the compilation."""


def shapes(model, height=65, width=65):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    return jax.eval_shape(init, image)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 37_867_312),
        ({"num_classes": 1001}, 39_918_361),
        ({"depth": 41}, 24_920_560),
        ({"output_stride": 8}, 37_867_312),
    ],
)
def test_parameter_counts_are_those_of_the_release(options, expected):
    assert count(shapes(Xception(**options))[1]["params"]) == expected


@pytest.mark.parametrize(
    ("output_stride", "sides"),
    [
        (32, [257, 129, 65, 33, 17]),
        (16, [257, 129, 65, 33, 33]),
        (8, [257, 129, 65, 65, 65]),
    ],
)
def test_sizes_at_513_pixels_are_those_of_the_release(output_stride, sides):
    model = Xception(output_stride=output_stride)
    outputs, _ = shapes(model, 513, 513)
    channels = [128, 256, 728, 1024, 2048]
    found = [outputs[stage].shape[1:] for stage in STAGES]
    assert found == [(s, s, c) for s, c in zip(sides, channels, strict=True)]
    assert [output_size(model.layers(stage), 513) for stage in STAGES] == sides


def test_rates_grow_after_the_stride_that_is_left_out():
    def rates(**options):
        plan = Xception(**options).plan()
        return {u.name: u.rates for u in plan if not u.name.startswith("middle")}

    ones = (1, 1, 1)
    at_16 = rates(output_stride=16)
    assert (at_16["exit1"], at_16["exit2"]) == (ones, (2, 2, 2))
    at_8 = rates(output_stride=8, multi_grid=(1, 2, 4))
    assert (at_8["entry3"], at_8["exit1"], at_8["exit2"]) == (
        ones,
        (2, 2, 2),
        (4, 8, 16),
    )
    assert set(rates().values()) == {ones}


def test_layers_are_named_as_kernels():
    leaves = jax.tree_util.tree_leaves_with_path(shapes(SMALL)[1]["params"])
    kernels = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        for path, _ in leaves
        if path[-1].key == "kernel"
    }
    names = {layer.name for layer in SMALL.layers()}
    assert names <= kernels
    assert {name.split("/")[-2] for name in kernels - names} == {"shortcut"}


@functools.cache
def at_output_stride(output_stride):
    rng = np.random.default_rng(0)

    def sample(path, leaf):
        if path[-1].key == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return jnp.asarray(std * rng.normal(size=leaf.shape), jnp.float32)
        low, high = (0.5, 1.0) if path[-1].key in ("scale", "var") else (-0.3, 0.3)
        return jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)

    variables = jax.tree_util.tree_map_with_path(sample, shapes(SMALL)[1])
    image = jnp.asarray(rng.normal(size=(1, 97, 65, 3)), jnp.float32)
    model = SMALL.clone(output_stride=output_stride)
    forward = functools.partial(model.apply, train=False)
    return jax.jit(forward, compiler_options=QUICK)(variables, image)


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dense_maps_hold_the_strided_maps_up_to_the_border(output_stride):
    strided, dense = at_output_stride(32), at_output_stride(output_stride)
    for index, stage in enumerate(STAGES, 1):
        step = max(1, 2**index // output_stride)
        found = np.asarray(dense[stage][:, ::step, ::step])
        expected = np.asarray(strided[stage])
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max(), stage
        assert expected.std() > 0.05 * np.abs(expected).max()


def test_what_the_decoder_takes_in_is_not_rectified():
    assert (np.asarray(at_output_stride(32)["stage2"]) < 0).any()
    assert (np.asarray(at_output_stride(32)["stage5"]) >= 0).all()


def test_configs_find_it_by_name():
    assert BACKBONES["xception"] is Xception


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"depth": 71}, "depth of Xception is one of (41, 65), got 71"),
        (
            {"output_stride": 4},
            "output_stride of Xception is one of (8, 16, 32), got 4",
        ),
        ({"multi_grid": (1, 2)}, "multi_grid is three numbers, got (1, 2)"),
        ({"width": 0}, "width is a factor above 0, got 0"),
        ({"num_classes": 0}, "num_classes is an integer of at least 1, got 0"),
    ],
)
def test_bad_attributes_are_reported_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Xception(**options)
