import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.convolution.toeplitz import conv_matrix, conv_transpose_matrix

KERNEL = jnp.array([2.0, 3, 5])
SIGNAL = jnp.array([1.0, 2, 3, 4])


def test_the_lecture_s_forward_matrix():
    np.testing.assert_array_equal(
        conv_matrix(KERNEL, 4, padding=1) @ SIGNAL, [13, 23, 33, 18]
    )
    strided = conv_matrix(KERNEL, 4, padding=1, stride=2)
    np.testing.assert_array_equal(strided @ SIGNAL, [13, 33])


def test_the_lecture_s_padded_signal_is_the_wide_matrix():
    wide = conv_matrix(KERNEL, 6)
    rows = [[2, 3, 5, 0, 0, 0], [0, 2, 3, 5, 0, 0], [0, 0, 2, 3, 5, 0]]
    np.testing.assert_array_equal(wide, [*rows, [0, 0, 0, 2, 3, 5]])
    np.testing.assert_array_equal(wide @ jnp.pad(SIGNAL, 1), [13, 23, 33, 18])
    np.testing.assert_array_equal(wide.T @ SIGNAL, [2, 7, 17, 27, 27, 20])


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        (4, {}, [2, 7, 17, 27, 27, 20]),
        (4, {"padding": 1}, [7, 17, 27, 27]),
        (2, {"stride": 2}, [2, 3, 9, 6, 10]),
        (2, {"stride": 2, "padding": 1}, [3, 9, 6]),
        (2, {"stride": 2, "padding": 1, "output_padding": 1}, [3, 9, 6, 10]),
    ],
)
def test_the_lecture_s_transposed_matrix(size, options, expected):
    matrix = conv_transpose_matrix(KERNEL, size, **options)
    np.testing.assert_array_equal(matrix @ SIGNAL[:size], expected)


def test_jit_and_vmap_and_gradients_reach_the_taps():
    kernels = jnp.stack([KERNEL, 2 * KERNEL])
    matrices = jax.jit(jax.vmap(lambda k: conv_matrix(k, 4, padding=1)))(kernels)
    np.testing.assert_array_equal(matrices[1], 2 * conv_matrix(KERNEL, 4, padding=1))
    gradient = jax.grad(lambda k: (conv_matrix(k, 4, padding=1) @ SIGNAL).sum())(KERNEL)
    np.testing.assert_array_equal(gradient, [6, 10, 9])


@pytest.mark.parametrize("name", ["size", "stride", "dilation"])
def test_options_below_one_are_named(name):
    options = {"size": 4, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        conv_matrix(KERNEL, **options)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="size 2 with padding 0"):
        conv_matrix(KERNEL, 2)
    with pytest.raises(ValueError, match="kernel must have 1 axis"):
        conv_matrix(KERNEL[None], 4)
    with pytest.raises(ValueError, match="kernel must have 1 axis"):
        conv_transpose_matrix(KERNEL[None], 4)
    with pytest.raises(ValueError, match="output_padding must be below"):
        conv_transpose_matrix(KERNEL, 4, output_padding=1)
    with pytest.raises(ValueError, match="padding 4 crops"):
        conv_transpose_matrix(KERNEL, 4, padding=4)
