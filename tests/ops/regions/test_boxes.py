"""Boxes and anchors: worked examples, padding, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.regions.anchors import base_anchors, grid_anchors, pyramid_anchors
from segjax.ops.regions.boxes import (
    area,
    clip,
    decode,
    encode,
    is_large,
    pairwise_intersection_over,
    pairwise_iou,
)

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count, seed=0, high=60, wide=80):
    rng = np.random.default_rng(seed)
    ends = rng.uniform(size=(count, 2, 2)) * [high, wide]
    return np.concatenate([ends.min(1), ends.max(1)], 1).astype(np.float32)


def counted_iou(a, b):
    """Of boxes at whole pixels, by counting pixels."""
    canvas = np.zeros((2, 100, 100), bool)
    for one, (y0, x0, y1, x1) in zip(canvas, (a, b), strict=True):
        one[int(y0) : int(y1), int(x0) : int(x1)] = True
    union = (canvas[0] | canvas[1]).sum()
    return (canvas[0] & canvas[1]).sum() / union if union else 0.0


def test_overlap_is_that_of_counted_pixels_under_jit_and_vmap():
    boxes, others = np.round(random_boxes(24)), np.round(random_boxes(10, seed=1))
    expected = [[counted_iou(a, b) for b in others] for a in boxes]
    found = jax.jit(pairwise_iou)(boxes, others)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(pairwise_iou(boxes, others), found)
    batch = boxes.reshape(2, 12, 4), others.reshape(2, 5, 4)
    mapped = jax.jit(jax.vmap(pairwise_iou))(*batch)
    np.testing.assert_array_equal(jax.jit(pairwise_iou)(*batch), mapped)
    np.testing.assert_allclose(mapped[1], np.array(expected)[12:, 5:], atol=1e-6)


@pytest.mark.parametrize(
    ("other", "expected"),
    [((5, 5, 15, 15), 1 / 7), ((1, 1, 11, 11), 0.680672), ((0, 0, 5, 10), 0.5)],
)
def test_overlap_of_the_worked_examples(other, expected):
    box = jnp.array([[0.0, 0.0, 10.0, 10.0]])
    found = pairwise_iou(box, jnp.array([other], jnp.float32))
    assert float(found[0, 0]) == pytest.approx(expected, abs=1e-6)


def test_the_fraction_in_a_crowd_is_of_the_box_itself():
    boxes = jnp.array([[0.0, 0, 10, 10], [5, 5, 5, 9], [0, 0, 40, 40]])
    crowd = jnp.array([[5.0, 0.0, 40.0, 40.0]])
    found = pairwise_intersection_over(boxes, crowd)[:, 0]
    assert found.tolist() == pytest.approx([0.5, 0, 35 / 40])


def test_padding_overlaps_nothing_and_has_finite_gradients():
    boxes = jnp.array([[0.0, 0, 0, 0], [3, 3, 1, 1], [2, 2, 8, 9]])

    def total(boxes, others):
        deltas = encode(boxes, others, weights=WEIGHTS)
        return pairwise_iou(boxes, others).sum() + deltas.sum()

    value, gradients = jax.jit(jax.value_and_grad(total, (0, 1)))(boxes, boxes)
    assert float(value) == 1
    assert all(np.isfinite(g).all() for g in gradients)
    assert not any(g[:2].any() for g in map(np.asarray, gradients))
    assert np.asarray(gradients[0])[2].any()
    assert area(boxes).tolist() == [0, 0, 42]


def test_deltas_of_the_worked_example():
    """Section 18.18 of the facts: torchvision's (x, y) order, here turned to (y, x)."""
    anchor, box = jnp.array([20.0, 10, 100, 50]), jnp.array([30.0, 20, 90, 60])
    found = encode(box, anchor, weights=WEIGHTS)
    assert found.tolist() == pytest.approx([0, 2.5, -1.438410, 0], abs=1e-5)


def test_decoding_undoes_encoding():
    boxes, anchors = random_boxes(50), random_boxes(50, seed=1)
    boxes[:, 2:] += 1
    anchors[:, 2:] += 1

    @jax.jit
    def there_and_back(boxes, anchors):
        return decode(encode(boxes, anchors, weights=WEIGHTS), anchors, weights=WEIGHTS)

    np.testing.assert_allclose(there_and_back(boxes, anchors), boxes, atol=2e-4)


def test_a_wild_answer_grows_a_box_62_times_at_most():
    anchor = jnp.array([0.0, 0.0, 16.0, 16.0])
    wild = jnp.array([0.0, 0.0, 1e4, 500.0])
    found = decode(wild, anchor, weights=WEIGHTS)
    assert found.tolist() == pytest.approx([-492, -492, 508, 508], rel=1e-5)
    gradient = jax.grad(lambda d: decode(d, anchor).sum())(wild)
    assert np.isfinite(gradient).all()


def test_anchors_are_shared_by_all_images():
    deltas, anchors = random_boxes(6).reshape(2, 3, 4) / 100, random_boxes(3, seed=1)
    found = decode(deltas, anchors)
    for one, image in zip(found, deltas, strict=True):
        np.testing.assert_allclose(one, decode(image, anchors), rtol=1e-6)


def test_every_image_is_clipped_to_its_own_size():
    boxes = jnp.tile(jnp.array([[-5.0, -5.0, 500.0, 500.0]]), (2, 3, 1))
    found = jax.jit(clip)(boxes, jnp.array([[30, 40], [50, 60]]))
    assert found[:, 1].tolist() == [[0, 0, 30, 40], [0, 0, 50, 60]]
    assert clip(boxes, (7, 8))[1, 2].tolist() == [0, 0, 7, 8]


def test_both_sides_must_be_large():
    boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [0, 0, 3.9, 4], [4, 4, 0, 0]])
    assert is_large(boxes, 4).tolist() == [True, False, False, False]


def test_base_anchors_are_those_of_the_table():
    found = base_anchors(32, (0.5, 1.0, 2.0))
    rows = [[-11, -23, 11, 23], [-16, -16, 16, 16], [-23, -11, 23, 11]]
    assert found.tolist() == rows
    plain = base_anchors(32, (0.5,), rounded=False)
    np.testing.assert_allclose(
        plain, [[-11.3137, -22.6274, 11.3137, 22.6274]], atol=1e-4
    )
    # For each ratio all sizes: as torchvision orders several sizes of one level.
    assert base_anchors((8, 16), (1.0,))[:, 2].tolist() == [4, 8]


def test_anchors_run_over_columns_first():
    base = base_anchors(32, (0.5, 1.0, 2.0))
    found = np.asarray(grid_anchors((2, 3), (4, 8), base)).reshape(2, 3, 3, 4)
    np.testing.assert_array_equal(found[0, 0], base)
    np.testing.assert_array_equal(found[1, 2], np.add(base, [[4, 16, 4, 16]]))


def test_the_stride_of_p6_of_800_pixels_is_61():
    sides = (200, 100, 50, 25, 13)
    grids = [(side, side) for side in sides]
    sizes, ratios = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
    levels = jax.jit(lambda: pyramid_anchors(grids, (800, 800), sizes, ratios))()
    assert sum(len(level) for level in levels) == 159_882
    assert np.diff(levels[-1][::3, 1])[0] == 61


BOX = jnp.zeros((3, 4))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: area(jnp.zeros((4, 3))), r"boxes is \(4, 3\); allowed is \[..., 4\]"),
        (lambda: pairwise_iou(BOX, BOX[0]), r"others \(4,\); allowed are"),
        (lambda: encode(BOX, BOX[:2]), r"boxes is \(3, 4\) and anchors \(2, 4\)"),
        (lambda: decode(BOX, BOX, weights=(1, 1, 0, 1)), "weights is .*four positive"),
        (lambda: clip(BOX, jnp.zeros((3, 2))), r"size is \(3, 2\) for boxes \(3, 4\)"),
        (lambda: base_anchors(0, (1,)), r"size is 0 and ratios \(1,\)"),
        (lambda: base_anchors(8, ()), "at least one of each"),
        (lambda: grid_anchors((0, 3), (4, 4), BOX), r"grid is \(0, 3\)"),
        (lambda: grid_anchors((3, 3), (4, 4), BOX[0]), r"base is \(4,\)"),
        (
            lambda: pyramid_anchors([(2, 2)], (32, 32), (8, 16), (1,)),
            "sizes has 2 entries for 1 maps",
        ),
    ],
)
def test_what_is_no_box_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
