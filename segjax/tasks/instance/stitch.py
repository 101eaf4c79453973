"""Objects of an image that was predicted tile by tile, joined across the seams.

Tiles overlap. Where two of them see the same pixels they see the same objects: two
detections of one class whose masks agree there are one object, and its mask is what either
tile has seen of it. So an object that a tile's edge cuts is whole in the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segjax.rle import Rle, encode

AGREEMENT = 0.5
"""Least IoU, within what two tiles share, of two detections that are one object."""

Rect = tuple[int, int, int, int]
"""`(y0, x0, y1, x1)` in whole pixels of the image, the end exclusive."""


@dataclass(frozen=True)
class _Piece:
    """The part of an object that one tile has seen, in pixels of the image."""

    tile: int
    box: np.ndarray
    score: float
    class_id: int
    rect: Rect
    mask: np.ndarray
    keypoints: np.ndarray | None


def tile_rects(
    size: tuple[int, int], tile: tuple[int, int], overlap: int
) -> list[Rect]:
    """Covers an image by tiles of one size, which overlap by at least `overlap` pixels.

    Args:
      size: `(height, width)` of the image.
      tile: `(height, width)` of a tile; cut off where the image is smaller.
      overlap: pixels that neighbours share, less than a tile's sides.

    Returns:
      Tiles, row by row, spread evenly.

    Raises:
      ValueError: if the overlap leaves nothing of a tile.

    Example:
      >>> tile_rects((10, 25), (10, 10), 2)
      [(0, 0, 10, 10), (0, 8, 10, 18), (0, 15, 10, 25)]
    """
    if not 0 <= overlap < min(tile):
        raise ValueError(f"overlap must be from 0 to {min(tile) - 1}, got {overlap}")
    starts = []
    for length, side in zip(size, tile, strict=True):
        rest = max(length - side, 0)
        count = 1 + -(-rest // (side - overlap))
        starts.append(np.rint(np.linspace(0, rest, count)).astype(int).tolist())
    return [
        (y, x, min(y + tile[0], size[0]), min(x + tile[1], size[1]))
        for y, x in itertools.product(*starts)
    ]


def join_tiles(
    rects: Sequence[Rect], found: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> dict[str, Any]:
    """Joins the objects of all tiles.

    Args:
      rects: of the tiles.
      found: of each tile `boxes` `[N, 4]`, `scores`, `classes` `[N]`, and where there are
        any `masks` bool `[N, h, w]` and `keypoints` `[N, P, 3]`, in pixels of the tile.
      size: `(height, width)` of the image.

    Returns:
      The same of the image, highest score first; `masks` are run lengths.
    """
    pieces = [
        _piece(number, rect, objects, i)
        for number, (rect, objects) in enumerate(zip(rects, found, strict=True))
        for i in range(len(objects["scores"]))
    ]
    joined = [_merged(group) for group in _groups(pieces, rects)]
    joined.sort(key=lambda piece: -piece.score)
    out: dict[str, Any] = {
        "boxes": np.array([p.box for p in joined], np.float32).reshape(-1, 4),
        "scores": np.array([p.score for p in joined], np.float32),
        "classes": np.array([p.class_id for p in joined], np.int32),
    }
    if any("masks" in objects for objects in found):
        out["masks"] = tuple(_whole(piece, size) for piece in joined)
    points = [objects["keypoints"] for objects in found if "keypoints" in objects]
    if points:
        kept = [p.keypoints for p in joined if p.keypoints is not None]
        shape = (-1, *points[0].shape[1:])
        out["keypoints"] = np.array(kept, np.float32).reshape(shape)
    return out


def _piece(number: int, rect: Rect, objects: Mapping[str, Any], i: int) -> _Piece:
    top, left = rect[:2]
    box = np.asarray(objects["boxes"][i], np.float64) + np.array([top, left] * 2)
    if "masks" in objects:
        full = np.asarray(objects["masks"][i], bool)
        rows, columns = (np.flatnonzero(full.any(axis)) for axis in (1, 0))
        if len(rows):
            inner = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        else:
            inner = 0, 0, 0, 0
        mask = full[inner[0] : inner[2], inner[1] : inner[3]]
    else:
        inner = tuple(np.rint(objects["boxes"][i]).astype(int).tolist())
        mask = np.ones((max(inner[2] - inner[0], 0), max(inner[3] - inner[1], 0)), bool)
    y, x = int(inner[0]) + top, int(inner[1]) + left
    points = None
    if "keypoints" in objects:
        points = np.array(objects["keypoints"][i], np.float64)
        points[:, :2] += (top, left)
    return _Piece(
        number,
        box,
        float(objects["scores"][i]),
        int(objects["classes"][i]),
        (y, x, y + mask.shape[0], x + mask.shape[1]),
        mask,
        points,
    )


def _groups(pieces: Sequence[_Piece], rects: Sequence[Rect]) -> list[list[_Piece]]:
    """Puts the pieces of one object together."""
    parent = list(range(len(pieces)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    of_tile: list[list[int]] = [[] for _ in rects]
    for i, piece in enumerate(pieces):
        of_tile[piece.tile].append(i)
    for a, b in itertools.combinations(range(len(rects)), 2):
        shared = _shared(rects[a], rects[b])
        if shared is None:
            continue
        alike = [
            (_agreement(pieces[i], pieces[j], shared), i, j)
            for i in of_tile[a]
            for j in of_tile[b]
            if pieces[i].class_id == pieces[j].class_id
        ]
        taken: set[int] = set()
        for likeness, i, j in sorted(alike, reverse=True):
            if likeness >= AGREEMENT and not {i, j} & taken:
                taken |= {i, j}
                parent[root(j)] = root(i)
    groups: dict[int, list[_Piece]] = {}
    for i, piece in enumerate(pieces):
        groups.setdefault(root(i), []).append(piece)
    return list(groups.values())


def _shared(a: Rect, b: Rect) -> Rect | None:
    top, left = max(a[0], b[0]), max(a[1], b[1])
    bottom, right = min(a[2], b[2]), min(a[3], b[3])
    return (top, left, bottom, right) if bottom > top and right > left else None


def _agreement(a: _Piece, b: _Piece, shared: Rect) -> float:
    """IoU of two pieces within a part of the image."""
    both = _shared(a.rect, b.rect)
    if both is None:
        return 0.0
    common = _shared(both, shared)
    if common is None:
        return 0.0
    inter = np.count_nonzero(_cut(a, common) & _cut(b, common))
    areas = sum(np.count_nonzero(_cut(p, shared)) for p in (a, b))
    return inter / (areas - inter) if inter else 0.0


def _cut(piece: _Piece, rect: Rect) -> np.ndarray:
    """The part of a mask that lies in both its own rectangle and another one."""
    inner = _shared(piece.rect, rect)
    if inner is None:
        return np.zeros((0, 0), bool)
    top, left = piece.rect[:2]
    return piece.mask[
        inner[0] - top : inner[2] - top, inner[1] - left : inner[3] - left
    ]


def _merged(group: Sequence[_Piece]) -> _Piece:
    """One piece of several: masks joined, the best score, joints of the largest."""
    if len(group) == 1:
        return group[0]
    best = max(group, key=lambda piece: piece.score)
    largest = max(group, key=lambda piece: np.prod(piece.box[2:] - piece.box[:2]))
    boxes = np.array([piece.box for piece in group])
    corners = np.array([piece.rect for piece in group])
    (top, left), (bottom, right) = corners[:, :2].min(0), corners[:, 2:].max(0)
    mask = np.zeros((bottom - top, right - left), bool)
    for piece in group:
        y, x = piece.rect[0] - top, piece.rect[1] - left
        mask[y : y + piece.mask.shape[0], x : x + piece.mask.shape[1]] |= piece.mask
    box = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    rect = (int(top), int(left), int(bottom), int(right))
    return _Piece(
        best.tile, box, best.score, best.class_id, rect, mask, largest.keypoints
    )


def _whole(piece: _Piece, size: tuple[int, int]) -> Rle:
    mask = np.zeros(size, bool)
    top, left, bottom, right = piece.rect
    mask[top:bottom, left:right] = piece.mask
    return encode(mask)
