"""Objects plotted onto their image: masks, boxes, names, keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

COLORS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
"""Of objects, in turn: Okabe and Ito's palette."""

OPACITY = 0.45
"""How much of a mask's colour covers the image."""


def plot_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    *,
    scores: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    skeleton: Sequence[tuple[int, int]] = (),
    zoom: int = 1,
) -> Image.Image:
    """Plots objects, each in a colour of its own.

    Args:
      image: uint8 `[H, W, 1 or 3]`.
      boxes: `[N, 4]`, (y0, x0, y1, x1) in pixels.
      classes: `[N]`, places in `names`.
      names: of the classes.
      scores: `[N]`, written beside the name.
      masks: bool `[N, H, W]`.
      keypoints: `[N, P, 3]`, (y, x, visibility or score); those at 0 are not plotted where
        there are no scores.
      skeleton: pairs of keypoints that a bone joins.
      zoom: pixels of the picture for one of the image.

    Returns:
      The picture, RGB.

    Raises:
      ValueError: if there are not as many classes as boxes.
    """
    if len(boxes) != len(classes):
        raise ValueError(f"classes are {len(classes)} for {len(boxes)} boxes")
    pixels = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32)
    colors = [COLORS[i % len(COLORS)] for i in range(len(boxes))]
    if masks is not None:
        # The first, which is the best, is plotted last.
        for color, mask in reversed(list(zip(colors, masks, strict=True))):
            pixels = np.where(
                mask[..., None],
                (1 - OPACITY) * pixels + OPACITY * np.array(color),
                pixels,
            )
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    picture = picture.resize((zoom * picture.width, zoom * picture.height))
    plot = ImageDraw.Draw(picture)
    for i, ((y0, x0, y1, x1), color) in enumerate(zip(boxes, colors, strict=True)):
        corners = [zoom * float(value) for value in (x0, y0, x1, y1)]
        plot.rectangle(corners, outline=color)
        score = "" if scores is None else f" {scores[i]:.2f}"
        plot.text(
            (corners[0] + 2, corners[1] + 1), f"{names[int(classes[i])]}{score}", color
        )
        if keypoints is not None:
            seen = keypoints[i][:, 2] > 0 if scores is None else None
            _plot_points(plot, zoom * keypoints[i][:, :2], seen, skeleton, color)
    return picture


def _plot_points(
    plot: ImageDraw.ImageDraw,
    points: np.ndarray,
    seen: np.ndarray | None,
    skeleton: Sequence[tuple[int, int]],
    color: tuple[int, int, int],
) -> None:
    """Plots bones between points, and the points, `[P, 2]`."""
    shown = np.ones(len(points), bool) if seen is None else seen
    at = [(float(x), float(y)) for y, x in points]
    for a, b in skeleton:
        if shown[a] and shown[b]:
            plot.line([at[a], at[b]], fill=color)
    for (x, y), is_shown in zip(at, shown, strict=True):
        if is_shown:
            plot.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=color)
