"""How alike objects are: overlap of boxes, masks and outlines, and closeness of keypoints.

Each function gives a matrix `[D, G]` in [0, 1] of D detections and G objects of the truth.
Where an object is a crowd, a region of many that are not told apart, the overlap is the
fraction of the detection that lies in it, as COCO has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segjax.rle import Rle, boxes_of, decode, encode, intersections

BOUNDARY_FRACTION = 0.02
"""Width of a mask's boundary as a fraction of the image's diagonal."""


def box_overlap(boxes: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes.

    Args:
      boxes: detections `[D, 4]`, `(y0, x0, y1, x1)`.
      truth: `[G, 4]`.
      crowd: bool `[G]`.

    Returns:
      float64 `[D, G]`, 0 where a box has no area.

    Example:
      >>> box = np.array([[0.0, 0.0, 2.0, 2.0]])
      >>> box_overlap(box, np.array([[0.0, 0.0, 2.0, 4.0]]), np.array([False])).tolist()
      [[0.5]]
    """
    boxes, truth = (np.asarray(x, np.float64).reshape(-1, 4) for x in (boxes, truth))
    low = np.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    own, other = ((x[:, 2:] - x[:, :2]).prod(-1) for x in (boxes, truth))
    return _over_union(shared, own, other, crowd)


def mask_overlap(
    masks: Sequence[Rle], truth: Sequence[Rle], crowd: np.ndarray
) -> np.ndarray:
    """Intersection over union of masks, as `box_overlap`."""
    own, other = (np.array([r.area for r in x], np.float64) for x in (masks, truth))
    return _over_union(intersections(masks, truth), own, other, crowd)


def boundary_overlap(
    masks: Sequence[Rle], truth: Sequence[Rle], crowd: np.ndarray
) -> np.ndarray:
    """The smaller one of mask IoU and boundary IoU.

    Boundary IoU compares the pixels of each mask within 0.02 image diagonals of its
    outline, so it sees errors that large objects hide in their area (Cheng, Girshick,
    Dollar, Berg, Kirillov 2021, arXiv 2103.16562, sections 4 and 5).

    Args:
      masks: of detections, D.
      truth: masks of the truth, G.
      crowd: bool `[G]`.

    Returns:
      float64 `[D, G]`.
    """
    mine, theirs = ([boundary(rle) for rle in rles] for rles in (masks, truth))
    whole = mask_overlap(masks, truth, crowd)
    return np.minimum(whole, mask_overlap(mine, theirs, crowd))


def boundary(rle: Rle, fraction: float = BOUNDARY_FRACTION) -> Rle:
    """The pixels of a mask that are near what is not in it.

    Args:
      rle: the mask; beyond the image nothing is in it.
      fraction: width of the boundary as a fraction of the image's diagonal, at least a pixel.

    Returns:
      The mask of these pixels: those with a pixel outside of the mask in the square of
      `2 * width + 1` pixels around them.
    """
    width = boundary_width(rle.size, fraction)
    top, left, bottom, right = boxes_of([rle])[0].astype(int)
    window = np.pad(decode(rle)[top:bottom, left:right], 1)
    if not window.any():
        return rle
    distance = ndimage.distance_transform_cdt(window, metric="chessboard")
    edge = window & (distance <= width)
    whole = np.zeros(rle.size, bool)
    whole[top:bottom, left:right] = edge[1:-1, 1:-1]
    return encode(whole)


def boundary_width(size: Sequence[int], fraction: float = BOUNDARY_FRACTION) -> int:
    """Width in pixels of the boundary in images of a size, `(height, width)`.

    Example:
      >>> boundary_width((300, 400)), boundary_width((3, 4))
      (10, 1)
    """
    return max(round(fraction * math.hypot(*size)), 1)


def keypoint_similarity(
    keypoints: np.ndarray,
    truth: np.ndarray,
    boxes: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float],
) -> np.ndarray:
    """Object keypoint similarity (OKS) of COCO.

    The mean over the labelled points of `exp(-d^2 / (8 sigma^2 area))`. Where none is
    labelled, d is the distance to the box, doubled about its centre on each side.

    Args:
      keypoints: of detections `[D, P, 2 or 3]`, `(y, x, ...)`.
      truth: `[G, P, 3]`, `(y, x, visibility)`; 0 is not labelled.
      boxes: of the truth `[G, 4]`.
      areas: of the truth `[G]`, pixels.
      sigmas: spread of each point as a fraction of the root of the area.

    Returns:
      float64 `[D, G]` in [0, 1].
    """
    keypoints, truth = (np.asarray(x, np.float64) for x in (keypoints, truth))
    boxes, areas = (np.asarray(x, np.float64) for x in (boxes, areas))
    at, goal = keypoints[:, None, :, :2], truth[None, :, :, :2]
    labelled = truth[..., 2] > 0
    known = np.any(labelled, axis=-1, keepdims=True)
    counted = labelled | ~known
    side = boxes[:, 2:] - boxes[:, :2]
    low, high = boxes[:, :2] - side, boxes[:, :2] + 2 * side
    beyond = np.maximum(low[:, None] - at, 0) + np.maximum(at - high[:, None], 0)
    away = np.where(known[:, None], at - goal, beyond)
    spread = 2 * (2 * np.asarray(sigmas, np.float64)) ** 2
    scale = (areas + np.spacing(1))[:, None] * spread
    near = np.exp(-(away**2).sum(-1) / scale) * counted
    return near.sum(-1) / np.maximum(counted.sum(-1), 1)


def _over_union(
    shared: np.ndarray, own: np.ndarray, other: np.ndarray, crowd: np.ndarray
) -> np.ndarray:
    union = np.where(crowd, own[:, None], own[:, None] + other - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
