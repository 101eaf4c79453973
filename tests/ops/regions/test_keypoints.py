"""Keypoints as cells and back; torchvision's own answers are in the parity tests."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.regions.keypoints import (
    decode_keypoints,
    encode_keypoints,
    locate_keypoints,
)

BOXES = np.array(
    [
        [3, 4, 50, 41.5],
        [0, 0, 10, 5],
        [10.2, 7.7, 110.3, 71.9],
        [0, 0, 0, 0],  # an empty slot
        [5, 5, 6, 100],
        [0, 0, 33, 32],
    ],
    np.float32,
)


def random_array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_places_found_on_the_device_are_those_found_on_the_host() -> None:
    heatmaps = random_array(len(BOXES), 14, 14, 5)
    found = np.asarray(jax.jit(locate_keypoints)(heatmaps, BOXES))
    points, scores = decode_keypoints(heatmaps, BOXES)
    np.testing.assert_allclose(found[..., :2], points, atol=1e-4)
    np.testing.assert_allclose(found[..., 2], scores, atol=1e-5)


def test_of_equal_places_the_first_counts() -> None:
    heatmap = np.zeros((1, 4, 4, 1), np.float32)
    box = np.array([[0, 0, 70, 70]], np.float32)
    found = np.asarray(locate_keypoints(jnp.asarray(heatmap), jnp.asarray(box)))
    assert found[0, 0].tolist() == [0.5, 0.5, 0]
    assert decode_keypoints(heatmap, box)[0].tolist() == [[[0.5, 0.5]]]


def test_a_place_survives_its_cell_to_half_a_cell() -> None:
    box = np.array([[8, 4, 64, 116]], np.float32)
    points = np.array([[[20.3, 30.9, 2], [63.9, 4.0, 1], [64, 116, 2]]], np.float32)
    cells, valid = encode_keypoints(jnp.asarray(points), jnp.asarray(box), size=28)
    assert np.asarray(valid).all()
    heatmap = np.zeros((1, 28 * 28, 3), np.float32)
    heatmap[0, np.asarray(cells)[0], np.arange(3)] = 10
    found, _ = decode_keypoints(heatmap.reshape(1, 28, 28, 3), box)
    cell = (box[0, 2:] - box[0, :2]) / 28
    assert (np.abs(found - points[..., :2]) <= cell / 2 + 1).all()


def test_points_that_are_not_labelled_or_outside_are_not_valid() -> None:
    points = jnp.array([[[5.0, 5.0, 0.0], [5.0, 11.0, 2.0], [5.0, 5.0, 1.0]]])
    _, valid = encode_keypoints(points, jnp.array([[0.0, 0.0, 10.0, 10.0]]))
    assert valid.tolist() == [[False, False, True]]


@pytest.mark.parametrize("find", [decode_keypoints, locate_keypoints])
def test_maps_and_boxes_belong_together(find) -> None:
    with pytest.raises(ValueError, match=r"heatmaps is \(2, 4, 4, 1\) and boxes"):
        find(np.zeros((2, 4, 4, 1), np.float32), np.zeros((3, 4), np.float32))
