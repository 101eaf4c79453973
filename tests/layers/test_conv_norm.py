"""The padding of TensorFlow, beside XLA's own."""

import jax
import numpy as np
import pytest

from segjax.layers.conv_norm import ConvNorm, same_padding


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (5, 1, 2)])
def test_same_padding_is_that_of_tensorflow(side, kernel, stride, dilation):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, side, side + 1, 2)).astype(np.float32)
    weights = rng.normal(size=(kernel, kernel, 2, 3)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        x,
        weights,
        (stride, stride),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    layer = ConvNorm(
        3, (kernel, kernel), stride, "same", dilation, activation=None, norm=None
    )
    params = {"conv": {"kernel": weights, "bias": np.zeros(3, np.float32)}}
    found = layer.apply({"params": params}, x, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_zeros_behind_are_one_more_where_they_are_odd():
    assert same_padding(224, 3, 2) == (0, 1)
    assert same_padding(225, 3, 2) == (1, 1)
    assert same_padding(2, 1, 2) == (0, 0)
    with pytest.raises(ValueError, match='padding is numbers, "same" or None'):
        ConvNorm(3, padding="valid")
