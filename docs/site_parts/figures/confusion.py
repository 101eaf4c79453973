"""A confusion matrix, and the pixels behind each of its numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax import ops
from segjax.metrics import confusion_counts, semantic_metrics
from segjax.viz import colorize, palette, plot_maps

from . import packed, rounded, scenes, unpacked

TITLE = "The pixels behind a confusion matrix"
CAPTION = (
    "The label is averaged over blocks of an output stride, enlarged by interpolation, and each pixel takes "
    "its likeliest class: much as in a network of that stride without skips. Pick a number of "
    "the matrix, and its pixels light up: thin bars go first. Counted by `segjax.metrics`."
)
ALTERNATIVE = "The label, and what is left of it at output strides 4, 8, 16 and 32."

SIDE = 64
STRIDES = (2, 4, 8, 16, 32)
CLASSES = ("ground", "disc", "bars", "ring")


def restored(label: np.ndarray, stride: int) -> np.ndarray:
    """What a label becomes on the way through a coarse map.

    Args:
      label: `[H, W]`.
      stride: pixels to a cell of the map.

    Returns:
      int32 `[H, W]`.
    """
    each = jax.nn.one_hot(label, len(CLASSES))[None]
    coarse = ops.avg_pool(each, window=stride)
    fine = ops.resize_bilinear(coarse, size=(SIDE, SIDE))
    return np.asarray(fine.argmax(-1), np.int32)[0]


def data() -> dict[str, Any]:
    """The label, and for each stride the answer, its counts and its figures."""
    label = scenes.shapes(SIDE)
    found: dict[str, Any] = {}
    for stride in STRIDES:
        answer = restored(label, stride)
        counts = confusion_counts(
            jnp.asarray(label), jnp.asarray(answer), num_classes=len(CLASSES)
        )
        figures = semantic_metrics(np.asarray(counts), CLASSES)
        found[str(stride)] = {
            "answer": packed(answer.astype(np.uint8)),
            "counts": np.asarray(counts).tolist(),
            "iou": [rounded(figures[f"iou/{name}"], 4) for name in CLASSES],
            "mean_iou": rounded(figures["mean_iou"], 4),
        }
    return {
        "side": SIDE,
        "classes": CLASSES,
        "colors": scenes.COLORS,
        "label": packed(label.astype(np.uint8)),
        "strides": found,
    }


def picture(data: dict[str, Any]) -> Image.Image:
    """Label and answers."""
    table = palette(scenes.COLORS).tolist()
    panels = [("label", colorize(scenes.shapes(SIDE), table))]
    panels += [
        (
            f"stride {stride}: mean IoU {at['mean_iou']:.2f}",
            colorize(unpacked(at["answer"], (SIDE, SIDE)).astype(np.int32), table),
        )
        for stride, at in data["strides"].items()
    ]
    return plot_maps(panels, columns=3, side=2.1, dpi=80)
