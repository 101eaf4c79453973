"""Enlargement of divided rows: the numbers of the gathers, and their gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.forms import lowering_for
from segjax.ops.resizing.enlarged_rows import whole_factor
from segjax.ops.resizing.resampling import Resampling, resample

CASES = [
    *(("edges", 1, 2), ("edges", 5, 10), ("edges", 4, 12), ("edges", 6, 24)),
    *(("edges", 3, 3), ("corners", 2, 6), ("corners", 5, 17), ("corners", 4, 10)),
]


def forward_and_backward(resampling, x, gradient):
    """The resampled map and the gradient of it, of a function that is new each time."""
    y, pull = jax.vjp(lambda x: resample(x, 1, resampling), x)
    return y, pull(gradient)[0]


@pytest.mark.parametrize(("rule", "inputs", "outputs"), CASES)
def test_divided_rows_are_enlarged_to_the_same_numbers(rule, inputs, outputs):
    resampling = Resampling(rule, inputs, outputs)
    rng = np.random.default_rng(0)
    x, gradient = (
        rng.normal(size=(2, rows, 3, 2)).astype(np.float32)
        for rows in (inputs, outputs)
    )
    wanted = forward_and_backward(resampling, x, gradient)
    with lowering_for("cpu", rows=2):
        traced = str(jax.make_jaxpr(lambda x: resample(x, 1, resampling))(x))
        found = forward_and_backward(resampling, x, gradient)
    assert "conv_general_dilated" in traced
    assert "gather" not in traced
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "inputs", "outputs"),
    [("nearest", 4, 8), ("corners", 1, 5), ("corners", 4, 8), ("edges", 4, 6)],
)
def test_other_factors_and_rules_keep_their_form(rule, inputs, outputs):
    assert whole_factor(rule, inputs, outputs) is None
    x = jnp.arange(float(inputs)).reshape(1, inputs, 1, 1)
    resampling = Resampling(rule, inputs, outputs)
    with lowering_for("cpu", rows=2):
        found = resample(x, 1, resampling)
    np.testing.assert_array_equal(found, resample(x, 1, resampling))
