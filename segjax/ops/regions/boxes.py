"""Boxes: area, overlap, encoding and decoding.

A box is `(y0, x0, y1, x1)` in pixels, float32, end exclusive: its height is `y1 - y0`,
without the + 1 of older code. A box whose end is not behind its start has no area and
overlaps nothing, so that padding of zeros is harmless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from segjax.types import Array

Weights = tuple[float, float, float, float]

LARGEST_GROWTH = math.log(1000 / 16)
"""Most that `decode` believes of the logarithm of a ratio of sides: 62.5 times."""


def check_boxes(boxes: Array, name: str = "boxes") -> None:
    """Refuses what is not `[..., 4]`."""
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ValueError(f"{name} is {boxes.shape}; allowed is [..., 4]")


def area(boxes: Array) -> Array:
    """Area of each box, 0 where its end is not behind its start.

    Args:
      boxes: `[..., 4]`.

    Returns:
      `[...]`, square pixels.

    Raises:
      ValueError: if `boxes` is of another shape.

    Example:
      >>> area(jnp.array([[0.0, 0.0, 2.0, 3.0], [5.0, 5.0, 4.0, 9.0]])).tolist()
      [6.0, 0.0]
    """
    check_boxes(boxes)
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def pairwise_intersection(boxes: Array, others: Array) -> Array:
    """Area that each box shares with each of the others.

    Args:
      boxes: `[..., N, 4]`.
      others: `[..., M, 4]`, of the same leading axes.

    Returns:
      `[..., N, M]`, square pixels.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> box = jnp.array([[0.0, 0.0, 10.0, 10.0]])
      >>> pairwise_intersection(box, box + 5).tolist()
      [[25.0]]
    """
    check_boxes(boxes)
    check_boxes(others, "others")
    if boxes.ndim < 2 or boxes.ndim != others.ndim:
        raise ValueError(
            f"boxes is {boxes.shape} and others {others.shape}; allowed are "
            "[..., N, 4] and [..., M, 4] of as many axes"
        )
    a, b = boxes[..., :, None, :], others[..., None, :, :]
    start = jnp.maximum(a[..., :2], b[..., :2])
    sides = jnp.maximum(jnp.minimum(a[..., 2:], b[..., 2:]) - start, 0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(boxes: Array, others: Array) -> Array:
    """Intersection over union of each box with each of the others.

    Args:
      boxes: `[..., N, 4]`.
      others: `[..., M, 4]`, of the same leading axes.

    Returns:
      `[..., N, M]` in [0, 1]; 0 where a box has no area. Its gradient is finite there.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> box = jnp.array([[0.0, 0.0, 10.0, 10.0]])
      >>> others = jnp.array([[0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
      >>> pairwise_iou(box, others).tolist()
      [[0.5, 0.0]]
    """
    shared = pairwise_intersection(boxes, others)
    union = area(boxes)[..., :, None] + area(others)[..., None, :] - shared
    return _ratio(shared, union)


def pairwise_intersection_over(boxes: Array, others: Array) -> Array:
    """Fraction of each box's own area that lies in each of the others.

    This is what COCO compares with regions of a crowd, which may be much larger.

    Args:
      boxes: `[..., N, 4]`.
      others: `[..., M, 4]`, of the same leading axes.

    Returns:
      `[..., N, M]` in [0, 1]; 0 where a box has no area.

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> box = jnp.array([[0.0, 0.0, 10.0, 10.0]])
      >>> crowd = jnp.array([[0.0, 5.0, 90.0, 90.0]])
      >>> pairwise_intersection_over(box, crowd).tolist()
      [[0.5]]
    """
    shared = pairwise_intersection(boxes, others)
    return _ratio(shared, area(boxes)[..., :, None])


def _ratio(part: Array, whole: Array) -> Array:
    """Quotient, 0 over nothing; what is not taken has no gradient either."""
    some = whole > 0
    return jnp.where(some, part / jnp.where(some, whole, 1), 0)


def _centers_and_sides(boxes: Array) -> tuple[Array, Array]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides


def encode(
    boxes: Array, anchors: Array, *, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> Array:
    """Writes boxes relative to anchors: `(dy, dx, dh, dw)`.

    `dy = w_y (cy - cy_a) / h_a` and `dh = w_h log(h / h_a)`; the same along x. Girshick,
    Donahue, Darrell, Malik, CVPR 2014, arXiv 1311.2524, appendix C. The order is that of
    our boxes, torchvision's is (dx, dy, dw, dh).

    Args:
      boxes: `[..., 4]`.
      anchors: `[..., 4]`; shapes broadcast.
      weights: factors of dy, dx, dh, dw; (10, 10, 5, 5) for regions, by custom.

    Returns:
      `[..., 4]`; zeros where the box or the anchor has no area, which is padding.

    Raises:
      ValueError: if a shape is another one or a weight is not positive.

    Example:
      >>> anchor, box = jnp.array([20.0, 10, 100, 50]), jnp.array([30.0, 20, 90, 60])
      >>> [round(float(d), 5) for d in encode(box, anchor)]
      [0.0, 0.25, -0.28768, 0.0]
    """
    boxes, anchors = _broadcast(boxes, anchors, "boxes")
    factors = _factors(weights, boxes.ndim)
    real = ((area(boxes) > 0) & (area(anchors) > 0))[..., None]
    boxes, anchors = (jnp.where(real, b, _unit(b)) for b in (boxes, anchors))
    center, sides = _centers_and_sides(boxes)
    anchor, extent = _centers_and_sides(anchors)
    shift = (center - anchor) / extent
    growth = jnp.log(sides / extent)
    deltas = jnp.concatenate([shift, growth], -1) * factors
    return jnp.where(real, deltas, 0)


def decode(
    deltas: Array,
    anchors: Array,
    *,
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
    limit: float = LARGEST_GROWTH,
) -> Array:
    """Reads boxes from what `encode` wrote; the inverse of it.

    Args:
      deltas: `(dy, dx, dh, dw)`, `[..., 4]`.
      anchors: `[..., 4]`; shapes broadcast.
      weights: as in `encode`.
      limit: most that dh and dw may be after they are divided by the weights, so that
        `exp` of a untrained network's answer stays finite.

    Returns:
      `[..., 4]`, not clipped to any image.

    Raises:
      ValueError: if a shape is another one or a weight is not positive.

    Example:
      >>> anchor = jnp.array([20.0, 10.0, 100.0, 50.0])
      >>> decode(jnp.array([0.0, 0.25, 0.0, 0.0]), anchor).tolist()
      [20.0, 20.0, 100.0, 60.0]
    """
    deltas, anchors = _broadcast(deltas, anchors, "deltas")
    deltas = deltas / _factors(weights, deltas.ndim)
    anchor, extent = _centers_and_sides(anchors)
    center = deltas[..., :2] * extent + anchor
    half = 0.5 * jnp.exp(jnp.minimum(deltas[..., 2:], limit)) * extent
    return jnp.concatenate([center - half, center + half], -1)


def _broadcast(a: Array, anchors: Array, name: str) -> tuple[Array, Array]:
    check_boxes(a, name)
    check_boxes(anchors, "anchors")
    try:
        shape = np.broadcast_shapes(a.shape, anchors.shape)
    except ValueError as error:
        raise ValueError(
            f"{name} is {a.shape} and anchors {anchors.shape}; allowed are shapes that "
            "broadcast"
        ) from error
    return jnp.broadcast_to(a, shape), jnp.broadcast_to(anchors, shape)


def _factors(weights: Weights, axes: int) -> np.ndarray:
    if len(weights) != 4 or min(weights) <= 0:
        raise ValueError(f"weights is {weights}; allowed are four positive numbers")
    return np.asarray(weights, np.float32).reshape((1,) * (axes - 1) + (4,))


def _unit(boxes: Array) -> Array:
    """A box of one pixel, in the shape of `boxes`."""
    one = jnp.asarray([0, 0, 1, 1], boxes.dtype)
    return jnp.broadcast_to(one, boxes.shape)


def clip(boxes: Array, size: Array | Sequence[float]) -> Array:
    """Cuts boxes off at the border of their image.

    Args:
      boxes: `[..., N, 4]`.
      size: height and width of the image without padding, pixels: two numbers, or an
        array `[..., 2]` of the leading axes of `boxes`.

    Returns:
      Boxes of the same shape, every coordinate in [0, height] or [0, width].

    Raises:
      ValueError: if a shape is another one.

    Example:
      >>> clip(jnp.array([[-3.0, 2.0, 40.0, 9.0]]), (32, 8)).tolist()
      [[0.0, 2.0, 32.0, 8.0]]
    """
    check_boxes(boxes)
    limit = jnp.asarray(size, boxes.dtype)
    if boxes.ndim < 2 or limit.shape not in {(2,), (*boxes.shape[:-2], 2)}:
        raise ValueError(
            f"size is {limit.shape} for boxes {boxes.shape}; allowed is [2], or "
            "[..., 2] for boxes [..., N, 4]"
        )
    limit = jnp.tile(limit, 2)[..., None, :]
    limit = limit.reshape((1,) * (boxes.ndim - limit.ndim) + limit.shape)
    return jnp.clip(boxes, 0, limit)


def is_large(boxes: Array, minimum: float) -> Array:
    """Whether both sides of each box have at least `minimum` pixels.

    Args:
      boxes: `[..., 4]`.
      minimum: pixels.

    Returns:
      `[...]` bool.

    Raises:
      ValueError: if `boxes` is of another shape.

    Example:
      >>> is_large(jnp.array([[0.0, 0.0, 2.0, 3.0]]), 2.5).tolist()
      [False]
    """
    check_boxes(boxes)
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides >= minimum).all(-1)
