"""Receptive fields that are measured, beside those that follow from the layers."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.geometry.fields import input_window
from segjax.inspect.effective_field import (
    applied,
    central_side,
    effective_field,
    random_variables,
    seen_side,
)
from segjax.models.dilated import Context


def measured(dilations, side=28):
    context = Context(8, dilations=dilations)
    variables = random_variables(context, (side, side), channels=8)
    function = applied(context, variables)
    return context, effective_field(function, (side, side), channels=8, images=4)


def test_a_dilated_stack_sees_the_rectangle_of_its_layers():
    context, field = measured((1, 2, 4))
    first, stop = input_window(context.layers(), 14, 15)
    assert (stop - first, seen_side(field)) == (15, 15)
    inside = np.zeros_like(field, bool)
    inside[first:stop, first:stop] = True
    assert (field[inside] > 0).all()
    assert not field[~inside].any()


def test_rates_with_a_common_factor_leave_holes():
    _, field = measured((2, 2))
    seen = np.zeros_like(field, bool)
    seen[10:19:2, 10:19:2] = True
    np.testing.assert_array_equal(field > 0, seen)


def test_random_weights_are_no_identity_and_repeat():
    context = Context(4, dilations=(1, 1))
    first, again = (random_variables(context, (9, 9), channels=4) for _ in range(2))
    other = random_variables(context, (9, 9), channels=4, seed=1)
    kernels = [v["params"]["conv1"]["kernel"] for v in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).all()
    assert kernels[0].std() == pytest.approx(np.sqrt(2 / 36), rel=0.2)


class Normed(nn.Module):
    """A norm, whose answer shows its variables."""

    @nn.compact
    def __call__(self, x, *, train):
        return {"map": nn.BatchNorm(use_running_average=not train, epsilon=0.0)(x)}


def test_norms_pass_on_what_they_get():
    variables = random_variables(Normed(), (4, 4), channels=2)
    x = jnp.arange(32.0).reshape(1, 4, 4, 2)
    np.testing.assert_allclose(applied(Normed(), variables, "map")(x), x, rtol=1e-6)


def test_sides_of_a_field():
    field = np.zeros((9, 9), np.float32)
    assert seen_side(field) == 0
    field[4, 4], field[4, 6] = 0.9, 0.1
    assert seen_side(field) == 3
    fractions = (0.85, 0.95, 1.0)
    assert [central_side(field, fraction) for fraction in fractions] == [1, 5, 5]


def test_a_field_without_gradient_has_no_centre():
    with pytest.raises(ValueError, match="0 everywhere"):
        central_side(np.zeros((3, 3)))
