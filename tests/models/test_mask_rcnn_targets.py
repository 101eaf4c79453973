"""What anchors and regions are trained to answer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from segjax.models.mask_rcnn.targets import (
    Regions,
    anchor_targets,
    keypoint_targets,
    mask_targets,
    matched,
    sample_regions,
)
from segjax.ops.regions.boxes import decode

KEY = jax.random.key(0)


def objects(boxes, classes, crowd=None):
    """A batch of one image, with one empty slot that lies on everything."""
    boxes = np.array([*boxes, [0, 0, 64, 64]], np.float32)
    classes = np.array([*classes, 0], np.int32)
    crowd = np.array([*(crowd or [False] * (len(classes) - 1)), True])
    return {
        "boxes": jnp.asarray(boxes)[None],
        "classes": jnp.asarray(classes)[None],
        "crowd": jnp.asarray(crowd)[None],
    }


def first(batch):
    return {name: x[0] for name, x in batch.items()}


def test_nothing_answers_for_empty_slots_or_crowds_and_background_in_crowds_is_left_out():
    batch = objects([[0, 0, 10, 10], [20, 20, 40, 40]], [1, 2], crowd=[False, True])
    candidates = jnp.array(
        [[0.0, 0, 10, 9], [20, 20, 40, 40], [22, 22, 30, 30], [50, 50, 60, 60]]
    )
    found = matched(candidates, first(batch), high=0.7, low=0.3, low_quality=True)
    assert found.tolist() == [0, -2, -2, -1]


def test_anchors_are_sampled_up_to_the_number_and_point_at_their_objects():
    batch = objects([[8, 8, 24, 24]], [1])
    grid = np.arange(0, 48, 4, dtype=np.float32)
    corners = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    anchors = jnp.asarray(np.concatenate([corners, corners + 16], 1))
    targets = jax.jit(
        functools.partial(
            anchor_targets, iou=(0.3, 0.7), count=20, positive_fraction=0.5
        )
    )(anchors, batch, KEY)
    positive, weights = (
        np.asarray(targets[f"rpn_{name}"][0]) for name in ("positive", "weights")
    )
    assert weights.sum() == 20
    assert positive.any()
    decoded = decode(targets["rpn_targets"][0], anchors)
    np.testing.assert_allclose(
        decoded[positive], np.tile([8, 8, 24, 24], (positive.sum(), 1)), atol=1e-4
    )


def sampled(proposals, batch, count=8, fraction=0.25):
    boxes = jnp.asarray(proposals, jnp.float32)[None]
    return jax.jit(
        functools.partial(
            sample_regions,
            iou=0.5,
            count=count,
            positive_fraction=fraction,
            weights=(10.0, 10.0, 5.0, 5.0),
        )
    )(boxes, jnp.ones(boxes.shape[:2], bool), batch, KEY)


def test_objects_stand_in_the_first_slots_then_background_then_nothing():
    batch = objects([[0, 0, 20, 20], [30, 30, 60, 60]], [2, 1])
    proposals = [[1, 1, 20, 20], [40, 0, 60, 10], [31, 31, 60, 60], [0, 40, 9, 60]]
    regions = sampled(proposals, batch)
    classes, weights = np.asarray(regions.classes[0]), np.asarray(regions.weights[0])
    # Two of eight may be objects; two are background; the rest of the slots is empty.
    assert (classes[:2] > 0).all()
    assert weights.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert not classes[2:].any()
    assert not np.asarray(regions.boxes[0][4:]).any()
    own = np.asarray(batch["boxes"][0])[np.asarray(regions.matched[0][:2])]
    deltas, boxes = regions.targets[0][:2], regions.boxes[0][:2]
    found = decode(deltas, boxes, weights=(10.0, 10.0, 5.0, 5.0))
    np.testing.assert_allclose(found, own, atol=1e-4)


def test_objects_are_their_own_regions_where_proposals_miss_them():
    batch = objects([[0, 0, 20, 20]], [2])
    regions = sampled([[40, 40, 50, 50]], batch)
    assert regions.boxes[0][0].tolist() == [0, 0, 20, 20]
    assert regions.classes[0][0] == 2


def regions_of(boxes, slots, classes):
    boxes = jnp.asarray(boxes, jnp.float32)[None]
    count = boxes.shape[1]
    return Regions(
        boxes=boxes,
        matched=jnp.asarray(slots, jnp.int32)[None],
        classes=jnp.asarray(classes, jnp.int32)[None],
        targets=jnp.zeros((1, count, 4)),
        weights=jnp.ones((1, count)),
    )


def test_masks_are_cropped_from_the_box_of_their_object_to_the_region():
    batch = objects([[10, 10, 26, 26]], [1])
    left_half = np.zeros((16, 16), np.uint8)
    left_half[:, :8] = 1
    masks = np.stack([left_half, np.ones((16, 16), np.uint8)])
    batch["masks"] = jnp.asarray(masks)[None]
    regions = regions_of([[10, 10, 26, 26], [10, 14, 26, 22]], [0, 0], [1, 1])
    found = mask_targets(regions, batch, size=4)
    assert found.shape == (1, 2, 4, 4)
    assert found[0, 0].tolist() == [[1, 1, 0, 0]] * 4
    # The region's middle is the edge of the mask.
    assert found[0, 1].tolist() == [[1, 1, 0, 0]] * 4
    beyond = regions_of([[10, 2, 26, 18]], [0], [1])
    assert mask_targets(beyond, batch, size=4)[0, 0].tolist() == [[0, 0, 1, 1]] * 4


def test_keypoints_count_where_they_are_seen_inside_an_object_s_region():
    batch = objects([[0, 0, 8, 8]], [1])
    points = np.array([[[1, 2, 2], [7, 7, 1], [3, 3, 0], [9, 1, 2]]], np.float32)
    batch["keypoints"] = jnp.asarray(np.concatenate([points, points]))[None]
    regions = regions_of([[0, 0, 8, 8], [0, 0, 8, 8]], [0, 0], [1, 0])
    cells, valid = keypoint_targets(regions, batch, size=8)
    assert valid[0].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert cells[0, 0, :2].tolist() == [1 * 8 + 2, 7 * 8 + 7]
