"""Objects of one example or record on another: labels, masks, boxes, and what they hide."""

import numpy as np
import pytest

from segjax.data.augment import views
from segjax.data.augment.copy_paste import copy_paste, paste_objects
from segjax.data.instance.batches import instance_batches
from segjax.data.instance.records import from_masks
from segjax.data.semantic.batches import train_batches
from segjax.errors import UserError
from segjax.rle import boxes_of, decode
from segjax.types import IGNORE_LABEL

ALWAYS = {"probability": 1.0, "fraction": 1.0}


def rng(seed=0):
    return np.random.default_rng(seed)


def example(value, label):
    label = np.asarray(label, np.int32)
    return {
        "image": np.full((*label.shape, 2), value, np.float32),
        "label": label,
        "weight": np.full(label.shape, value, np.float32),
    }


BASE = example(0.0, [[0, 1, 1, 0], [0, 0, 0, 0]])
OTHER = example(5.0, [[2, 0, 2, IGNORE_LABEL], [2, 0, 0, 1]])


def test_objects_bring_pixels_label_and_weight():
    found = copy_paste((BASE, lambda: OTHER), rng(), **ALWAYS)
    assert found["label"].tolist() == [[2, 1, 2, 0], [2, 0, 0, 1]]
    assert (found["weight"] == [[5, 0, 5, 0], [5, 0, 0, 5]]).all()
    assert (found["image"] == found["weight"][..., None]).all()
    assert (BASE["weight"] == 0).all()


def test_classes_say_what_is_an_object():
    found = copy_paste((BASE, lambda: OTHER), rng(), classes=(1,), **ALWAYS)
    assert found["label"].tolist() == [[0, 1, 1, 0], [0, 0, 0, 1]]


def test_each_connected_region_is_pasted_or_not_on_its_own():
    seen = set()
    for seed in range(100):
        found = copy_paste((BASE, lambda: OTHER), rng(seed), probability=1.0)
        label = found["label"]
        assert label[0, 0] == label[1, 0]  # one region
        seen.add((label[0, 0] == 2, label[0, 2] == 2, label[1, 3] == 1))
    assert len(seen) == 8


def test_the_other_example_is_made_only_where_it_is_wanted():
    found = copy_paste((BASE, lambda: 1 / 0), rng(), probability=0.0)
    assert found is BASE


def record(value, boxes, size=(20, 30), **more):
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    image = np.full((*size, 1), value, np.uint8)
    return from_masks(
        image, masks, np.arange(1, len(boxes) + 1), name="a", image_id=1, **more
    )


STAY = {"scale": (1.0, 1.0), **ALWAYS}


def test_pasted_objects_hide_what_is_below_them():
    """One object is hidden half, one almost whole, one not at all."""
    base = record(10, [(0, 0, 10, 10), (12, 22, 18, 28), (0, 14, 4, 18)])
    other = record(99, [(0, 5, 20, 10), (11, 21, 19, 29)])
    for seed in range(30):
        found = paste_objects((base, lambda: other), rng(seed), **STAY)
        if found["boxes"][-1].tolist() == [11, 21, 19, 29]:  # not the mirror image
            break
    masks = np.stack([decode(rle) for rle in found["masks"]])
    assert found["classes"].tolist() == [1, 3, 1, 2]
    assert found["boxes"][0].tolist() == [0, 0, 10, 5]
    assert found["areas"].tolist() == [50, 16, 100, 64]
    np.testing.assert_array_equal(found["boxes"], boxes_of(found["masks"]))
    assert not (masks[:2] & masks[2:].any(0)).any()
    assert ((found["image"][..., 0] == 99) == masks[2:].any(0)).all()
    assert base["areas"].tolist() == [100, 36, 16]


def test_objects_are_magnified_moved_and_mirrored():
    base, other = record(10, [], (40, 40)), record(99, [(4, 2, 8, 12)], (20, 30))
    lefts = set()
    for seed in range(20):
        found = paste_objects(
            (base, lambda: other), rng(seed), scale=(2.0, 2.0), **ALWAYS
        )
        if len(found["boxes"]) and found["boxes"][0, 1] > 0:
            top, left, bottom, right = found["boxes"][0]
            assert bottom - top == 8
            assert right - left == 20 or right == 40
            lefts.add(float(left))
    assert len(lefts) > 3


def test_crowds_are_not_pasted_and_never_dropped():
    base = record(10, [(0, 0, 10, 10)]) | {"crowd": np.array([True])}
    crowd = record(99, [(0, 0, 20, 29)]) | {"crowd": np.array([True])}
    assert paste_objects((base, lambda: crowd), rng(), **STAY) is base
    other = record(99, [(0, 0, 20, 29)])
    hidden = (paste_objects((base, lambda: other), rng(s), **STAY) for s in range(20))
    assert any(len(x["boxes"]) == 2 and x["areas"][0] == 10 for x in hidden)


def test_colours_and_depths_are_brought_together():
    base = record(10, [])
    deep = record(0, [(0, 0, 20, 30)])
    deep["image"] = np.full((20, 30, 3), 65535, np.uint16)
    found = paste_objects((base, lambda: deep), rng(), **STAY)
    assert found["image"].dtype == np.uint16
    assert (found["image"] == 65535).all()


def test_keypoints_are_refused():
    points = record(1, [(0, 0, 2, 2)], keypoints=np.zeros((1, 3, 3)))
    with pytest.raises(UserError, match="keypoints"):
        paste_objects((points, lambda: points), rng(), **ALWAYS)


@pytest.mark.parametrize("arguments", [{"fraction": 2}, {"scale": (0, 1)}])
def test_numbers_out_of_range_are_found_before_training(arguments):
    with pytest.raises(UserError, match="copy_paste"):
        views.check((("copy_paste", arguments),))


def semantic(start_step, paste=True):
    source = np.random.default_rng(5)
    records = [
        {
            "image": source.integers(0, 99, (16, 16, 1), np.uint8) + np.uint8(100 * i),
            "label": source.integers(0, 3, (16, 16), np.uint8),
            "name": str(i),
        }
        for i in range(2)
    ]
    augment = (("flip", {}), ("copy_paste", {"probability": 0.5}))[: 1 + paste]
    with train_batches(
        records,
        seed=1,
        batch_size=4,
        input_size=12,
        output_size=8,
        augment=augment,
        start_step=start_step,
        num_threads=0,
    ) as batches:
        return next(batches)


def test_the_stream_is_the_same_from_any_step_and_others_stay_as_they_were():
    again, plain = semantic(3), semantic(3, paste=False)
    for key, values in semantic(3).items():
        np.testing.assert_array_equal(values, again[key])
    same = (again["image"] == plain["image"]).all((1, 2, 3))
    assert 0 < same.sum() < 4  # about half of the examples are as without


def test_batches_of_objects_have_pasted_ones():
    records = [record(10, [(2, 2, 8, 8)]), record(99, [(9, 9, 15, 20)])]

    def first(augment):
        with instance_batches(
            records,
            seed=0,
            batch_size=4,
            buckets=((20, 30),),
            max_objects=4,
            mask_size=8,
            augment=augment,
            num_threads=0,
        ) as batches:
            return next(batches)

    pasted = first((("copy_paste", {"probability": 1.0, "fraction": 1.0}),))
    again = first((("copy_paste", {"probability": 1.0, "fraction": 1.0}),))
    assert ((pasted["classes"] > 0).sum(1) >= 1).all()
    assert (pasted["classes"] > 0).sum() > (first(())["classes"] > 0).sum()
    for key, values in pasted.items():
        np.testing.assert_array_equal(values, again[key])
