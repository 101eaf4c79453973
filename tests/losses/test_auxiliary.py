"""What `with_auxiliary` adds to every loss, and what it leaves as it was."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses import LOSSES
from segjax.losses.semantic import cross_entropy

LOSS = LOSSES["cross_entropy"]
RNG = np.random.default_rng(0)
LOGITS, AUX, FIRST, SECOND = jnp.asarray(RNG.normal(size=(4, 1, 3, 4, 2)), jnp.float32)
BATCH = {
    "label": jnp.asarray(RNG.integers(0, 2, (1, 3, 4)), jnp.int32),
    "weight": jnp.ones((1, 3, 4)),
}


def of(logits, **arguments):
    return float(cross_entropy({"logits": logits}, BATCH, **arguments))


def test_the_auxiliary_head_weighs_as_in_pspnet_unless_stated_otherwise():
    outputs = {"logits": LOGITS, "aux_logits": AUX}
    assert float(LOSS(outputs, BATCH)) == pytest.approx(of(LOGITS) + 0.4 * of(AUX))
    found = LOSS(outputs, BATCH, aux_weight=2.0, class_weights=(1.0, 3.0))
    both = [of(x, class_weights=(1.0, 3.0)) for x in (LOGITS, AUX)]
    assert float(found) == pytest.approx(both[0] + 2 * both[1], rel=1e-6)


@pytest.mark.parametrize("kind", [tuple, jnp.stack])
def test_side_outputs_are_added_with_their_weights(kind):
    outputs = {"logits": LOGITS, "side_logits": kind([FIRST, SECOND])}
    plain = of(LOGITS) + of(FIRST) + of(SECOND)
    assert float(LOSS(outputs, BATCH)) == pytest.approx(plain, rel=1e-6)
    weighted = of(LOGITS) + 0.5 * of(FIRST) + 2 * of(SECOND)
    found = LOSS(outputs, BATCH, side_weights=(0.5, 2.0))
    assert float(found) == pytest.approx(weighted, rel=1e-6)


def test_without_other_outputs_the_weights_do_not_matter():
    found = LOSS({"logits": LOGITS}, BATCH, aux_weight=7.0, side_weights=(1.0, 2.0))
    assert float(found) == of(LOGITS)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_teaches_every_output(name):
    sides = (FIRST, SECOND)
    outputs = {"logits": LOGITS, "aux_logits": AUX, "side_logits": sides}
    gradient = jax.jit(jax.grad(LOSSES[name]))(outputs, BATCH)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_signature_and_docstring_have_the_arguments_of_both(name):
    arguments = list(inspect.signature(LOSSES[name]).parameters)
    assert arguments[:2] == ["outputs", "batch"]
    assert arguments[-2:] == ["aux_weight", "side_weights"]
    lines = inspect.getdoc(LOSSES[name]).split("Args:")[1].split("Returns:")[0]
    explained = [x.split(":")[0].strip() for x in lines.splitlines() if x[2:3].strip()]
    assert explained == arguments


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"aux_weight": -0.1}, "aux_weight must be a finite number .*got -0.1"),
        ({"side_weights": (1.0, -1.0)}, "side_weights must be .*got .1.0, -1.0"),
        ({"side_weights": 1.0}, "side_weights must be a tuple"),
        ({"side_weights": (1.0,)}, "side_weights has 1 entries for 2 side outputs"),
    ],
)
def test_weights_that_cannot_be_are_refused(arguments, sentence):
    outputs = {"logits": LOGITS, "side_logits": (FIRST, SECOND)}
    with pytest.raises(ValueError, match=sentence):
        LOSS(outputs, BATCH, **arguments)
