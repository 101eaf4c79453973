"""One value says how channels are normalised: what it allows, and what it makes."""

import re

import jax
import jax.numpy as jnp
import pytest

from segjax.layers.conv_norm import ConvNorm
from segjax.layers.norm import BATCH, KINDS, Norm, check_norm


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "layer"}, "kind is one of ('batch', 'group'), got 'layer'"),
        ({"momentum": 1.0}, "momentum is at least 0 and less than 1, got 1.0"),
        ({"epsilon": -1e-5}, "epsilon is a number of at least 0, got -1e-05"),
        ({"epsilon": float("nan")}, "epsilon is a number of at least 0, got nan"),
        ({"frozen": "yes"}, "frozen is True or False, got 'yes'"),
        ({"groups": 0}, "groups is an integer of at least 1, got 0"),
    ],
)
def test_bad_values_are_reported_in_one_sentence(values, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Norm(**values)


@pytest.mark.parametrize(
    ("norm", "allowed", "sentence"),
    [
        (None, KINDS, 'norm is a Norm of the kind "batch" or "group", got None'),
        ("batch", BATCH, "norm is a Norm of the kind \"batch\", got 'batch'"),
        (Norm("group"), (*BATCH, None), 'norm is a Norm of the kind "batch" or None'),
    ],
)
def test_what_a_module_cannot_do_is_reported_in_one_sentence(norm, allowed, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        check_norm(norm, allowed)


@pytest.mark.parametrize(
    ("norm", "moves"), [(Norm(momentum=0.75), True), (Norm(frozen=True), False)]
)
def test_statistics_move_unless_they_are_frozen(norm, moves):
    layer, x = ConvNorm(2, norm=norm), jnp.ones((1, 4, 4, 3))
    variables = layer.init(jax.random.key(0), x, train=False)
    _, changed = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    variance = changed["batch_stats"]["norm"]["var"] if changed else jnp.ones(2)
    assert bool((variance < 1).any()) == moves


def test_equal_norms_are_one_key_of_a_cache():
    assert len({Norm(), Norm("batch", 0.9), ConvNorm(1).norm}) == 1
