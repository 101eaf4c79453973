"""The widths of a fully connected CRF."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax import ops
from segjax.metrics import confusion_counts, semantic_metrics
from segjax.viz import plot_maps

from . import packed, quantized, rounded, unpacked

TITLE = "The widths of a CRF"
CAPTION = (
    "A noisy prediction, refined by `segjax.ops.dense_crf` in five steps. The first width says how far a "
    "pixel looks for pixels of its colour, the second how alike colours have to be, the third how far "
    "smoothing reaches. Too wide in colour, and outlines no longer hold."
)
ALTERNATIVE = "The image, the noisy probabilities, and the refined ones for three widths in colour."

SIDE = 40
ALPHAS, BETAS, GAMMAS = (2, 5, 10, 20), (5, 10, 20, 40, 80), (1, 3)
REST: dict[str, Any] = {"w1": 10.0, "w2": 3.0, "num_iterations": 5, "method": "exact"}


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label `[40, 40]`, image `[40, 40, 3]` in 0..255, and noisy logits `[40, 40, 2]`."""
    y, x = np.mgrid[:SIDE, :SIDE]
    label = (np.hypot(y - 19, x - 15) < 10).astype(np.int32)
    label[5:35, 30:33] = 1
    rng = np.random.default_rng(0)
    colors = np.array([(110.0, 115, 125), (170, 150, 110)])
    image = np.clip(colors[label] + rng.normal(0, 7, (SIDE, SIDE, 3)), 0, 255)
    return label, image, 2 * np.eye(2)[label] + rng.normal(0, 1.1, (SIDE, SIDE, 2))


def refined(alpha: float, beta: float, gamma: float) -> np.ndarray:
    """P(object) after the CRF.

    Args:
      alpha: width of the appearance kernel in pixels.
      beta: its width in colours.
      gamma: width of the smoothness kernel in pixels.

    Returns:
      `[40, 40]`.
    """
    _, image, logits = scene()
    found = ops.dense_crf(
        jnp.asarray(image, jnp.float32),
        jnp.asarray(logits, jnp.float32),
        sigma_alpha=float(alpha),
        sigma_beta=float(beta),
        sigma_gamma=float(gamma),
        **REST,
    )
    return np.asarray(found)[..., 1]


def mean_iou(p: np.ndarray) -> float:
    """Mean IoU of the label that probabilities give."""
    answer = jnp.asarray(p > 0.5, jnp.int32)
    counts = confusion_counts(jnp.asarray(scene()[0]), answer, num_classes=2)
    return float(semantic_metrics(np.asarray(counts))["mean_iou"])


def data() -> dict[str, Any]:
    """Marginals for all triples of widths."""
    _, image, logits = scene()
    alone = 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))
    found: dict[str, Any] = {}
    for alpha in ALPHAS:
        for beta in BETAS:
            for gamma in GAMMAS:
                p = refined(alpha, beta, gamma)
                found[f"{alpha}-{beta}-{gamma}"] = {
                    "p": packed(quantized(p)),
                    "iou": rounded(mean_iou(p), 4),
                }
    return {
        "side": SIDE,
        "widths": [ALPHAS, BETAS, GAMMAS],
        "image": packed(np.rint(image).astype(np.uint8)),
        "alone": {"p": packed(quantized(alone)), "iou": rounded(mean_iou(alone), 4)},
        "settings": found,
    }


def picture(data: dict[str, Any]) -> Image.Image:
    """Image, prediction, three results."""
    size = (SIDE, SIDE)
    panels = [
        ("image", unpacked(data["image"], (*size, 3))),
        (f"alone: {data['alone']['iou']:.2f}", unpacked(data["alone"]["p"], size)),
    ]
    for beta in (5, 20, 80):
        at = data["settings"][f"10-{beta}-3"]
        panels.append((f"colours {beta}: {at['iou']:.2f}", unpacked(at["p"], size)))
    return plot_maps(panels, columns=5, side=1.7, dpi=80)
