"""Depthwise convolution on a CPU: the stock numbers, forward and in both gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.ops.base.lax_conv import Options, stock_conv
from segjax.ops.convolution.convolve import conv
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.cpu.depthwise import is_depthwise
from segjax.ops.cpu.kernel_gradients import kernel_gradient

GEOMETRIES = [
    {},
    {"padding": 1},
    {"padding": 2, "dilation": 2},
    {"padding": 1, "stride": 2},
    {"padding": ((0, 1), (2, 0)), "stride": (2, 3)},
    {"padding": ((3, 0), (1, 4)), "dilation": (3, 2)},
    {"padding": ((1, 2), (1, 2)), "stride": 2, "dilation": 2},
]


def random_array(*shape, seed=0, dtype=jnp.float32):
    values = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(values, dtype)


def dense(kernel):
    """The kernel of all channels that does what the depthwise one does."""
    return kernel * jnp.eye(kernel.shape[3])[None, None]


@pytest.mark.parametrize("window", [(3, 3), (1, 5)])
@pytest.mark.parametrize("options", GEOMETRIES)
def test_values_and_gradients_are_those_of_the_dense_convolution(window, options):
    x, kernel = random_array(2, 9, 12, 5), random_array(*window, 1, 5, seed=1)

    def both(kernel_of, groups):
        def apply(x, kernel):
            return conv(x, kernel_of(kernel), groups=groups, **options)

        y, pull = jax.vjp(apply, x, kernel)
        return y, *pull(random_array(*y.shape, seed=2))

    found = jax.jit(lambda: both(lambda k: k, 5))()
    expected = jax.jit(lambda: both(dense, 1))()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "output_padding": 1}, {"stride": 3}]
)
def test_transposed_values_and_gradients_are_those_of_the_dense_one(options):
    x, kernel = random_array(2, 5, 4, 3), random_array(3, 3, 1, 3, seed=1)

    def both(kernel_of, groups):
        def apply(x, kernel):
            return conv_transpose(x, kernel_of(kernel), groups=groups, **options)

        y, pull = jax.vjp(apply, x, kernel)
        return y, *pull(random_array(*y.shape, seed=2))

    found = jax.jit(lambda: both(lambda k: k, 3))()
    expected = jax.jit(lambda: both(dense, 1))()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_eager_and_vmap_are_the_same():
    x, kernel = random_array(3, 2, 7, 6, 4), random_array(3, 3, 1, 4, seed=1)
    apply = functools.partial(conv, kernel=kernel, padding=1, groups=4)
    expected = jnp.stack([apply(one) for one in x])
    np.testing.assert_allclose(jax.vmap(apply)(x), expected, rtol=1e-6, atol=1e-6)


def test_gradients_are_finite_differences():
    x, kernel = random_array(1, 5, 4, 3), random_array(3, 3, 1, 3, seed=1)
    apply = functools.partial(conv, padding=1, stride=2, groups=3)
    check_grads(apply, (x, kernel), order=1, modes="rev", rtol=2e-3)


def test_bfloat16_sums_are_float32():
    x = jnp.full((1, 64, 64, 2), 1.0, jnp.bfloat16)
    kernel = jnp.ones((3, 3, 1, 2), jnp.bfloat16)

    def total(kernel):
        return conv(x, kernel, groups=2).astype(jnp.float32).sum()

    gradient = jax.grad(total)(kernel)
    assert gradient.dtype == jnp.bfloat16
    # 62 x 62 ones; sums in bfloat16 would stop growing at 256.
    np.testing.assert_array_equal(
        gradient.astype(jnp.float32), jnp.float32(jnp.bfloat16(62 * 62))
    )


def test_one_image_in_each_part_of_a_sharded_batch_is_summed_once():
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.NamedSharding(mesh, jax.P("batch"))
    x = jax.device_put(random_array(4, 6, 6, 3), spread)
    kernel = jax.device_put(
        random_array(3, 3, 1, 3, seed=1), jax.NamedSharding(mesh, jax.P())
    )
    loss = lambda kernel, x: (conv(x, kernel, padding=1, groups=3) ** 2).sum()
    step = jax.jit(jax.grad(loss)).lower(kernel, x).compile()
    text = step.as_text()
    assert text.count(" all-reduce(") == 1
    assert " all-gather(" not in text
    np.testing.assert_allclose(
        step(kernel, x), jax.grad(loss)(random_array(3, 3, 1, 3, seed=1), x), rtol=1e-5
    )


def test_what_is_depthwise():
    def found(shape, groups):
        options = Options((1, 1), ((0, 0), (0, 0)), (1, 1), groups)
        return is_depthwise(jnp.zeros(shape), options)

    assert found((3, 3, 1, 8), 8)
    assert not found((3, 3, 1, 16), 8)  # two output channels see each input channel
    assert not found((3, 3, 2, 8), 4)
    assert not found((3, 3, 1, 1), 1)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "features", "groups"), [(6, 4, 2), (3, 6, 3)])
def test_kernel_gradients_of_groups_are_the_stock_ones(
    channels, features, groups, stride
):
    options = Options((stride,) * 2, ((1, 1), (1, 1)), (1, 1), groups)
    x, kernel = (
        random_array(2, 8, 7, channels),
        random_array(3, 3, channels // groups, features),
    )
    cotangent = random_array(*stock_conv(x, kernel, options).shape, seed=2)
    expected = jax.vjp(lambda k: stock_conv(x, k, options), kernel)[1](cotangent)[0]
    found = jax.jit(lambda: kernel_gradient(x, cotangent, kernel, options))()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
