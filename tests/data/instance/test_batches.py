"""Batches of objects: resumable, in buckets, and everything moves together."""

import itertools
import logging

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.instance.batches import (
    evaluation_batches,
    evaluation_order,
    instance_batches,
    schedule_of,
)
from segjax.data.instance.buckets import bucket_of
from segjax.data.instance.records import from_masks
from segjax.data.semantic.batches import record_ids
from segjax.errors import UserError

EVERYTHING = (
    ("flip", {"vertical": True}),
    ("transpose", {}),
    ("scale", {"scale": (0.6, 1.6)}),
    ("crop", {"fraction": (0.4, 1.0), "probability": 0.8}),
    ("color_jitter", {}),
)
SWAP = (0, 2, 1)
GREY = 40


def synthetic_records(sizes=((40, 48), (40, 48), (52, 36)), objects=3, seed=0):
    """Bright rectangles, the object's number in the image, a keypoint at each corner."""
    rng = np.random.default_rng(seed)
    records = []
    for i, (height, width) in enumerate(sizes):
        image = np.zeros((height, width, 3), np.uint8)
        masks = np.zeros((objects, height, width), bool)
        keypoints = np.zeros((objects, 3, 3), np.float32)
        for n in range(objects):
            top, left = rng.integers(0, height - 12), rng.integers(0, width - 12)
            bottom, right = top + rng.integers(5, 12), left + rng.integers(5, 12)
            masks[: n + 1, top:bottom, left:right] = False
            masks[n, top:bottom, left:right] = True
            image[top:bottom, left:right] = GREY * (n + 1)
            keypoints[n, :, :2] = [top, left], [bottom, left], [bottom, right]
            keypoints[n, :, 2] = 2
        kept = masks.any((1, 2))
        records.append(
            from_masks(
                image,
                masks[kept],
                1 + np.arange(objects)[kept],
                name=f"synthetic {i}",
                image_id=i,
                keypoints=keypoints[kept],
            )
        )
    return records


def take(records, steps, **arguments):
    settings = {
        "seed": 5,
        "batch_size": 4,
        "buckets": ((48, 64), (64, 48)),
        "max_objects": 4,
        "augment": EVERYTHING,
        "mask_size": 14,
        "keypoint_swap": SWAP,
    }
    with instance_batches(records, **{**settings, **arguments}) as batches:
        return list(itertools.islice(batches, steps))


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key])


@pytest.fixture(scope="module")
def batches():
    return take(synthetic_records(), 10)


def test_batches_have_the_stated_shapes_and_dtypes(batches):
    found = {key: (x.shape[1:], x.dtype) for key, x in batches[0].items()}
    bucket = found.pop("image")[0][:2]
    assert bucket in ((48, 64), (64, 48))
    assert found == {
        "sizes": ((2,), np.int32),
        "boxes": ((4, 4), np.float32),
        "classes": ((4,), np.int32),
        "crowd": ((4,), bool),
        "masks": ((4, 14, 14), np.uint8),
        "keypoints": ((4, 3, 3), np.float32),
        "num_dropped": ((), np.int32),
        "record": ((), np.int32),
    }


@pytest.mark.parametrize("num_threads", [0, 3])
def test_a_resumed_stream_goes_on_as_if_it_had_never_stopped(batches, num_threads):
    resumed = take(synthetic_records(), 3, start_step=7, num_threads=num_threads)
    assert_same(batches[7:], resumed)


def test_processes_together_prepare_the_batch_of_one(batches):
    parts = [
        take(synthetic_records(), 4, process_index=i, process_count=2) for i in range(2)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(batches[:4], joined)


def test_every_step_lies_in_one_bucket_and_buckets_come_as_often_as_their_records():
    records = synthetic_records(sizes=((40, 48),) * 4 + ((52, 36),) * 2)
    found = take(records, 12, augment=(), batch_size=2)
    counts = np.zeros(6, int)
    for batch in found:
        wide = batch["image"].shape[1:3] == (48, 64)
        assert set((batch["record"] < 4).tolist()) == {wide}
        np.add.at(counts, batch["record"], 1)
    assert counts.tolist() == [4] * 6


def test_with_one_bucket_the_order_is_that_of_train_batches():
    schedule = schedule_of(
        synthetic_records(), seed=9, batch_size=2, buckets=((64, 64),)
    )
    for step in range(7):
        wanted = record_ids(3, seed=9, batch_size=2, step=step)
        np.testing.assert_array_equal(schedule.ids(step), wanted)


def covered(batch, row, slot):
    """Pixels of an example whose centres lie in a mask, from box and cropped mask."""
    mask, box = batch["masks"][row, slot], batch["boxes"][row, slot]
    covers = np.ones(batch["sizes"][row], bool)
    cells = []
    for axis, length in enumerate(covers.shape):
        centers = np.arange(length) + 0.5
        low, high = box[axis], box[axis + 2]
        cell = np.floor((centers - low) / (high - low) * len(mask)).astype(int)
        outside = (cell < 0) | (cell >= len(mask))
        np.moveaxis(covers, axis, 0)[outside] = False
        cells.append(np.clip(cell, 0, len(mask) - 1))
    return covers & (mask[np.ix_(*cells)] > 0)


def test_image_boxes_and_masks_move_together():
    augment = tuple(a for a in EVERYTHING if a[0] != "color_jitter")
    objects, right, seen = 0, 0, 0
    for batch in take(synthetic_records(), 12, augment=augment, mask_size=56):
        for row, slot in np.argwhere(batch["classes"] > 0):
            height, width = batch["sizes"][row]
            # Pixels at the rim of an object are mixed by the resampling.
            inside = ndimage.binary_erosion(covered(batch, row, slot))
            value = GREY / 255 * batch["classes"][row, slot]
            image = batch["image"][row, :height, :width, 0]
            right += (np.abs(image[inside] - value) < 0.02).sum()
            seen, objects = seen + inside.sum(), objects + 1
            top, left, bottom, end = batch["boxes"][row, slot]
            assert 0 <= top < bottom <= height
            assert 0 <= left < end <= width
    assert objects > 60
    assert seen > 2000
    assert right / seen > 0.98


def test_keypoints_stay_at_their_corners_and_change_places_in_a_mirror():
    record = synthetic_records(sizes=((40, 48),), objects=1)
    seen = set()
    for batch in take(record, 8, augment=(("flip", {"vertical": True}),)):
        for row in range(4):
            top, left, bottom, right = batch["boxes"][row, 0]
            corners = [tuple(p) for p in batch["keypoints"][row, 0, :, :2].tolist()]
            named = {(top, left): "A", (bottom, left): "B", (top, right): "D"}
            named[(bottom, right)] = "C"
            seen.add("".join(named[c] for c in corners))
    # A mirror left-right puts A at the top right, and exchanges the points B and C.
    assert seen == {"ABC", "DBC", "BDA", "CDA"}


def test_what_is_padded_is_black_and_what_is_empty_is_zero(batches):
    for batch in batches:
        for row, (height, width) in enumerate(batch["sizes"]):
            assert not batch["image"][row, height:].any()
            assert not batch["image"][row, :, width:].any()
            empty = batch["classes"][row] == 0
            for key in ("boxes", "masks", "keypoints", "crowd"):
                assert not batch[key][row, empty].any()


def test_an_image_without_objects_trains():
    record = synthetic_records(objects=0)
    (batch,) = take(record, 1)
    assert not batch["classes"].any()
    assert batch["image"].shape[0] == 4


def test_objects_beyond_the_capacity_are_reported_and_counted(caplog):
    records = synthetic_records(objects=6)
    with caplog.at_level(logging.INFO, logger="segjax"):
        batch = take(records, 1, max_objects=2, augment=())[0]
    assert (
        batch["num_dropped"] + 2 == [len(records[i]["boxes"]) for i in batch["record"]]
    ).all()
    logged = " ".join(r.getMessage() for r in caplog.records)
    assert (
        "3 of 3 training images have more than config.pipeline.max_objects=2" in logged
    )
    assert "48 x 64: 2, 64 x 48: 1" in logged


def test_a_cut_clips_objects_and_drops_those_of_which_little_is_left():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 10:20, 5:35] = True
    record = from_masks(
        np.zeros((40, 40, 3), np.uint8), mask, [1], name="bar", image_id=1
    )
    fractions = {"kept": [], "dropped": []}
    settings = {"augment": (("crop", {"fraction": (0.3, 0.6), "probability": 1.0}),)}
    for batch in take([record], 12, resize="keep", min_visibility=0.5, **settings):
        for boxes, classes in zip(batch["boxes"], batch["classes"], strict=True):
            top, left, bottom, right = boxes[0]
            fractions["kept" if classes[0] else "dropped"].append(
                (bottom - top) * (right - left) / 300
            )
    assert len(fractions["dropped"]) > 3
    assert len(fractions["kept"]) > 3
    assert 0.49 < min(fractions["kept"]) < 0.9


@pytest.mark.parametrize(
    ("resize", "size", "ratio"),
    [("fit", (48, 58), 40 / 48), ("shrink", (40, 48), 1.0), ("keep", (40, 48), 1.0)],
)
def test_images_meet_their_bucket_as_asked(resize, size, ratio):
    record = synthetic_records(sizes=((40, 48),))
    (batch,) = evaluation_batches(
        record, batch_size=1, buckets=((48, 64),), resize=resize
    )
    assert tuple(batch["sizes"][0]) == size
    assert batch["ratios"][0, 0] == pytest.approx(ratio)
    (trained,) = take(record, 1, augment=(), resize=resize, buckets=((48, 64),))
    assert (trained["sizes"] == size).all()
    np.testing.assert_array_equal(trained["image"][0], batch["image"][0])


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((480, 640), (800, 1088)),
        ((427, 640), (800, 1333)),  # 3:2, the commonest of COCO
        ((640, 480), (1088, 800)),
        ((640, 640), (800, 800)),
        ((360, 640), (800, 1333)),
    ],
)
def test_a_fitted_image_is_as_large_as_the_recipe_of_coco_has_it(size, bucket):
    buckets = ((800, 1088), (800, 1333), (1088, 800), (1333, 800), (800, 800))
    assert buckets[bucket_of(size, buckets, "fit")] == bucket
    factor = min(800 / min(size), 1333 / max(size))
    fitted = min(side / own for side, own in zip(bucket, size, strict=True))
    assert fitted == pytest.approx(factor)


def test_evaluation_sees_every_image_once():
    records = synthetic_records(sizes=((40, 48),) * 5 + ((52, 36),) * 2)
    found = list(
        evaluation_batches(records, batch_size=3, buckets=((48, 64), (64, 48)))
    )
    assert all(len(batch["image"]) == 3 for batch in found)
    seen = np.concatenate([b["record"][b["valid"]] for b in found])
    assert sorted(seen.tolist()) == list(range(7))
    assert sum(len(b["valid"]) for b in found) == 9


def test_parts_of_an_evaluation_are_its_batches_in_turn():
    records = synthetic_records(sizes=((52, 36),) + ((40, 48),) * 5 + ((52, 36),))
    sizes = {"buckets": ((48, 64), (64, 48))}
    whole = list(evaluation_batches(records, batch_size=2, **sizes))
    for i in range(3):
        part = evaluation_batches(records, batch_size=2, **sizes, part=(i, 3))
        assert_same(list(part), whole[i::3])
    seen = np.concatenate([b["record"][b["valid"]] for b in whole])
    assert evaluation_order(records, **sizes) == seen.tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"buckets": ()}, ValueError, "buckets must be different sizes"),
        ({"buckets": ((3, 4, 5),)}, ValueError, "pairs .height, width."),
        ({"resize": "stretch"}, ValueError, "resize must be one of fit, shrink, keep"),
        ({"max_objects": 0}, ValueError, "max_objects must be an integer above 0"),
        (
            {"min_visibility": 2},
            ValueError,
            "min_visibility must be from 0 to 1, got 2",
        ),
        (
            {"batch_size": 3, "process_count": 2},
            ValueError,
            "multiple of process_count",
        ),
        ({"augment": (("flop", {}),)}, UserError, 'Did you mean "flip"'),
        (
            {"augment": (("scale", {"scale": 2}),)},
            UserError,
            r"scale must be \(low, high",
        ),
        (
            {"keypoint_swap": (0, 1), "num_threads": 0},
            UserError,
            "3 keypoints, so it must",
        ),
    ],
)
def test_what_cannot_work_is_reported(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        take(synthetic_records(), 6, **arguments)
