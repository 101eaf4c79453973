"""Non-maximum suppression against the greedy list that defines it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.regions.suppression import (
    _below,
    _keep_by_blocks,
    _keep_by_rows,
    class_nms,
    nms,
)

COUNT = 150


def random_case(seed=0, count=COUNT):
    """Boxes at whole pixels, so that overlaps tie with thresholds, and scores too."""
    rng = np.random.default_rng(seed)
    start, sides = rng.integers(0, 40, (count, 2)), rng.integers(0, 25, (count, 2))
    boxes = np.concatenate([start, start + sides], 1).astype(np.float32)
    scores = (rng.integers(0, 40, count) / 40).astype(np.float32)
    return boxes, scores, rng.integers(0, 3, count), rng.random(count) < 0.8


def overlap(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(sides[0], 0) * max(sides[1], 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(np.float32(shared) / np.float32(union)) if union else 0.0


def greedy(boxes, scores, classes, threshold, valid):
    """The textbook's list: take the best, drop what overlaps it, and again."""
    left = [i for i in np.argsort(-scores, kind="stable") if valid[i]]
    kept = np.zeros(len(boxes), bool)
    while left:
        best, *left = left
        kept[best] = True
        left = [
            i
            for i in left
            if classes[i] != classes[best]
            or overlap(boxes[i], boxes[best]) <= threshold
        ]
    return kept


plain = jax.jit(nms, static_argnames="iou_threshold")
by_class = jax.jit(class_nms, static_argnames="iou_threshold")


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5])
def test_the_boxes_of_the_greedy_list_are_kept(threshold):
    boxes, scores, classes, valid = random_case()
    found = plain(boxes, scores, iou_threshold=threshold, valid=valid)
    expected = greedy(boxes, scores, 0 * classes, threshold, valid)
    np.testing.assert_array_equal(found, expected)
    found = by_class(boxes, scores, classes, iou_threshold=threshold, valid=valid)
    expected = greedy(boxes, scores, classes, threshold, valid)
    np.testing.assert_array_equal(found, expected)
    assert 5 < expected.sum() < 120


def test_eager_jitted_and_mapped_are_one():
    boxes, scores, classes, valid = (
        np.stack(x) for x in zip(random_case(1), random_case(2), strict=True)
    )
    one = partial(class_nms, iou_threshold=0.4)
    mapped = jax.jit(jax.vmap(lambda b, s, c, v: one(b, s, c, valid=v)))
    found = mapped(boxes, scores, classes, valid)
    for i in range(2):
        arguments = boxes[i], scores[i], classes[i]
        jitted = by_class(*arguments, iou_threshold=0.4, valid=valid[i])
        np.testing.assert_array_equal(found[i], jitted)
    eager = one(*map(jnp.asarray, arguments), valid=jnp.asarray(valid[1]))
    np.testing.assert_array_equal(eager, jitted)


@pytest.mark.parametrize("block", [1, 32, 150, 512])
def test_the_form_of_accelerators_keeps_the_same(block):
    boxes, scores, classes, valid = random_case(3)
    order = np.argsort(-scores, kind="stable")
    arguments = [jnp.asarray(x[order]) for x in (boxes, classes, valid)]
    rows = jax.jit(partial(_keep_by_rows, threshold=_below(0.3)))
    blocks = jax.jit(partial(_keep_by_blocks, threshold=_below(0.3), block=block))
    np.testing.assert_array_equal(blocks(*arguments), rows(*arguments))


def test_an_overlap_of_the_threshold_itself_suppresses_nothing():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 3], [0, 0, 10, 5]], np.float32)
    scores = np.array([3.0, 2.0, 1.0], np.float32)
    assert plain(boxes[[0, 2]], scores[[0, 2]], iou_threshold=0.5).all()
    # 0.3 as float32 lies above 0.3, and an IoU of 3 / 10 is that float32.
    found = plain(boxes[:2], scores[:2], iou_threshold=0.3)
    assert found.tolist() == [True, False]
    found = plain(boxes[:2], scores[:2], iou_threshold=0.3000001)
    assert found.tolist() == [True, True]


def test_what_is_not_valid_is_not_kept_and_suppresses_nothing():
    boxes = np.zeros((3, 4), np.float32) + np.array([0, 0, 9, 9], np.float32)
    scores = np.array([9.0, 5.0, 7.0], np.float32)
    valid = np.array([False, True, True])
    found = plain(boxes, scores, iou_threshold=0.5, valid=valid)
    assert found.tolist() == [False, False, True]
    assert not plain(boxes, scores, iou_threshold=0.5, valid=valid & False).any()


def test_memory_grows_with_the_number_of_boxes_alone():
    shapes = [
        (
            jax.ShapeDtypeStruct((n, 4), np.float32),
            jax.ShapeDtypeStruct((n,), np.float32),
        )
        for n in (1000, 4000)
    ]
    small, large = (
        plain.lower(*s, iou_threshold=0.5).compile().memory_analysis() for s in shapes
    )
    assert large.temp_size_in_bytes < 6 * small.temp_size_in_bytes
    assert large.temp_size_in_bytes < 2**20


def test_there_is_no_gradient():
    boxes, scores, _, _ = random_case(count=20)

    def kept_scores(boxes, scores):
        return jnp.where(nms(boxes, scores, iou_threshold=0.3), scores, 0).sum()

    by_boxes, by_scores = jax.jit(jax.grad(kept_scores, (0, 1)))(boxes, scores)
    kept = plain(boxes, scores, iou_threshold=0.3)
    assert not by_boxes.any()
    np.testing.assert_array_equal(by_scores, kept.astype(np.float32))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"boxes": jnp.zeros((3, 2, 4))}, r"boxes is \(3, 2, 4\); allowed is \[N, 4\]"),
        ({"scores": jnp.zeros(2)}, r"scores is \(2,\); allowed is \[N\], 3 here"),
        ({"valid": jnp.ones(4, bool)}, r"valid is \(4,\)"),
        ({"classes": jnp.ones(1, int)}, r"classes is \(1,\)"),
        ({"iou_threshold": 1.5}, r"iou_threshold is 1.5; allowed is \[0, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(changed, sentence):
    arguments = {
        "boxes": jnp.zeros((3, 4)),
        "scores": jnp.zeros(3),
        "classes": jnp.zeros(3, int),
        "iou_threshold": 0.5,
    }
    with pytest.raises(ValueError, match=sentence):
        class_nms(**(arguments | changed))
