"""The fast forms of transposed convolutions against the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.resizing.resize import bilinear_kernel
from segjax.ops.resizing.upsample import bilinear_taps, upsample_bilinear, upsample_conv

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 4)), jnp.float32)
FACTORS_AND_TAPS = [(1, 1), (2, 4), (2, 3), (3, 5), (8, 15)]


@pytest.mark.parametrize(("factor", "taps"), FACTORS_AND_TAPS)
def test_bilinear_is_the_transposed_convolution_with_the_bilinear_kernel(factor, taps):
    kernel = bilinear_kernel(taps, channels=4, groups=4)
    expected = conv_transpose(X, kernel, stride=factor, groups=4)
    apply = lambda x: upsample_bilinear(x, factor=factor, taps=taps)
    np.testing.assert_allclose(apply(X), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jax.jit(apply)(X), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("factor", "taps"), [(2, 4), (3, 5), (4, 5)])
def test_a_learned_kernel_does_what_the_plain_form_does(factor, taps):
    rng = np.random.default_rng(1)
    kernel = jnp.asarray(rng.normal(size=(taps, taps, 3, 4)), jnp.float32)
    fast = lambda x, kernel: upsample_conv(x, kernel, factor=factor)
    plain = lambda x, kernel: conv_transpose(x, kernel, stride=factor)
    shape = jax.eval_shape(plain, X, kernel).shape
    cotangent = jnp.asarray(rng.normal(size=shape), jnp.float32)

    @jax.jit
    def both(x, kernel):
        pairs = []
        for form in (fast, plain):
            y, pull = jax.vjp(form, x, kernel)
            pairs.append((y, *pull(cotangent)))
        return list(zip(*pairs, strict=True))

    for found, expected in both(X, kernel):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_bilinear_is_its_adjoint():
    y = upsample_bilinear(X, factor=4)
    cotangent = jnp.asarray(np.random.default_rng(2).normal(size=y.shape), jnp.float32)
    pulled = jax.grad(lambda x: (upsample_bilinear(x, factor=4) * cotangent).sum())(X)
    np.testing.assert_allclose((pulled * X).sum(), (cotangent * y).sum(), rtol=1e-5)


def test_vmap_is_one_batch_after_the_other():
    apply = lambda x: upsample_bilinear(x, factor=3)
    np.testing.assert_allclose(
        jax.vmap(apply)(X[:, None])[:, 0], apply(X), rtol=1e-6, atol=1e-6
    )


def test_a_constant_stays_constant_between_the_outermost_pixels():
    y = upsample_bilinear(jnp.ones((1, 4, 4, 1)), factor=32)[0, :, :, 0]
    assert y.shape == (160, 160)
    np.testing.assert_allclose(y[32:-32, 32:-32], 1.0, rtol=1e-6)
    np.testing.assert_allclose(y[0, 80], 1 / 64, rtol=1e-6)


def test_taps_of_the_release():
    assert [bilinear_taps(s) for s in (2, 8, 16, 32)] == [4, 16, 32, 64]


def test_half_precision_comes_back_as_it_went_in():
    assert upsample_bilinear(X.astype(jnp.bfloat16), factor=2).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: upsample_bilinear(X, factor=0), "factor is 0"),
        (lambda: upsample_bilinear(X, factor=2, taps=5), "taps is 5; .* 1 to 4"),
        (lambda: upsample_conv(X, jnp.zeros((4, 4, 4, 3)), factor=2), "has 4"),
        (lambda: upsample_conv(X, jnp.zeros((4, 3, 4, 4)), factor=2), "kernel is"),
        (lambda: upsample_conv(X, jnp.zeros((9, 9, 4, 4)), factor=4), "taps is 9"),
    ],
)
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
