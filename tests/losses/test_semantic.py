"""Losses against numbers that were worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses import LOSSES
from segjax.losses.semantic import cross_entropy, cross_entropy_and_dice, dice

IGNORED = 255


def batch_of(label, weight=None):
    label = jnp.asarray(label, jnp.int32)[None]
    ones = jnp.ones(label.shape, jnp.float32)
    weight = ones if weight is None else jnp.asarray(weight, jnp.float32)[None]
    return {"label": label, "weight": weight}


def outputs_of(probabilities):
    """Logits whose softmax is `probabilities` `[H, W, K]`."""
    return {"logits": jnp.log(jnp.asarray(probabilities, jnp.float32))[None] + 3.0}


QUARTER = outputs_of([[[0.25, 0.75], [0.5, 0.5]]])


def test_cross_entropy_is_the_mean_of_minus_log_p():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]]))
    assert float(loss) == pytest.approx((np.log(4) + np.log(2)) / 2, rel=1e-6)


def test_sum_does_not_divide():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]]), reduction="sum")
    assert float(loss) == pytest.approx(np.log(4) + np.log(2), rel=1e-6)


def test_ignored_pixels_do_not_count():
    loss = cross_entropy(QUARTER, batch_of([[0, IGNORED]]))
    assert float(loss) == pytest.approx(np.log(4), rel=1e-6)


def test_pixels_of_weight_zero_do_not_count():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]], weight=[[1, 0]]))
    assert float(loss) == pytest.approx(np.log(4), rel=1e-6)


def test_weights_multiply_and_the_mean_divides_by_pixels():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]], weight=[[3, 0.5]]))
    assert float(loss) == pytest.approx((3 * np.log(4) + 0.5 * np.log(2)) / 2, rel=1e-6)


def test_class_weights_multiply():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]]), class_weights=(2.0, 0.1))
    assert float(loss) == pytest.approx((2 * np.log(4) + 0.1 * np.log(2)) / 2, rel=1e-6)


def test_dice_is_one_minus_the_mean_overlap():
    loss = dice(QUARTER, batch_of([[0, 1]]), smoothing=1.0)
    first = (2 * 0.25 + 1) / (0.75 + 1 + 1)
    second = (2 * 0.5 + 1) / (1.25 + 1 + 1)
    assert float(loss) == pytest.approx(1 - (first + second) / 2, rel=1e-6)


def test_dice_of_a_perfect_answer_is_zero():
    sure = outputs_of([[[1 - 1e-7, 1e-7], [1e-7, 1 - 1e-7]]])
    assert float(dice(sure, batch_of([[0, 1]]))) == pytest.approx(0, abs=1e-6)


def test_dice_ignores_and_weighs():
    loss = dice(QUARTER, batch_of([[0, IGNORED]], weight=[[2, 1]]), smoothing=0.5)
    first = (2 * 2 * 0.25 + 0.5) / (2 * 0.25 + 2 + 0.5)
    second = 0.5 / (2 * 0.75 + 0.5)
    assert float(loss) == pytest.approx(1 - (first + second) / 2, rel=1e-6)


def test_cross_entropy_and_dice_is_their_sum():
    batch = batch_of([[0, 1]])
    both = cross_entropy_and_dice(QUARTER, batch, dice_weight=0.3)
    expected = cross_entropy(QUARTER, batch) + 0.3 * dice(QUARTER, batch)
    assert float(both) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_all_ignored_gives_a_finite_loss_and_no_gradient(name):
    batch = batch_of([[IGNORED, IGNORED]])
    loss, gradient = jax.value_and_grad(LOSSES[name])(QUARTER, batch)
    assert float(loss) == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(gradient["logits"], 0)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_what_stands_at_ignored_pixels_does_not_matter(name):
    wild = QUARTER["logits"].at[0, 0, 1].set(jnp.array([1e30, -1e30]))
    batch = batch_of([[0, IGNORED]])
    loss = jax.value_and_grad(LOSSES[name])
    calm_value, calm_gradient = loss(QUARTER, batch)
    value, gradient = loss({"logits": wild}, batch)
    assert float(value) == pytest.approx(float(calm_value), rel=1e-6)
    np.testing.assert_allclose(
        gradient["logits"], calm_gradient["logits"], rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_large_logits_stay_finite(name):
    outputs = {"logits": 1e4 * jnp.array([[[[1.0, -1.0], [1.0, -1.0]]]])}
    loss, gradient = jax.value_and_grad(LOSSES[name])(outputs, batch_of([[0, 1]]))
    assert np.isfinite(float(loss))
    assert np.isfinite(gradient["logits"]).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_bfloat16_logits_give_a_float32_loss(name):
    outputs = {"logits": QUARTER["logits"].astype(jnp.bfloat16)}
    assert LOSSES[name](outputs, batch_of([[0, 1]])).dtype == jnp.float32


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_jit_changes_nothing(name):
    batch = batch_of([[0, 1]])
    found = jax.jit(LOSSES[name])(QUARTER, batch)
    assert float(found) == pytest.approx(float(LOSSES[name](QUARTER, batch)), rel=1e-6)


def test_gradient_of_cross_entropy_is_softmax_minus_truth():
    gradient = jax.grad(cross_entropy)(QUARTER, batch_of([[0, 1]]))["logits"]
    expected = np.array([[[0.25 - 1, 0.75], [0.5, 0.5 - 1]]])[None] / 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match='"mean" or "sum", got \'avg\''):
        cross_entropy(QUARTER, batch_of([[0, 1]]), reduction="avg")


def test_class_weights_of_another_length_are_refused():
    with pytest.raises(ValueError, match="3 entries for 2 classes"):
        cross_entropy(QUARTER, batch_of([[0, 1]]), class_weights=(1.0, 1.0, 1.0))


def test_labels_of_another_size_are_refused():
    with pytest.raises(AssertionError):
        cross_entropy(QUARTER, batch_of([[0, 1], [0, 1]]))
