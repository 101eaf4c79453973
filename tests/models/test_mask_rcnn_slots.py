"""Proposals and detections beside a plain loop over boxes, which knows no slots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.mask_rcnn.detections import detect
from segjax.models.mask_rcnn.rpn import propose
from segjax.ops.regions.boxes import clip, decode

SIZES = np.array([[60, 50]], np.int32)


def overlap(a, b):
    start, end = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.maximum(end - start, 0))
    areas = [np.prod(x[2:] - x[:2]) for x in (a, b)]
    return shared / (sum(areas) - shared)


def suppressed(boxes, scores, threshold):
    """Places of the boxes that stay, best first."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if all(overlap(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


def random_boxes(rng, count):
    corners = rng.uniform(0, 40, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 25, (count, 2))], 1)


def test_proposals_are_the_best_of_all_levels_without_duplicates_within_one():
    rng = np.random.default_rng(0)
    anchors = [random_boxes(rng, n).astype(np.float32) for n in (30, 12)]
    logits = [rng.normal(size=(1, len(a))).astype(np.float32) for a in anchors]
    deltas = [rng.normal(0, 0.1, (1, len(a), 4)).astype(np.float32) for a in anchors]
    run = functools.partial(propose, candidates=20, count=15, iou_threshold=0.5)
    found = jax.jit(run)(logits, deltas, anchors, SIZES)
    rows = []
    for scores, shifts, boxes in zip(logits, deltas, anchors, strict=True):
        best = np.argsort(-scores[0], kind="stable")[:20]
        placed = np.asarray(clip(decode(shifts[0][best], boxes[best]), SIZES[0]))
        for i in suppressed(placed, scores[0][best], 0.5):
            rows.append((scores[0][best][i], placed[i]))
    rows.sort(key=lambda row: -row[0])
    count = min(15, len(rows))
    assert count > 8
    assert found.valid[0].tolist() == [True] * count + [False] * (15 - count)
    expected = np.array([row[1] for row in rows[:15]])
    np.testing.assert_allclose(found.boxes[0][:count], expected, atol=1e-4)
    np.testing.assert_allclose(found.logits[0][:count], [r[0] for r in rows[:15]])


def test_proposals_outside_of_the_image_do_not_take_part():
    anchors = [jnp.array([[70.0, 70, 90, 90], [5, 5, 25, 25]])]
    logits, deltas = [jnp.array([[9.0, 1.0]])], [jnp.zeros((1, 2, 4))]
    found = propose(
        logits, deltas, anchors, SIZES, candidates=2, count=2, iou_threshold=0.7
    )
    assert found.valid.tolist() == [[True, False]]
    assert found.boxes[0].tolist() == [[5, 5, 25, 25], [0, 0, 0, 0]]


@pytest.mark.parametrize("candidates", [200, 12], ids=["enough", "few"])
def test_detections_are_those_of_a_loop_over_classes(candidates):
    rng = np.random.default_rng(1)
    regions, classes = 25, 4
    logits = rng.normal(0, 2, (1, regions, classes)).astype(np.float32)
    deltas = rng.normal(0, 0.5, (1, regions, classes, 4)).astype(np.float32)
    proposals = random_boxes(rng, regions).astype(np.float32)[None]
    valid = np.arange(regions)[None] < 20
    run = functools.partial(
        detect,
        weights=(10.0, 10.0, 5.0, 5.0),
        score_threshold=0.05,
        iou_threshold=0.4,
        candidates=candidates,
        count=30,
    )
    found = jax.jit(run)(logits, deltas, proposals, valid, SIZES)
    scores = np.array(jax.nn.softmax(logits[0]))
    scores[20:] = 0
    pairs = [(scores[r, k], r, k) for r in range(20) for k in range(1, classes)]
    pairs = sorted((p for p in pairs if p[0] > 0.05), key=lambda p: -p[0])
    rows = []
    for k in range(1, classes):
        own = [p for p in pairs[:candidates] if p[2] == k]
        places = np.array([p[1] for p in own])
        boxes = decode(
            deltas[0, places, k], proposals[0, places], weights=(10.0, 10.0, 5.0, 5.0)
        )
        boxes = np.asarray(clip(boxes, SIZES[0]))
        for i in suppressed(boxes, np.array([p[0] for p in own]), 0.4):
            rows.append((own[i][0], k, boxes[i]))
    rows.sort(key=lambda row: -row[0])
    count = min(len(rows), 30)
    assert int(found.valid.sum()) == count
    assert found.classes[0][:count].tolist() == [row[1] for row in rows[:30]]
    np.testing.assert_allclose(
        found.boxes[0][:count], [row[2] for row in rows[:30]], atol=1e-4
    )
    assert not np.asarray(found.boxes[0][count:]).any()
