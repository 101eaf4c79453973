"""The group `config.sharding`: grids of devices, and what is divided along each axis."""

import types

import jax
import jax.numpy as jnp
import ml_collections
import optax
import pytest

from segjax.errors import UserError
from segjax.training.layout import (
    Layout,
    Spread,
    check_rows,
    layout_of,
    splitting,
)
from segjax.training.state import begun


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (Layout(), (8, 1, 1)),
        (Layout(model=8), (1, 8, 1)),
        (Layout(model=2, rows=2), (2, 2, 2)),
        (Layout(data=4, rows=2), (4, 1, 2)),
    ],
)
def test_what_is_left_lies_along_data(layout, shape):
    assert layout.shape(8) == shape


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [
        (Layout(model=3), "2 x 3 x 1"),
        (Layout(data=2, rows=2), "2 x 1 x 2"),
        (Layout(model=16), "1 x 16 x 1"),
    ],
)
def test_a_grid_of_other_numbers_of_devices_is_refused(layout, wanted):
    sentence = f"config.sharding wants {wanted} devices.*product of the three be 8"
    with pytest.raises(UserError, match=sentence):
        layout.shape(8)


def test_an_image_lies_in_one_process():
    assert Layout(rows=4).shape(8, in_process=4) == (2, 1, 4)
    with pytest.raises(UserError, match="rows is 4, and each process has 2 devices"):
        Layout(rows=4).shape(8, in_process=2)


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ({"rows": 0}, "config.sharding: rows is 0: it is a number of devices"),
        ({"data": 1.5}, "config.sharding: data is 1.5"),
        (
            {"params": "bottom/*"},
            r"config.sharding: params is 'bottom/\*': it is a tuple",
        ),
        ({"gather": 1}, "config.sharding: gather is 1: it is True or False"),
        ({"min_size": 0}, "config.sharding: min_size is 0"),
        ({"colums": 2}, r"config.sharding.*colums"),
    ],
)
def test_a_wrong_value_is_named(group, sentence):
    with pytest.raises(UserError, match=sentence):
        layout_of(ml_collections.ConfigDict({"sharding": group}))


def test_a_config_without_the_group_has_all_devices_along_data():
    assert layout_of(ml_collections.ConfigDict()) == Layout()


PARAMS = {
    "wide": {"kernel": jnp.zeros((3, 3, 8, 16)), "bias": jnp.zeros(16)},
    "odd": {"kernel": jnp.zeros((3, 3, 5, 7))},
}


def divided(layout, optimizer=None):
    """The axis of each array of a state that is divided, by its name."""
    opt_state = (optimizer or optax.identity()).init(PARAMS)
    state = begun({"params": PARAMS}, opt_state, {"params": PARAMS})
    split = splitting(layout, PARAMS, 8)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): split(path, x)
        for path, x in leaves
    }
    return {name: axis for name, axis in found.items() if axis is not None}


def test_what_is_kept_of_a_parameter_lies_where_it_does():
    found = divided(Layout(model=8, min_size=16), optax.adam(1e-3))
    axes = {"wide/kernel": 3, "wide/bias": 0}
    places = ("params", "opt_state/0/mu", "opt_state/0/nu", "ema/params")
    assert found == {f"{place}/{x}": axes[x] for place in places for x in axes}


def test_small_arrays_and_those_of_other_patterns_are_whole():
    assert divided(Layout(model=8, min_size=17)) == {
        "params/wide/kernel": 3,
        "ema/params/wide/kernel": 3,
    }
    found = divided(Layout(model=8, min_size=16, params=("*/bias",)), optax.adam(1e-3))
    assert {name.rpartition("/")[2] for name in found} == {"bias"}
    with pytest.raises(
        UserError, match=r"pattern 'tall/\*', which matches no parameter"
    ):
        splitting(Layout(model=8, params=("tall/*",)), PARAMS, 8)


def test_rows_are_of_networks_that_label_pixels_and_divide_their_images():
    pixels = types.SimpleNamespace(
        capabilities={"labels"}, answers="labels pixels", input_size=(572, 572)
    )
    objects = types.SimpleNamespace(
        capabilities={"instances"}, answers="finds objects", input_size=(64, 64)
    )
    check_rows(Layout(rows=4), pixels)
    check_rows(Layout(model=8), objects)
    with pytest.raises(UserError, match=r"rows is 8.*does not divide the 572 rows"):
        check_rows(Layout(rows=8), pixels)
    with pytest.raises(UserError, match="this network finds objects: use 1"):
        check_rows(Layout(rows=4), objects)


def test_devices_that_cannot_share_an_image_are_refused_by_the_flag():
    assert Spread(devices_per_image=4).layout(8) == Layout(rows=4)
    with pytest.raises(UserError, match="--devices_per_image=3 does not divide the 4"):
        Spread(devices_per_image=3).layout(4)
