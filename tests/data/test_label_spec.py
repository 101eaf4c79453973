import ast
import re

import numpy as np
import pytest

from segjax.data.datasets.label_meanings import LABELS
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

COLORS = ((0, 0, 0), (255, 255, 255))
NAMES = ("membrane", "cell")


def test_values_are_class_ids_where_nothing_else_is_stated():
    spec = LabelSpec(NAMES, COLORS)
    raw = np.array([[0, 1], [255, 0]], np.uint8)
    ids = spec.to_ids(raw, "a.png")
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, [[0, 1], [IGNORE_LABEL, 0]])


def test_remapping_goes_before_ignoring():
    spec = LabelSpec(NAMES, COLORS, ignore=255, remap=((255, 1),))
    np.testing.assert_array_equal(
        spec.to_ids(np.array([[0, 1, 255]]), "a"), [[0, 1, 1]]
    )


def test_classes_counted_from_one_with_zero_ignored():
    spec = LabelSpec(NAMES, COLORS, ignore=0, remap=((1, 0), (2, 1)))
    ids = spec.to_ids(np.array([[0, 1, 2]], np.uint16), "a")
    np.testing.assert_array_equal(ids, [[IGNORE_LABEL, 0, 1]])


def test_a_value_can_be_remapped_to_ignored():
    spec = LabelSpec(NAMES, COLORS, ignore=None, remap=((11, IGNORE_LABEL),))
    ids = spec.to_ids(np.array([[0, 11]], np.uint8), "a")
    np.testing.assert_array_equal(ids, [[0, IGNORE_LABEL]])


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int64]
)
def test_every_integer_type_gives_the_same_ids(dtype):
    raw = np.array([[0, 1], [1, 0]], dtype)
    np.testing.assert_array_equal(LabelSpec(NAMES, COLORS).to_ids(raw, "a"), raw)


def test_the_arguments_may_come_from_json_as_lists():
    spec = LabelSpec(["a", "b"], [[0, 0, 0], [9, 9, 9]], remap=[[255, 1]])
    assert spec == LabelSpec(("a", "b"), ((0, 0, 0), (9, 9, 9)), remap=((255, 1),))
    assert hash(spec)


def test_an_unknown_value_is_reported_with_file_pixels_and_remedy():
    raw = np.zeros((10, 10), np.uint8)
    raw[0, :3], raw[5, 5] = 200, 7
    with pytest.raises(UserError) as caught:
        LabelSpec(NAMES, COLORS).to_ids(raw, "labels/a.png")
    message = str(caught.value)
    assert "labels/a.png" in message
    assert "200 (3 pixels), 7 (1 pixel);" in message
    assert "0 (membrane), 1 (cell), 255 (ignored)" in message
    assert "remap=((7, 1), (200, 1)) makes these values the class 'cell'" in message


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (np.array([[-1, 0]], np.int8), "-1 (1 pixel)"),
        (np.array([[1 << 20, 1 << 20]], np.int64), "1048576 (2 pixels)"),
        (np.array([[1 << 40]], np.uint64), "1099511627776 (1 pixel)"),
        (np.arange(9, dtype=np.uint16)[None], "and 2 more"),
        (np.array([[0.5]]), "float64"),
    ],
)
def test_values_that_are_no_ids_are_refused(raw, found):
    with pytest.raises(UserError, match=r"^where\.tif ") as caught:
        LabelSpec(NAMES, COLORS).to_ids(raw, "where.tif")
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"ignore": -1}, [[0, 1, 255]]),
        ({"remap": ((-1, 255),)}, [[0, 1, 255]]),
        ({"remap": ((-1, 0),)}, [[0, 1, 0]]),
    ],
)
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_negative_values_are_ignored_or_remapped_as_others(arguments, expected, dtype):
    spec = LabelSpec(NAMES, COLORS, **arguments)
    np.testing.assert_array_equal(
        spec.to_ids(np.array([[0, 1, -1]], dtype), "a"), expected
    )
    assert "-1" in spec.describe()
    # 255 of a byte has the same bits as -1, and is another value.
    with pytest.raises(UserError, match="254"):
        spec.to_ids(np.array([[254]], np.uint8), "a")


@pytest.mark.parametrize(
    "raw",
    [
        np.array([[0, 200, 7]], np.uint8),
        np.array([[0, 1, -1]], np.int16),
        np.array([[-(1 << 31), -5, 0]], np.int32),
        np.array([[70_000, 1 << 40]], np.int64),
        np.array([[1, (1 << 64) - 1]], np.uint64),
    ],
    ids=["unknown", "negative", "very negative", "large", "largest"],
)
@pytest.mark.parametrize("target", ["class", "ignored"])
def test_the_remap_that_a_message_proposes_works(raw, target):
    spec = LabelSpec(NAMES, COLORS)
    with pytest.raises(UserError) as caught:
        spec.to_ids(raw, "a.tif")
    (text,) = re.findall(r"remap=(\(\(.*?\)+,?\)) makes", str(caught.value))
    pairs = ast.literal_eval(text)
    if target == "ignored":
        pairs = tuple((value, IGNORE_LABEL) for value, _ in pairs)
    ids = LabelSpec(NAMES, COLORS, remap=pairs).to_ids(raw, "a.tif")
    unknown = (raw != 0) & (raw != 1)
    assert set(ids[unknown].tolist()) == {1 if target == "class" else IGNORE_LABEL}
    np.testing.assert_array_equal(ids[~unknown], raw[~unknown])


@pytest.mark.parametrize("remap", [(), ((255, 1),), ((3, 0), (0, 1), (1, 255))])
def test_of_many_values_no_pair_for_each_is_asked(remap):
    spec = LabelSpec(NAMES, COLORS, remap=remap)
    raw = np.arange(300, dtype=np.uint16)[None]
    with pytest.raises(UserError) as caught:
        spec.to_ids(raw, "a.tif")
    message = str(caught.value)
    assert "remap" not in message
    (advised,) = re.findall(r"config\.data\.labels=(\w+)", message)
    assert advised in LABELS


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"names": ("one",), "colors": COLORS[:1]}, "1 given"),
        ({"colors": COLORS[:1]}, "1 colours for 2 names"),
        ({"names": ("a", "a")}, "'a' occurs twice"),
        ({"colors": ((0, 0, 0), (256, 0, 0))}, "'cell' has the colour (256, 0, 0)"),
        ({"colors": ((0, 0, 0), (1, 2))}, "'cell' has the colour (1, 2)"),
        ({"ignore": 0.5}, "ignore: 0.5 given; use an integer"),
        ({"remap": ((255, 2),)}, "(255, 2) leads to class 2"),
        ({"remap": (("3", 1),)}, "('3', 1) given"),
        ({"remap": ((9, 1), (9, 0))}, "9 is mapped twice"),
        ({"ignore": 0}, "stands for 'membrane' (class 0)"),
        ({"remap": ((1, 0),)}, "stands for 'cell' (class 1)"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(arguments, sentence):
    with pytest.raises(UserError) as caught:
        LabelSpec(**({"names": NAMES, "colors": COLORS} | arguments))
    assert sentence in str(caught.value)


def test_the_description_lists_every_class_and_what_is_ignored():
    lines = LabelSpec(NAMES, COLORS, remap=((7, 1),)).describe().splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["0", "membrane", "0,0,0", "0"],
        ["1", "cell", "255,255,255", "1,", "7"],
        ["255", "(ignored)", "255"],
    ]
