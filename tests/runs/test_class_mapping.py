"""Heads for other classes, by the names of both."""

import numpy as np
import pytest

from segjax.errors import UserError
from segjax.runs.class_mapping import check_classes, columns_of, map_heads

OURS = ("Sky", "Pavement", "Bicyclist")
THEIRS = ("road", "sidewalk", "sky", "bicycle")
PAIRS = (("Pavement", "sidewalk"),)


def test_pairs_come_before_names_and_names_in_their_own_case_before_others() -> None:
    assert list(columns_of(OURS, THEIRS, PAIRS).values()) == [2, 1, None]
    assert columns_of(("Car",), ("Car", "car"), ()) == {"Car": 0}
    assert columns_of(("sky",), THEIRS, (("sky", "road"),)) == {"sky": 0}


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (
            (("Skye", "sky"),),
            '"Skye", which is not a class of the data. Did you mean "Sky"',
        ),
        ((("Sky", "skys"),), '"skys" for "Sky", which is not a class of the weights.'),
    ],
)
def test_a_name_that_is_not_there_is_one_sentence(classes, sentence) -> None:
    with pytest.raises(UserError) as caught:
        columns_of(OURS, THEIRS, classes)
    assert sentence in str(caught.value)


def test_classes_without_any_counterpart_are_refused() -> None:
    with pytest.raises(UserError, match="none of the classes of the data") as caught:
        columns_of(("cell", "membrane"), THEIRS, ())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "classes",
    ["by_name", (("Car", ("car", "bus")),), ("Car", "car"), PAIRS * 2, ((1, "car"),)],
)
def test_what_is_not_pairs_of_names_is_refused(classes) -> None:
    with pytest.raises(ValueError, match="classes must"):
        check_classes(classes)


def shapes(num_classes):
    """A network with a head, and a learned interpolation of its scores."""
    return {
        "params": {
            "conv/kernel": np.zeros((3, 3, 3, 4)),
            "logits/kernel": np.zeros((1, 1, 4, num_classes)),
            "logits/bias": np.zeros(num_classes),
            "upsample/kernel": np.zeros((4, 4, num_classes, num_classes)),
        }
    }


def test_heads_are_mapped_and_nothing_else() -> None:
    """Also where the two numbers of classes, or another number of channels, are the same."""
    rng = np.random.default_rng(0)
    theirs = shapes(4)
    theirs["params"] = {k: rng.random(x.shape) for k, x in theirs["params"].items()}
    columns = (3, None, 3, 0)
    found, mapped, left_out = map_heads(theirs, shapes(4), shapes(5), columns, 4)
    assert mapped == ["logits/kernel", "logits/bias"]
    assert left_out == ["upsample/kernel"]
    params = found["params"]
    assert params.keys() == {"conv/kernel", "logits/kernel", "logits/bias"}
    assert params["conv/kernel"] is theirs["params"]["conv/kernel"]
    for name in mapped:
        leaf = theirs["params"][name]
        for place, column in ((0, 3), (2, 3), (3, 0)):
            np.testing.assert_array_equal(params[name][..., place], leaf[..., column])
        np.testing.assert_allclose(params[name][..., 1], leaf.mean(-1))
