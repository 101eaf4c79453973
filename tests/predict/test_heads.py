"""From logits to probabilities and labels, and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.predict import heads
from segjax.predict.ensemble import over_members, stack_members

LOGITS = np.random.default_rng(0).normal(size=(1, 3, 4, 3)).astype(np.float32) * 3


@pytest.mark.parametrize("head", [heads.SOFTMAX, heads.SIGMOID])
def test_the_way_back_gives_the_same_probabilities(head):
    probability = head.probabilities(LOGITS)
    again = head.probabilities(head.logits(probability))
    np.testing.assert_allclose(probability, again, rtol=1e-5)
    assert np.isfinite(head.logits(jnp.array([[0.0, 1.0]]))).all()


def test_one_logit_is_its_sigmoid():
    expanded = heads.against_zero(LOGITS[..., :1])
    probability = heads.SOFTMAX.probabilities(expanded)[..., 1]
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-LOGITS[..., 0])), 1e-5)
    labels = heads.SOFTMAX.labels(expanded)
    assert (np.asarray(labels) == (LOGITS[..., 0] > 0)).all()


def test_labels_that_overlap_hold_each_class_above_one_half():
    probability = heads.SIGMOID.probabilities(LOGITS)
    labels = np.asarray(heads.SIGMOID.labels(LOGITS))
    for k, bit in enumerate((1, 2, 4)):
        assert ((labels & bit > 0) == (np.asarray(probability)[..., k] > 0.5)).all()


def test_members_of_sigmoids_are_averaged_class_by_class():
    apply = lambda variables, image: image * variables["factor"]
    members = stack_members([{"factor": jnp.ones(())}, {"factor": jnp.zeros(())}])
    averaged = over_members(apply, heads.SIGMOID)(members, LOGITS)
    expected = (1 / (1 + np.exp(-LOGITS)) + 0.5) / 2
    np.testing.assert_allclose(heads.SIGMOID.probabilities(averaged), expected, 1e-5)
