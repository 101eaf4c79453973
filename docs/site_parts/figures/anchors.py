"""From anchors to boxes, and from many boxes to few."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax import ops

from . import rounded

TITLE = "From anchors to boxes: non-maximum suppression"
CAPTION = (
    "Five objects, and 192 anchors on a grid. In place of a trained head stand the true offsets with "
    "noise, and a score that falls with the distance from the truth. Go through the steps, and move the two "
    "thresholds: too low, and neighbours go; too high, and doubles stay. Anchors, boxes and what is "
    "kept are from `segjax.ops`."
)
ALTERNATIVE = "All boxes above a score of a half, and those that are left after suppression at an IoU of 0.5."

SIZE, STRIDE = 128, 16
THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 10))
OBJECTS = (
    (12.0, 10.0, 44.0, 42.0),
    (20.0, 34.0, 56.0, 60.0),
    (70.0, 14.0, 98.0, 62.0),
    (66.0, 80.0, 118.0, 106.0),
    (14.0, 84.0, 46.0, 116.0),
)


def anchors() -> np.ndarray:
    """Three anchors for each cell of an 8 x 8 map, `[192, 4]`."""
    side = SIZE // STRIDE
    base = ops.base_anchors(32, (0.5, 1.0, 2.0))
    grid = ops.grid_anchors((side, side), (STRIDE, STRIDE), base)
    return np.asarray(grid) + STRIDE / 2


def answers() -> tuple[np.ndarray, np.ndarray]:
    """What a head could have said: boxes `[192, 4]`, and their scores `[192]`."""
    rng = np.random.default_rng(4)
    objects = jnp.asarray(OBJECTS)
    places = jnp.asarray(anchors())
    iou = np.asarray(ops.pairwise_iou(places, objects))
    true = ops.encode(objects[iou.argmax(1)], places)
    noise = rng.normal(0, 0.09, true.shape)
    boxes = ops.clip(
        ops.decode(true + jnp.asarray(noise, jnp.float32), places), (SIZE, SIZE)
    )
    score = 1 / (1 + np.exp(-9 * (iou.max(1) - 0.4) + rng.normal(0, 0.5, len(iou))))
    return np.asarray(boxes, np.float64).round(1), score.round(3)


def kept(
    boxes: np.ndarray, scores: np.ndarray, least: float, threshold: float
) -> np.ndarray:
    """Suppresses.

    Args:
      boxes: `[N, 4]`.
      scores: `[N]`.
      least: score below which a box does not take part.
      threshold: IoU above which the worse of two goes.

    Returns:
      bool `[N]`.
    """
    found = ops.nms(
        jnp.asarray(boxes, jnp.float32),
        jnp.asarray(scores, jnp.float32),
        iou_threshold=threshold,
        valid=jnp.asarray(scores >= least),
    )
    return np.asarray(found)


def data() -> dict[str, Any]:
    """Objects, anchors, boxes and scores, and what is kept at all pairs of thresholds."""
    boxes, scores = answers()
    left = {
        f"{least:.1f}": {
            f"{threshold:.1f}": np.flatnonzero(
                kept(boxes, scores, least, threshold)
            ).tolist()
            for threshold in THRESHOLDS
        }
        for least in THRESHOLDS
    }
    return {
        "size": SIZE,
        "objects": OBJECTS,
        "anchors": rounded(anchors(), 1),
        "boxes": rounded(boxes, 1),
        "scores": rounded(scores, 3),
        "kept": left,
    }


def picture(data: dict[str, Any]) -> Image.Image:
    """Before and after."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from segjax.viz.rendering import to_picture

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    before = np.flatnonzero(np.asarray(data["scores"]) >= 0.5)
    after = data["kept"]["0.5"]["0.5"]
    panels = (("score of at least 0.5", before), ("after suppression at 0.5", after))
    for ax, (title, chosen) in zip(figure.subplots(1, 2), panels, strict=True):
        for group, color in ((data["objects"], "#999999"), (data["boxes"], "#D55E00")):
            rows = group if group is data["objects"] else [group[i] for i in chosen]
            for y0, x0, y1, x1 in rows:
                ax.add_patch(
                    Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=color)
                )
        ax.set(
            xlim=(0, SIZE),
            ylim=(SIZE, 0),
            aspect="equal",
            title=f"{title}: {len(chosen)}",
        )
    return to_picture(figure, 80)
