"""Prepared records of objects: read as they were written, and reported where they are damaged."""

from types import SimpleNamespace

import numpy as np
import pytest

from segjax.data.instance.records import from_masks, records, stored
from segjax.errors import UserError
from segjax.rle import decode


def record_of(count=3):
    masks = np.random.default_rng(0).random((count, 6, 5)) < 0.5
    image = np.zeros((6, 5, 3), np.uint8)
    record = from_masks(image, masks, np.ones(count, np.int32), name="a", image_id=7)
    return masks, stored(record)


def read(written):
    source = SimpleNamespace(
        as_data_source=lambda split: [written], data_dir="sets/1.0.0"
    )
    return records(source, "train")[0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_stored_is_read(count):
    masks, written = record_of(count)
    found = read(written)["masks"]
    assert len(found) == count
    for mask, rle in zip(masks, found, strict=True):
        np.testing.assert_array_equal(decode(rle), mask)


def with_counts(change):
    def damage(written):
        written["mask_counts"] = change(written["mask_counts"].copy())

    return damage


def with_lengths(change):
    def damage(written):
        written["mask_lengths"] = change(written["mask_lengths"].copy())

    return damage


def more(values):
    values[0] += 1
    return values


def of_another_size(written):
    written["image"] = np.zeros((5, 5, 3), np.uint8)


def without_a_box(written):
    written["boxes"] = written["boxes"][1:]


DAMAGES = {
    "one_more": with_counts(more),
    "negative": with_counts(lambda c: np.concatenate([[-5, c[0] + 5], c[1:]])),
    "cut": with_counts(lambda c: c[:-1]),
    "none": with_counts(lambda c: c[:0]),
    "longer": with_lengths(more),
    "no_lengths": with_lengths(lambda n: n[:0]),
    "empty_mask": with_lengths(lambda n: np.concatenate([[0], n])),
    "negative_length": with_lengths(lambda n: np.array([-n[0], 2 * n[0], *n[1:]])),
    "another_size": of_another_size,
    "without_a_box": without_a_box,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_reported(damage):
    _, written = record_of()
    damage(written)
    with pytest.raises(UserError, match=r"sets/1\.0\.0 is damaged \(masks are not"):
        read(written)
