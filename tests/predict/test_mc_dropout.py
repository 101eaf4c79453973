"""Averages over samples of dropout."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.predict.mc_dropout import over_samples
from segjax.tasks.semantic.task import SemanticTask

ROOT = Path(__file__).resolve().parents[2]


def bayesian(sample=True, **evaluation):
    """A tiny SegNet whose dropout acts in evaluation, too."""
    config = config_lib.load(str(ROOT / "configs" / "segnet_camvid.py:smoke"))
    config.model = ml_collections.ConfigDict(
        {
            "name": "segnet",
            "num_classes": 5,
            "features": (4, 4, 8),
            "depths": (1, 1, 1),
            "dropout_rate": 0.5,
            "sample": sample,
        }
    )
    group = {"split": "validation"} | evaluation
    config.evaluation = ml_collections.ConfigDict(group)
    return SemanticTask(config)


def test_the_mean_of_the_probabilities_of_several_keys():
    apply = lambda variables, image, key: (
        variables * jax.random.normal(key, (1, 2, 2, 3))
    )
    found = over_samples(apply, 4, seed=1)(2.0, jnp.zeros((1, 2, 2, 1)))
    keys = jax.random.split(jax.random.key(1), 4)
    each = [jax.nn.softmax(apply(2.0, None, key)) for key in keys]
    np.testing.assert_allclose(jnp.exp(found), np.mean(each, 0), rtol=1e-5)
    assert np.std(each, 0).max() > 0.1


def test_a_network_that_drops_activations_predicts_the_same_each_time():
    one, several = bayesian(), bayesian(mc_samples=8)
    image = np.random.default_rng(0).standard_normal((16, 24, 3)).astype(np.float32)
    init = jax.jit(functools.partial(one.model.init, train=False))
    variables = init(jax.random.key(0), image[None])

    def predicted(task):
        return np.asarray(task.predictor(variables).logits(image))

    first = predicted(one)
    np.testing.assert_array_equal(first, predicted(one))
    silent = one.model.clone(sample=False)
    apply = jax.jit(functools.partial(silent.apply, train=False))
    plain = apply(variables, image[None])["logits"][0]
    assert np.abs(first - plain).max() > 1e-3
    averaged = predicted(several)
    np.testing.assert_allclose(np.exp(averaged).sum(-1), 1.0, rtol=1e-5)
    assert np.abs(averaged - jax.nn.log_softmax(first)).max() > 1e-3


def test_samples_of_a_network_that_does_not_sample_are_refused():
    with pytest.raises(UserError, match=r"samples is 8.*model\.sample=True"):
        bayesian(sample=False, mc_samples=8)


def test_a_number_of_samples_that_cannot_be_is_refused():
    with pytest.raises(UserError, match="samples is an integer of at least 1, got 0"):
        bayesian(mc_samples=0)
