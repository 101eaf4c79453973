"""Objects that were found, in the forms that others read: COCO's results, label images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

from segjax.rle import Rle, decode, encode, to_string

PIXEL_CENTER = 0.5
"""COCO's keypoints are numbers of pixels; ours are places, as boxes are."""


def coco_results(
    found: Mapping[str, Any], *, image_id: int, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Lists the objects of an image as rows of COCO's result files.

    Args:
      found: `boxes` `[N, 4]`, `scores` and `classes` `[N]`, and where there are any
        `masks`, run lengths or bool `[N, H, W]`, and `keypoints` `[N, P, 3]`.
      image_id: number of the image.
      category_ids: numbers of the classes from 1.

    Returns:
      Dicts with `image_id`, `category_id`, `bbox` (x, y, width, height), `score`,
      `segmentation` (run lengths as text) and `keypoints` (x, y, 1 of each point),
      which are JSON.

    Example:
      >>> found = {"boxes": [[1.0, 2.0, 5.0, 9.0]], "scores": [0.5], "classes": [2]}
      >>> coco_results(found, image_id=7, category_ids=(1, 44))[0]["bbox"]
      [2.0, 1.0, 7.0, 4.0]
    """
    rows = []
    for i, score in enumerate(found["scores"]):
        top, left, bottom, right = (float(v) for v in found["boxes"][i])
        row: dict[str, Any] = {
            "image_id": int(image_id),
            "category_id": int(category_ids[int(found["classes"][i]) - 1]),
            "bbox": [round(v, 3) for v in (left, top, right - left, bottom - top)],
            "score": float(score),
        }
        if "masks" in found:
            mask = found["masks"][i]
            rle = mask if isinstance(mask, Rle) else encode(mask)
            counts = to_string(rle)
            row["segmentation"] = {"size": list(rle.size), "counts": counts}
        if "keypoints" in found:
            y, x = (np.asarray(found["keypoints"][i])[:, a] for a in (0, 1))
            points = np.stack([x, y, np.ones_like(x) + PIXEL_CENTER], axis=-1)
            points = np.round(points.astype(np.float64) - PIXEL_CENTER, 3)
            row["keypoints"] = points.ravel().tolist()
        rows.append(row)
    return rows


def write_results(file: IO[bytes], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of `coco_results` into a file, one row a line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    file.write(f"[{lines}]\n".encode())


def numbered(masks: Sequence[Rle], size: tuple[int, int]) -> np.ndarray:
    """Makes a label image of objects; where they overlap, the first one is seen.

    Args:
      masks: run lengths, the best object first.
      size: `(height, width)`.

    Returns:
      int32 `[H, W]`: 0 for none, then 1, 2, ... in their order.
    """
    label = np.zeros(size, np.int32)
    for number in range(len(masks), 0, -1):
        label[decode(masks[number - 1])] = number
    return label
