"""The mean of several networks is that of their probabilities."""

import jax
import jax.numpy as jnp
import numpy as np

from segjax.geometry.input_sizes import Geometry
from segjax.predict.ensemble import over_members, stack_members
from segjax.predict.tiled import Predictor


def logits(variables, image):
    return image * variables["weight"] + variables["bias"]


def test_probabilities_are_averaged_and_one_network_is_left_as_it_is():
    random = np.random.default_rng(0)
    members = [
        {
            "weight": jnp.float32(w),
            "bias": jnp.asarray(b, jnp.float32)[None, None, None],
        }
        for w, b in zip(random.normal(size=3), random.normal(size=(3, 2)), strict=True)
    ]
    image = random.random((9, 7, 1), np.float32)
    apply = over_members(logits)
    partial = jax.tree_util.Partial(apply, stack_members(members))
    found = Predictor(partial, Geometry(stride=1), tile=4).probabilities(image)
    each = [jax.nn.softmax(logits(x, jnp.asarray(image)[None]))[0] for x in members]
    np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-5)
    alone = apply(members[0], jnp.asarray(image)[None])
    np.testing.assert_array_equal(alone, logits(members[0], image[None]))
