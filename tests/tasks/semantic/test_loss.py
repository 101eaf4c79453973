"""The loss of an experiment, and weights that its data decide."""

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.losses import cross_entropy
from segjax.tasks.semantic.loss import LossFromConfig

SPEC = LabelSpec(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
RECORDS = [{"label": np.array([[0, 0, 0, 1]])}, {"label": np.array([[0, 0, 2, 255]])}]


def objective(**group):
    group = {"name": "cross_entropy"} | group
    return LossFromConfig(ml_collections.ConfigDict(group), 3)


def example():
    rng = np.random.default_rng(0)
    label = jnp.asarray(rng.integers(0, 3, (1, 4, 4)), jnp.int32)
    logits = jnp.asarray(rng.standard_normal((1, 4, 4, 3)), jnp.float32)
    return {"logits": logits}, {"label": label, "weight": jnp.ones((1, 4, 4))}


def test_median_frequency_weights_are_those_of_the_training_split():
    loss = objective(class_weights="median_frequency")
    loss.fit_class_weights(RECORDS, SPEC)
    expected = cross_entropy(*example(), class_weights=(7 / 15, 4 / 3, 1.0))
    assert float(loss(*example())) == pytest.approx(float(expected), rel=1e-6)


def test_a_loss_that_waits_for_its_weights_is_not_called():
    with pytest.raises(ValueError, match="'median_frequency' takes from"):
        objective(class_weights="median_frequency")(*example())


def test_weights_that_are_given_are_not_counted():
    loss = objective(class_weights=(1.0, 2.0, 3.0))
    loss.fit_class_weights([], SPEC)
    expected = cross_entropy(*example(), class_weights=(1.0, 2.0, 3.0))
    assert loss(*example()) == expected


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ({"class_weights": "medium_frequency"}, 'Did you mean "median_frequency"'),
        ({"class_weights": (1.0, 2.0)}, "config.loss: class_weights has 2 entries"),
        ({"name": "crossentropy"}, "config.loss.name"),
        ({"gamma": 2.0}, 'config.loss has an unknown key "gamma"'),
    ],
)
def test_wrong_keys_are_named(group, sentence):
    with pytest.raises(UserError, match=sentence):
        objective(**group)
