"""Convolutions that own their weights: shapes, names, dtypes, initial weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers.conv import Conv, UpConv
from segjax.layers.initializers import he_normal
from segjax.ops.convolution.convolve import conv
from segjax.ops.convolution.transposed import conv_transpose

IMAGE = np.random.default_rng(3).standard_normal((2, 9, 7, 4)).astype(np.float32)


def initialised(layer):
    return jax.jit(layer.init)(jax.random.key(0), IMAGE)["params"]


def test_conv_is_the_op_with_its_kernel_and_bias():
    layer = Conv(6, stride=2, padding=1, dilation=2, groups=2)
    params = initialised(layer)
    assert {name: x.shape for name, x in params.items()} == {
        "kernel": (3, 3, 2, 6),
        "bias": (6,),
    }
    bias = jnp.arange(6.0)
    found = layer.apply({"params": params | {"bias": bias}}, IMAGE)
    expected = conv(
        jnp.asarray(IMAGE), params["kernel"], stride=2, padding=1, dilation=2, groups=2
    )
    np.testing.assert_allclose(
        found, expected + bias[None, None, None], rtol=1e-6, atol=1e-6
    )


def test_upconv_is_the_op_with_its_kernel_and_bias():
    layer = UpConv(5)
    params = initialised(layer)
    bias = jnp.arange(5.0)
    found = layer.apply({"params": params | {"bias": bias}}, IMAGE)
    expected = conv_transpose(jnp.asarray(IMAGE), params["kernel"], stride=2)
    assert found.shape == (2, 18, 14, 5)
    np.testing.assert_allclose(
        found, expected + bias[None, None, None], rtol=1e-6, atol=1e-6
    )


def test_biases_start_at_zero_and_can_be_left_out():
    assert not initialised(Conv(3))["bias"].any()
    assert initialised(Conv(3, use_bias=False)).keys() == {"kernel"}


@pytest.mark.parametrize("layer", [Conv(3), UpConv(3)])
def test_bfloat16_computes_on_float32_parameters(layer):
    layer = layer.clone(dtype=jnp.bfloat16)
    params = initialised(layer)
    assert {x.dtype for x in params.values()} == {jnp.dtype(jnp.float32)}
    assert layer.apply({"params": params}, IMAGE).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("layer", "fan_in"), [(Conv(400), 9 * 4), (UpConv(400, factor=3), 4)]
)
def test_kernels_have_the_variance_of_he(layer, fan_in):
    kernel = np.asarray(initialised(layer)["kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.03)
    assert kernel.mean() == pytest.approx(
        0, abs=3 * float(kernel.std()) / kernel.size**0.5
    )


def test_initial_weights_follow_from_the_key_alone():
    init, shape = he_normal(), (3, 3, 2, 4)
    sample = lambda seed: init(jax.random.key(seed), shape, jnp.float32)
    np.testing.assert_array_equal(sample(0), jax.jit(sample, static_argnums=0)(0))
    assert (sample(0) != sample(1)).all()
