"""ASPP: figure 5 of the paper, its rates at other strides, its separable form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.geometry.fields import receptive_field
from segjax.layers.aspp import ASPP, scaled_rates
from segjax.layers.separable import SeparableConvNorm
from segjax.ops.convolution.convolve import conv


def shapes(module, channels):
    x = jax.ShapeDtypeStruct((1, 5, 5, channels), jnp.float32)
    init = lambda x: module.init(jax.random.key(0), x, train=False)
    return jax.eval_shape(init, x)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("separable", "expected"), [(False, 15_535_104), (True, 3_019_776)]
)
def test_parameter_counts_are_those_of_the_release(separable, expected):
    assert count(shapes(ASPP(separable=separable), 2048)["params"]) == expected


@functools.cache
def random_case(separable=False, rates=(1, 2)):
    module = ASPP(rates, features=3, separable=separable, dropout_rate=0.0)
    rng = np.random.default_rng(0)
    sample = lambda leaf: jnp.asarray(rng.uniform(0.2, 1.0, leaf.shape), jnp.float32)
    variables = jax.tree.map(sample, shapes(module, 4))
    return module, variables, jnp.asarray(rng.normal(size=(2, 6, 7, 4)), jnp.float32)


def test_it_is_the_projection_of_its_branches():
    module, variables, x = random_case()

    def unit(name, x, **options):
        params, stats = (variables[k]["aspp"][name] for k in ("params", "batch_stats"))
        x = conv(x, params["conv"]["kernel"], **options)
        scale, bias = params["norm"]["scale"], params["norm"]["bias"]
        mean, var = stats["norm"]["mean"], stats["norm"]["var"]
        x = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
        return np.maximum(x, 0)

    variables = {k: {"aspp": v} for k, v in variables.items()}
    with jax.numpy_rank_promotion("allow"):
        image = unit("image", x.mean((1, 2), keepdims=True))
        branches = [
            unit("pointwise", x),
            unit("atrous1", x, padding=1),
            unit("atrous2", x, padding=2, dilation=2),
            np.broadcast_to(image, (2, 6, 7, 3)),
        ]
        expected = unit("project", jnp.concatenate(branches, -1))
    found = module.apply({k: v["aspp"] for k, v in variables.items()}, x, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("separable", [False, True])
def test_layers_see_what_the_largest_rate_sees(separable):
    module, variables, _ = random_case(separable, rates=(2, 1))
    assert receptive_field(module.layers()).size == 5
    owners = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    assert {layer.name for layer in module.layers()} <= owners


def test_the_mobile_form_has_one_branch_and_the_image():
    module, variables, x = random_case(rates=())
    assert set(variables["params"]) == {"pointwise", "image", "project"}
    assert module.apply(variables, x, train=False).shape == (2, 6, 7, 3)
    assert [layer.name for layer in module.layers()] == [
        "pointwise/conv",
        "project/conv",
    ]


def test_rates_follow_the_output_stride():
    assert scaled_rates((6, 12, 18), 16) == (6, 12, 18)
    assert scaled_rates((6, 12, 18), 8) == (12, 24, 36)
    assert scaled_rates((6, 12, 18), 32) == (3, 6, 9)
    with pytest.raises(ValueError, match="of which 3 is not an integer of pixels at"):
        scaled_rates((6, 3), 32)


def test_separable_convolution_is_its_two_steps():
    module = SeparableConvNorm(5, dilation=2, activation=None)
    params = shapes(module, 4)["params"]
    assert params["depthwise"]["conv"]["kernel"].shape == (3, 3, 1, 4)
    assert params["pointwise"]["conv"]["kernel"].shape == (1, 1, 4, 5)
    rng = np.random.default_rng(0)
    sample = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 5, 5, 4)), train=False)
    variables = {**variables, "params": jax.tree.map(sample, params)}
    norms = variables["params"]
    x = sample(jnp.zeros((1, 6, 5, 4)))
    factor = 1 / np.sqrt(1 + 1e-5)
    y = conv(x, norms["depthwise"]["conv"]["kernel"], padding=2, dilation=2, groups=4)
    for name in ("depthwise", "pointwise"):
        if name == "pointwise":
            y = conv(y, norms[name]["conv"]["kernel"])
        norm = norms[name]["norm"]
        y = (
            factor * y * norm["scale"][None, None, None]
            + norm["bias"][None, None, None]
        )
    found = module.apply(variables, x, train=False)
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)


def test_the_depthwise_step_may_have_neither_norm_nor_bias():
    params = shapes(SeparableConvNorm(5, depthwise_norm=False), 4)["params"]
    assert set(params["depthwise"]) == {"conv"}
    assert set(params["depthwise"]["conv"]) == {"kernel"}
    assert set(params["pointwise"]) == {"conv", "norm"}
    aspp = ASPP((1,), 3, separable=True, depthwise_norm=False)
    assert set(shapes(aspp, 4)["params"]["atrous1"]["depthwise"]) == {"conv"}
