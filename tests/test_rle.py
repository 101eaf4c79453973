"""Masks as run lengths: against masks, and against texts that COCO's tools have written."""

import json

import numpy as np
import pytest

from segjax import rle
from segjax.errors import UserError


def random_masks(count=6, size=(7, 9)):
    rng = np.random.default_rng(3)
    fractions = np.linspace(0, 1, count)
    return [rng.random(size) < fraction for fraction in fractions]


MASKS = [*random_masks(), np.eye(5, dtype=bool), np.ones((3, 1), bool)]


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: f"{m.mean():.2f}")
def test_what_is_encoded_is_decoded(mask):
    encoded = rle.encode(mask)
    assert encoded.counts.sum() == mask.size
    assert encoded.area == mask.sum()
    np.testing.assert_array_equal(rle.decode(encoded), mask)
    again = rle.from_string(rle.to_string(encoded), encoded.size)
    np.testing.assert_array_equal(again.counts, encoded.counts)
    rows, columns = np.nonzero(mask)
    box = (
        [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        if len(rows)
        else [0, 0, 0, 0]
    )
    assert rle.boxes_of([encoded]).tolist() == [box]


def test_texts_of_cocos_own_tools_are_read_and_written(shared_data):
    path = shared_data / "coco_eval_fixtures/instances_val2014_fakesegm100_results.json"
    texts = [a["segmentation"] for a in json.loads(path.read_text())]
    assert len(texts) == 734
    for text in texts:
        encoded = rle.from_string(text["counts"], tuple(text["size"]))
        assert rle.to_string(encoded) == text["counts"]


def test_shared_pixels_are_counted_from_the_runs():
    masks = random_masks()
    found = rle.intersections(*2 * [[rle.encode(m) for m in masks]])
    wanted = [[(a & b).sum() for b in masks] for a in masks]
    np.testing.assert_array_equal(found, wanted)
    assert rle.intersections([], [rle.encode(masks[1])]).shape == (0, 1)


def test_the_objects_of_a_label_image_are_told_apart():
    label = np.random.default_rng(0).integers(0, 4, (9, 11)) * 7
    encoded = rle.encode_label(label)
    assert len(encoded) == 3
    for number, one in zip((7, 14, 21), encoded, strict=True):
        np.testing.assert_array_equal(one.counts, rle.encode(label == number).counts)
    assert rle.encode_label(np.zeros((3, 4), np.uint16)) == ()
    assert len(rle.encode_label(np.full((3, 4), 300, np.uint16))) == 1


def test_a_union_is_that_of_the_masks():
    masks = random_masks()[:4]
    joined = rle.union([rle.encode(m) for m in masks])
    np.testing.assert_array_equal(rle.decode(joined), np.any(masks, axis=0))
    beside = [rle.encode(np.array([[1, 0]])), rle.encode(np.array([[0, 1]]))]
    assert rle.union(beside).counts.tolist() == [0, 2]


NO_COUNTS = (
    *(None, True, 7, "04", {"a": 1}, [None], [True, 5], ["6"], [[3, 3]], [[3], [3, 0]]),
    *([1.5, 4.5], [float("nan"), 6], [float("inf"), 6], [1e300, 6], [10**400, 6]),
    *([2**63, 6], [2.0**63, 6.0], np.ones((1, 6)), np.array(["a"]), [6, "x" * 99]),
)


@pytest.mark.parametrize("counts", NO_COUNTS, ids=lambda counts: repr(counts)[:20])
def test_what_is_not_a_list_of_integers_is_not_run_lengths(counts):
    with pytest.raises(
        UserError, match=r"run lengths are .* a list of integers belong"
    ):
        rle.from_counts(counts, (2, 3))


def test_run_lengths_may_be_floats_that_are_integers():
    assert rle.from_counts([2.0, 4.0], (2, 3)).counts.tolist() == [2, 4]
    assert rle.from_counts([2.0, 4.0], (2, 3)).counts.dtype == np.int64
    assert rle.from_counts([], (0, 3)).counts.tolist() == []


def text_of(*numbers):
    """COCO's text of numbers of any size, as they are (no differences)."""
    text = ""
    for number in numbers:
        more = True
        while more:
            bits, number = number & 31, number >> 5
            more = number != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 if more else bits))
    return text


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: rle.from_counts([3, 2], (2, 3)), "add up to 5 pixels.*2 x 3 has 6"),
        (lambda: rle.from_counts([-1, 7], (2, 3)), "hold -1; each must be at least 0"),
        (lambda: rle.from_string("04", (2, 3)), "add up to 4"),
        (lambda: rle.from_string("", (2, 3)), "add up to 0"),
        (lambda: rle.from_string("0~", (2, 3)), "not a text of COCO's form"),
        (lambda: rle.from_string("0o", (2, 3)), "not a text of COCO's form"),
        (lambda: rle.from_string("06?\u20ac", (2, 3)), "not a text of COCO's form"),
        (lambda: rle.from_string("06\ud800", (2, 3)), "not a text of COCO's form"),
        (lambda: rle.from_string(b"\xff6", (2, 3)), "not a text of COCO's form"),
        (lambda: rle.from_string("o" * 20 + "0", (2, 3)), "too large"),
        (lambda: rle.from_string(text_of(2**40), (2, 3)), "too large"),
        (lambda: rle.from_string(text_of(-(2**59), 6), (2, 3)), "too large"),
        (lambda: rle.from_string(text_of(0, 6, 0, 6), (2, 3)), "add up to 18"),
        (lambda: rle.from_string(text_of(0, 3, 3, -4), (2, 3)), "hold -1"),
    ],
)
def test_runs_that_fit_no_image_are_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call()


# Sums of such lengths in 64 bits come round to the size of the image, and the process
# died of SIGSEGV when it wrote the mask.
WRAPPED = (
    [2**62, 2**62, 2**62, 2**62 + 6],
    [2**62 - 1, 2**62 - 1, 2**62 - 1, 2**62 - 1, 10],
    [6, 0, 2**63 - 1, 2**63 - 1, 2],
    [2**61] * 8 + [6],
)


@pytest.mark.parametrize("counts", WRAPPED, ids=len)
def test_run_lengths_whose_sum_wraps_to_the_size_are_refused(counts):
    assert sum(counts) % 2**64 == 6
    for given in (counts, np.array(counts)):
        with pytest.raises(UserError, match=f"add up to {sum(counts)} pixels"):
            rle.from_counts(given, (2, 3))
    with pytest.raises(UserError, match="too large"):
        rle.from_string(text_of(*counts), (2, 3))


def test_counts_in_a_text_that_add_up_to_another_image_are_refused():
    # Differences to the one before the last: two of 2**30, two of 2 * 2**30, and so on.
    text = text_of(0, 0, 0, *[2**30] * 40)
    with pytest.raises(UserError, match=f"add up to {420 * 2**30} pixels"):
        rle.from_string(text, (1 << 15, 1 << 15))
    with pytest.raises(UserError, match="add up to 0"):
        rle.from_counts([0], (1 << 40, 1 << 40))


def test_a_mask_has_two_axes():
    with pytest.raises(ValueError, match=r"\[H, W\], got shape \(2, 2, 1\)"):
        rle.encode(np.ones((2, 2, 1)))
