"""Kernels are cropped to the taps that see the map, and give the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.lax_conv import Options, stock_conv
from segjax.ops.convolution.unseen_taps import drop_unseen_taps


def random_array(*shape: int, seed: int = 0) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("stride", "rows"), [(1, 3), (2, 3), (3, 2)])
def test_a_kernel_is_cropped_to_the_taps_that_see_the_map(
    stride: int, rows: int
) -> None:
    x, kernel = random_array(1, 5, 7, 2), random_array(5, 3, 2, 2, seed=1)
    options = Options((stride, stride), ((8, 8), (8, 3)), (4, 8), 1)
    cropped, beside = drop_unseen_taps(x, kernel, options)
    assert cropped.shape[:2] == (rows, 1)
    np.testing.assert_allclose(
        stock_conv(x, cropped, beside),
        stock_conv(x, kernel, options),
        rtol=1e-5,
        atol=1e-5,
    )
