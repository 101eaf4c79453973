"""Masks and keypoints of regions: worked examples, and the samples one by one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.regions.keypoints import decode_keypoints, encode_keypoints
from segjax.ops.regions.masks import (
    boxes_from_masks,
    boxes_in_crops,
    crop_and_resize_masks,
    paste_masks,
)


def cropped_by_hand(mask, box, size, aligned):
    """Mean of bilinear samples, as many as a bin has pixels."""
    high, wide = mask.shape
    start, extent = box[:2].astype(float), (box[2:] - box[:2]).astype(float)
    start = start - 0.5 if aligned else start
    extent = extent if aligned else np.maximum(extent, 1)
    counts = np.maximum(np.ceil(extent / size), 0).astype(int)
    result = np.zeros((size, size))
    for i, j in np.ndindex(size, size):
        values = []
        for k in np.ndindex(*counts):
            y, x = start + ((i, j) + (np.array(k) + 0.5) / counts) * extent / size
            if not (-1 <= y <= high and -1 <= x <= wide):
                values.append(0)
                continue
            y, x = np.clip(y, 0, high - 1), np.clip(x, 0, wide - 1)
            rows = np.maximum(1 - abs(np.arange(high) - y), 0)
            columns = np.maximum(1 - abs(np.arange(wide) - x), 0)
            values.append(rows @ mask @ columns)
        result[i, j] = np.mean(values) if values else 0
    return result


@pytest.mark.parametrize("aligned", [False, True])
def test_a_cropped_mask_is_the_mean_of_its_samples(aligned):
    rng = np.random.default_rng(0)
    masks = (rng.random((6, 9, 12)) < 0.5).astype(np.float32)
    boxes = np.array(
        [
            [0, 0, 9, 12],
            [1.3, 2.2, 7.9, 5.1],
            [-4.2, -9.3, 20, 31],
            [3, 3, 3, 3],
            [5, 5, 2, 9],
            [8.5, 11, 30, 40],
        ],
        np.float32,
    )
    crop = partial(crop_and_resize_masks, size=4, aligned=aligned)
    found = jax.jit(crop)(masks, boxes)
    expected = [
        cropped_by_hand(m, b, 4, aligned) for m, b in zip(masks, boxes, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(crop(jnp.array(masks), boxes), found, atol=1e-6)
    mapped = jax.jit(jax.vmap(crop))(masks[:, None], boxes[:, None])
    np.testing.assert_allclose(mapped[:, 0], found, atol=1e-6)


def test_a_crop_of_a_crop_is_the_crop_of_the_image():
    """Objects are kept as masks of their box; regions ask for another box."""
    image = np.zeros((1, 60, 80), np.float32)
    image[0, 10:30, 20:60] = 1
    frame = np.array([[10, 20, 30, 60]], np.float32)
    region = np.array([[5, 30, 35, 70]], np.float32)
    crop = jax.jit(partial(crop_and_resize_masks, size=28))
    expected = crop(image, region)
    small = jax.jit(partial(crop_and_resize_masks, size=40))(image, frame)
    inside = jax.jit(partial(boxes_in_crops, size=40))(region, frame)
    closely = partial(crop_and_resize_masks, size=28, zero_padded=True)
    found = jax.jit(closely)(small, inside)
    assert np.abs(found - expected).mean() < 0.03
    assert ((found >= 0.5) == (expected >= 0.5)).mean() > 0.95


def test_the_gradient_is_linear_in_the_mask():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 5, 5)).astype(np.float32)
    boxes = np.array([[0, 0, 5, 4], [1, 1, 6, 7]], np.float32)
    total = lambda masks: crop_and_resize_masks(masks, boxes, size=3).sum()
    value, gradient = jax.jit(jax.value_and_grad(total))(masks)
    assert float((gradient * masks).sum()) == pytest.approx(float(value), rel=1e-5)
    assert (np.asarray(gradient) >= 0).all()


def test_crops_of_empty_slots_are_empty():
    found = boxes_in_crops(jnp.ones((2, 4)), jnp.zeros((2, 4)), size=28)
    assert not found.any()


def test_the_box_of_a_mask_is_the_smallest():
    masks = np.zeros((3, 7, 9))
    masks[0, 2:5, 1:9] = 0.3
    masks[1, 6, 0] = 1
    masks[1, 0, 4] = 1
    found = jax.jit(boxes_from_masks)(masks)
    assert found.tolist() == [[2, 1, 5, 9], [0, 0, 7, 5], [0, 0, 0, 0]]


def test_the_pasted_mask_of_the_worked_example():
    masks = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    found = paste_masks(masks, np.array([[2.0, 2, 6, 6]]), (8, 8), threshold=None)[0]
    row = [0, 0.101852, 0.373457, 0.577160, 0.305556, 0.033951, 0, 0]
    assert found[2].tolist() == pytest.approx(row, abs=1e-6)
    row = [0, 0.157407, 0.577160, 0.895062, 0.5, 0.104938, 0.033951, 0.009259]
    assert found[3].tolist() == pytest.approx(row, abs=1e-6)
    assert not found[0].any()


def test_a_mask_that_fills_its_box_is_pasted_over_it():
    boxes = np.array([[10.0, 20, 50, 70], [-30, -30, 30, 30], [200, 200, 300, 300]])
    found = paste_masks(np.ones((3, 28, 28)), boxes, (60, 80))
    expected = np.zeros((60, 80), bool)
    expected[10:50, 20:70] = True
    assert found.dtype == bool
    assert (found[0] != expected).sum() <= 2 * (40 + 50)
    assert found[1, :29, :29].all()
    assert not found[1, 32:].any()
    assert not found[2].any()
    assert paste_masks(np.ones((0, 28, 28)), np.ones((0, 4)), (6, 8)).shape == (0, 6, 8)


def test_keypoints_of_the_worked_example():
    """Section 18.16 of the facts, (x, y) there."""
    box = np.array([[20.0, 10.0, 27.3, 18.5]], np.float32)
    points = np.array(
        [[[24, 12, 2], [25, 18.5, 1], [24, 9, 2], [24, 12, 0]]], np.float32
    )
    cells, valid = jax.jit(encode_keypoints)(points, box)
    assert cells.tolist() == [[1693, 2183, 0, 0]]
    assert valid.tolist() == [[True, True, False, False]]
    heatmap = np.zeros((1, 4, 4, 1))
    heatmap[0, 1, 2] = 1
    points, scores = decode_keypoints(heatmap, box)
    assert points[0, 0].tolist() == pytest.approx([22.2812, 15.1944], abs=1e-4)
    assert float(scores[0, 0]) == pytest.approx(0.8730, abs=1e-4)


def test_no_keypoint_lies_in_a_box_of_no_area():
    points = jnp.ones((2, 3, 3))
    cells, valid = encode_keypoints(points, jnp.ones((2, 4)))
    assert not valid.any()
    assert not cells.any()


def test_keypoints_come_back_to_a_cell_of_where_they_were():
    rng = np.random.default_rng(0)
    boxes = np.array([[10, 20, 75, 60], [0, 0, 30, 112]], np.float32)
    fraction = rng.uniform(0.1, 0.9, (2, 5, 2))
    points = boxes[:, None, :2] + fraction * (boxes[:, 2:] - boxes[:, :2])[:, None]
    points = np.concatenate([points, np.ones((2, 5, 1))], -1).astype(np.float32)
    cells, valid = jax.jit(partial(encode_keypoints, size=28))(points, boxes)
    assert valid.all()
    heatmaps = np.moveaxis(np.eye(28 * 28)[np.asarray(cells)], 1, -1)
    found, _ = decode_keypoints(heatmaps.reshape(2, 28, 28, 5), boxes)
    cell = ((boxes[:, 2:] - boxes[:, :2]) / 28)[:, None]
    assert (np.abs(found - points[..., :2]) <= cell + 0.5).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: crop_and_resize_masks(
                jnp.ones((2, 5, 5)), jnp.ones((3, 4)), size=2
            ),
            r"masks is \(2, 5, 5\) and boxes \(3, 4\)",
        ),
        (
            lambda: boxes_in_crops(jnp.ones((2, 4)), jnp.ones((1, 4)), size=2),
            r"boxes is \(2, 4\) and crops \(1, 4\)",
        ),
        (lambda: boxes_from_masks(jnp.ones((5, 5))), r"masks is \(5, 5\)"),
        (
            lambda: paste_masks(np.ones((1, 2, 2)), np.ones((2, 4)), (8, 8)),
            r"masks is \(1, 2, 2\) and boxes \(2, 4\)",
        ),
        (
            lambda: encode_keypoints(jnp.ones((2, 3, 2)), jnp.ones((2, 4))),
            r"keypoints is \(2, 3, 2\)",
        ),
        (
            lambda: encode_keypoints(jnp.ones((2, 3, 3)), jnp.ones((2, 4)), size=0),
            "size is 0; allowed are numbers of at least 1",
        ),
        (
            lambda: decode_keypoints(np.ones((2, 4, 4)), np.ones((2, 4))),
            r"heatmaps is \(2, 4, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
