"""Losses of sigmoids against numbers that were worked out by hand, and against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.losses.sigmoid import (
    binary_cross_entropy,
    binary_cross_entropy_and_dice,
    sigmoid_dice,
    sigmoid_focal,
)
from segjax.types import IGNORE_LABEL, class_bits


def batch_of(label, weight=None):
    label = jnp.asarray(label, jnp.int32)[None]
    ones = jnp.ones(label.shape, jnp.float32)
    weight = ones if weight is None else jnp.asarray(weight, jnp.float32)[None]
    return {"label": label, "weight": weight}


def outputs_of(probabilities):
    """Logits whose sigmoid is `probabilities` `[H, W, K]`."""
    p = np.asarray(probabilities, np.float32)[None]
    return {"logits": jnp.asarray(np.log(p / (1 - p)))}


ONE = outputs_of([[[0.25], [0.8], [0.5]]])
LABEL = [[1, 0, IGNORE_LABEL]]


def test_one_logit_is_minus_the_mean_of_log_p():
    loss = binary_cross_entropy(ONE, batch_of(LABEL))
    assert float(loss) == pytest.approx((np.log(4) + np.log(5)) / 2, rel=1e-6)


def test_weights_of_what_is_there_multiply_it_alone():
    loss = binary_cross_entropy(ONE, batch_of(LABEL, [[1, 2, 1]]), pos_weight=3.0)
    assert float(loss) == pytest.approx((3 * np.log(4) + 2 * np.log(5)) / 2, rel=1e-6)


def test_overlapping_classes_are_the_bits_of_the_label():
    """A pixel of the first and the last of seven classes, as many as there can be."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 1, 1, 7)).astype(np.float32)
    truth = np.array([1, 0, 0, 0, 0, 0, 1], np.float32)
    loss = binary_cross_entropy({"logits": logits}, batch_of([[1 + 64]]))
    expected = optax.sigmoid_binary_cross_entropy(logits[0, 0, 0], truth).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert sum(class_bits(7)) < IGNORE_LABEL


def test_smoothing_is_the_cross_entropy_of_a_softer_truth():
    loss = binary_cross_entropy(ONE, batch_of(LABEL), label_smoothing=0.2)
    soft = [
        -(0.9 * np.log(0.25) + 0.1 * np.log(0.75)),
        -(0.1 * np.log(0.8) + 0.9 * np.log(0.2)),
    ]
    assert float(loss) == pytest.approx(np.mean(soft), rel=1e-6)


def test_focal_is_that_of_optax():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(1, 4, 5, 1)).astype(np.float32)
    label = rng.integers(0, 2, (4, 5))
    expected = optax.sigmoid_focal_loss(
        logits[..., 0], label[None].astype(np.float32), alpha=0.25, gamma=2.0
    ).mean()
    loss = sigmoid_focal({"logits": logits}, batch_of(label))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_focal_without_focus_is_the_cross_entropy():
    loss = sigmoid_focal(ONE, batch_of(LABEL), gamma=0.0, alpha=None)
    assert float(loss) == pytest.approx(
        float(binary_cross_entropy(ONE, batch_of(LABEL))), rel=1e-6
    )


def test_dice_counts_probabilities():
    loss = sigmoid_dice(ONE, batch_of(LABEL), smoothing=0.0)
    assert float(loss) == pytest.approx(1 - 2 * 0.25 / (0.25 + 0.8 + 1), rel=1e-6)


def test_the_sum_is_that_of_its_parts():
    batch = batch_of(LABEL)
    loss = binary_cross_entropy_and_dice(ONE, batch, dice_weight=0.5, pos_weight=2.0)
    parts = binary_cross_entropy(ONE, batch, pos_weight=2.0) + 0.5 * sigmoid_dice(
        ONE, batch
    )
    assert float(loss) == pytest.approx(float(parts), rel=1e-6)


@pytest.mark.parametrize("size", [-100.0, 100.0])
def test_gradients_are_finite_at_large_logits(size):
    for loss in (binary_cross_entropy, sigmoid_focal, sigmoid_dice):
        slope = jax.grad(lambda z, loss=loss: loss({"logits": z}, batch_of([[1, 0]])))(
            jnp.full((1, 1, 2, 1), size)
        )
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pos_weight": (1.0, 2.0)}, "2 entries for 1"),
        ({"pos_weight": 0.0}, "above 0"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"reduction": "median"}, "reduction"),
    ],
)
def test_what_cannot_be_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        binary_cross_entropy(ONE, batch_of(LABEL), **arguments)
