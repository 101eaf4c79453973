"""Averages over flips and turns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models import UNet
from segjax.predict.dihedral import over_dihedral
from segjax.predict.tiled import Predictor


@functools.cache
def network(padding):
    model = UNet(num_classes=2, features=(4, 8), padding=padding, dropout_rate=0.0)
    side = model.geometry.next_accepted(32)
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0), jnp.zeros((1, side, side, 1)))
    apply = jax.jit(
        lambda variables, x: model.apply(variables, x, train=False)["logits"]
    )
    return model, variables, apply


def test_a_turned_or_flipped_image_gets_the_turned_or_flipped_prediction():
    _, variables, apply = network("SAME")
    image = jnp.asarray(np.random.default_rng(0).standard_normal((1, 16, 16, 1)), "f4")
    averaged = over_dihedral(apply)
    expected = averaged(variables, image)
    turned = averaged(variables, jnp.rot90(image, 1, (1, 2)))
    np.testing.assert_allclose(jnp.rot90(turned, -1, (1, 2)), expected, atol=1e-5)
    flipped = averaged(variables, image[:, ::-1])
    np.testing.assert_allclose(flipped[:, ::-1], expected, atol=1e-5)
    assert (
        np.abs(
            apply(variables, image[:, ::-1])[:, ::-1] - apply(variables, image)
        ).max()
        > 1e-3
    )


def test_the_result_is_the_logarithm_of_probabilities_that_sum_to_one():
    _, variables, apply = network("SAME")
    image = jnp.ones((1, 8, 16, 1))
    result = over_dihedral(apply)(variables, image)
    assert result.shape == (1, 8, 16, 2)
    np.testing.assert_allclose(jnp.exp(result).sum(-1), 1.0, atol=1e-6)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_tiled_still_equals_whole(padding):
    model, variables, apply = network(padding)
    partial = jax.tree_util.Partial(over_dihedral(apply), variables)
    image = np.random.default_rng(1).standard_normal((75, 53, 1)).astype(np.float32)
    whole = Predictor(partial, model.geometry, tile=0).logits(image)
    tiled = Predictor(partial, model.geometry, tile=24).logits(image)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_the_passes_follow_one_another_so_that_memory_is_that_of_one():
    _, variables, apply = network("SAME")
    image = jax.ShapeDtypeStruct((1, 256, 256, 1), jnp.float32)

    def temporaries(function):
        compiled = jax.jit(function).lower(variables, image).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(over_dihedral(apply)) < 3 * temporaries(apply)
