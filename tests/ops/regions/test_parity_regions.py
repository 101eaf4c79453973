"""Region operators beside torchvision's, live, on random boxes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.regions.alignment import pyramid_roi_align, roi_align
from segjax.ops.regions.anchors import pyramid_anchors
from segjax.ops.regions.boxes import clip, decode, encode, pairwise_iou
from segjax.ops.regions.keypoints import decode_keypoints, encode_keypoints
from segjax.ops.regions.masks import crop_and_resize_masks, paste_masks
from segjax.ops.regions.matching import match
from segjax.ops.regions.pooling import roi_pool
from segjax.ops.regions.suppression import class_nms, nms

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SWAP = [1, 0, 3, 2]
"""torchvision has x before y."""


@pytest.fixture(scope="module", name="ops")
def fixture_ops(torchvision):
    if not torchvision.extension._has_ops():
        pytest.skip("needs torchvision's compiled operators: a C compiler, or CUDA")
    return torchvision.ops


def random_boxes(rng, count, high, wide, beyond=0.0):
    """Boxes of all sizes; some reach out of the image by a fraction of it."""
    ends = rng.uniform(-beyond, 1 + beyond, (count, 2, 2)) * [high, wide]
    return np.concatenate([ends.min(1), ends.max(1)], 1).astype(np.float32)


def to_torch(x):
    return torch.from_numpy(np.array(x))


def theirs(boxes):
    return to_torch(np.asarray(boxes)[..., SWAP])


def test_overlaps_deltas_and_clipping_are_those_of_torchvision(ops):
    from torchvision.models.detection._utils import BoxCoder

    rng = np.random.default_rng(0)
    boxes, anchors = random_boxes(rng, 60, 90, 70, 0.2), random_boxes(rng, 60, 90, 70)
    found = jax.jit(pairwise_iou)(boxes, anchors)
    expected = ops.box_iou(theirs(boxes), theirs(anchors))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    weights = (10.0, 5.0, 2.0, 1.0)
    coder = BoxCoder((5.0, 10.0, 1.0, 2.0))
    deltas = jax.jit(functools.partial(encode, weights=weights))(boxes, anchors)
    expected = coder.encode_single(theirs(boxes), theirs(anchors)).numpy()[:, SWAP]
    np.testing.assert_allclose(deltas, expected, rtol=1e-4, atol=1e-4)
    deltas = rng.normal(size=(60, 4)).astype(np.float32) * 8
    found = jax.jit(functools.partial(decode, weights=weights))(deltas, anchors)
    expected = coder.decode_single(theirs(deltas), theirs(anchors))
    np.testing.assert_allclose(found, expected[:, SWAP], rtol=1e-5, atol=1e-4)
    expected = ops.clip_boxes_to_image(theirs(found), (90, 70))[:, SWAP]
    np.testing.assert_allclose(jax.jit(clip)(found, (90, 70)), expected)


@pytest.mark.parametrize("size", [(128, 160), (832, 800)])
def test_anchors_are_those_of_torchvision(ops, size):
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    sizes, ratios = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
    grids = [(-(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32, 64)]
    generator = AnchorGenerator(tuple((s,) for s in sizes), (ratios,) * 5)
    image = ImageList(torch.zeros(1, 3, *size), [size])
    expected = generator(image, [torch.zeros(1, 1, *grid) for grid in grids])[0]
    ours = jax.jit(lambda: jnp.concatenate(pyramid_anchors(grids, size, sizes, ratios)))
    found = ours()
    np.testing.assert_array_equal(found, expected.numpy()[:, SWAP])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression_keeps_the_boxes_that_torchvision_keeps(ops, threshold):
    keep = jax.jit(functools.partial(nms, iou_threshold=threshold))
    by_class = jax.jit(functools.partial(class_nms, iou_threshold=threshold))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        # Whole pixels make ties of overlaps with the threshold, and of scores.
        centers = rng.integers(0, 60, (400, 2))
        sides = rng.integers(0, 30, (400, 2))
        boxes = np.concatenate([centers, centers + sides], 1).astype(np.float32)
        scores = (rng.integers(0, 50, 400) / 50).astype(np.float32)
        classes = rng.integers(0, 5, 400)
        expected = ops.nms(theirs(boxes), to_torch(scores), threshold)
        found = np.flatnonzero(keep(boxes, scores))
        np.testing.assert_array_equal(found, np.sort(expected))
        expected = np.concatenate(
            [
                np.flatnonzero(classes == c)[
                    ops.nms(
                        theirs(boxes[classes == c]),
                        to_torch(scores[classes == c]),
                        threshold,
                    )
                ]
                for c in range(5)
            ]
        )
        found = np.flatnonzero(by_class(boxes, scores, classes))
        np.testing.assert_array_equal(found, np.sort(expected))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
def test_aligned_regions_are_those_of_torchvision(ops, aligned, sampling_ratio):
    rng = np.random.default_rng(sampling_ratio)
    features = rng.normal(size=(2, 13, 17, 3)).astype(np.float32)
    boxes = np.stack([random_boxes(rng, 30, 52, 68, 0.5) for _ in range(2)])
    boxes[0, :3] = [[0, 0, 0, 0], [-4, -4, -4, 72], [51.9, 67.9, 52, 68]]
    ours = functools.partial(
        roi_align,
        size=(3, 5),
        scale=0.25,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    reference = to_torch(np.moveaxis(features, -1, 1)).requires_grad_()
    expected = ops.roi_align(
        reference, [theirs(b) for b in boxes], (3, 5), 0.25, sampling_ratio, aligned
    )
    cotangent = rng.normal(size=(2, 30, 3, 5, 3)).astype(np.float32)
    expected.backward(to_torch(np.moveaxis(cotangent.reshape(60, 3, 5, 3), -1, 1)))

    @jax.jit
    def both(features, boxes, cotangent):
        value, pullback = jax.vjp(lambda x: ours(x, boxes), features)
        return value, pullback(cotangent)[0]

    value, gradient = both(features, boxes, cotangent)
    expected = np.moveaxis(expected.detach().numpy(), 1, -1).reshape(value.shape)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    expected = np.moveaxis(reference.grad.numpy(), 1, -1)
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


def test_pooled_regions_are_those_of_torchvision(ops):
    rng = np.random.default_rng(0)
    features = rng.integers(-3, 4, size=(2, 13, 17, 3)).astype(np.float32)
    boxes = np.stack([random_boxes(rng, 80, 52, 68, 0.5) for _ in range(2)])
    boxes[0, :2] = [[0, 0, 0, 0], [2, 6, 10, 14]]
    reference = to_torch(np.moveaxis(features, -1, 1)).requires_grad_()
    expected = ops.roi_pool(reference, [theirs(b) for b in boxes], (3, 5), 0.25)
    cotangent = rng.normal(size=(2, 80, 3, 5, 3)).astype(np.float32)
    expected.backward(to_torch(np.moveaxis(cotangent.reshape(160, 3, 5, 3), -1, 1)))

    @jax.jit
    def both(features, boxes, cotangent):
        pool = lambda x: roi_pool(x, boxes, size=(3, 5), scale=0.25)
        value, pullback = jax.vjp(pool, features)
        return value, pullback(cotangent)[0]

    value, gradient = both(features, boxes, cotangent)
    expected = np.moveaxis(expected.detach().numpy(), 1, -1).reshape(value.shape)
    np.testing.assert_array_equal(value, expected)
    expected = np.moveaxis(reference.grad.numpy(), 1, -1)
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


def test_regions_of_a_pyramid_are_those_of_torchvision(ops):
    rng = np.random.default_rng(0)
    strides = (4, 8, 16, 32)
    maps = [rng.normal(size=(2, 512 // s, 640 // s, 2)) for s in strides]
    maps = [x.astype(np.float32) for x in maps]
    boxes = np.stack([random_boxes(rng, 40, 512, 640) for _ in range(2)])
    boxes[0, 0] = [0, 0, 112, 112]
    boxes[1, 0] = [10, 20, 458, 468]
    pooler = ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    named = {str(i): to_torch(np.moveaxis(x, -1, 1)) for i, x in enumerate(maps)}
    expected = pooler(named, [theirs(b) for b in boxes], [(512, 640)] * 2)
    ours = functools.partial(pyramid_roi_align, size=7, strides=strides, aligned=False)
    found = jax.jit(ours)(maps, boxes)
    expected = np.moveaxis(expected.numpy(), 1, -1).reshape(found.shape)
    # Noise has slopes of one a cell, and a place in 160 cells is known to 1e-5.
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("aligned", [False, True])
def test_targets_of_masks_are_those_of_torchvision(ops, aligned):
    rng = np.random.default_rng(0)
    masks = (rng.random((40, 60, 80)) < 0.5).astype(np.float32)
    boxes = random_boxes(rng, 40, 60, 80, 0.3)
    expected = ops.roi_align(
        to_torch(masks)[:, None], list(theirs(boxes)[:, None]), 28, 1.0, -1, aligned
    )
    ours = functools.partial(crop_and_resize_masks, size=28, aligned=aligned)
    np.testing.assert_allclose(jax.jit(ours)(masks, boxes), expected[:, 0], atol=1e-5)


def test_pasted_masks_are_those_of_torchvision(torchvision):
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    rng = np.random.default_rng(0)
    masks = rng.random((40, 28, 28)).astype(np.float32)
    boxes = random_boxes(rng, 40, 100, 130, 0.1)
    expected = paste_masks_in_image(to_torch(masks)[:, None], theirs(boxes), (100, 130))
    found = paste_masks(masks, boxes, (100, 130), threshold=None)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-5)
    binary = paste_masks(masks, boxes, (100, 130))
    assert (binary != (expected[:, 0] >= 0.5).numpy()).mean() < 1e-5


def test_keypoints_are_those_of_torchvision(torchvision):
    from torchvision.models.detection import roi_heads

    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 30, 100, 130)
    points = rng.uniform(0, 1, (30, 17, 3)) * [100, 130, 3]
    points = points.astype(np.float32)
    points[..., 2] = np.floor(points[..., 2])
    points[:, 0, :2] = boxes[:, 2:]
    cells, valid = jax.jit(encode_keypoints)(points, boxes)
    expected, visible = roi_heads.keypoints_to_heatmap(
        to_torch(points[..., [1, 0, 2]]), theirs(boxes), 56
    )
    np.testing.assert_array_equal(valid, visible.bool())
    np.testing.assert_array_equal(cells, expected * visible)
    heatmaps = rng.normal(size=(30, 56, 56, 3)).astype(np.float32)
    expected, scores = roi_heads.heatmaps_to_keypoints(
        to_torch(np.moveaxis(heatmaps, -1, 1)), theirs(boxes)
    )
    found, ours = decode_keypoints(heatmaps, boxes)
    np.testing.assert_allclose(found, expected[..., [1, 0]], atol=1e-3)
    np.testing.assert_allclose(ours, scores, atol=1e-4)


@pytest.mark.parametrize("low_quality", [False, True])
def test_matches_are_those_of_torchvision(torchvision, low_quality):
    from torchvision.models.detection._utils import Matcher

    rng = np.random.default_rng(0)
    iou = (rng.integers(0, 21, (9, 200)) / 20).astype(np.float32)
    iou *= rng.random(iou.shape) < 0.1
    assert (iou.max(1) > 0).all()
    expected = Matcher(0.7, 0.3, low_quality)(to_torch(iou))
    matcher = functools.partial(match, high=0.7, low=0.3, low_quality=low_quality)
    found = jax.jit(matcher)(iou, valid=jnp.ones(9, bool))
    np.testing.assert_array_equal(found, expected)
    padded = np.concatenate([iou, np.zeros((5, 200), np.float32)])
    found = jax.jit(matcher)(padded, valid=jnp.arange(14) < 9)
    np.testing.assert_array_equal(found, expected)
