"""Drawn weights of detectors, with heads that are as sure as trained ones are.

`random_weights.py` keeps the scale of activations from layer to layer. Scores would then
be 0 or 1, and boxes many times as large as the image: heads are made smaller here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

FACTORS = {
    "rpn.head.cls_logits.weight": 0.1,
    "rpn.head.bbox_pred.weight": 0.04,
    "roi_heads.box_predictor.cls_score.weight": 0.06,
    "roi_heads.box_predictor.bbox_pred.weight": 0.1,
    "roi_heads.mask_predictor.mask_fcn_logits.weight": 0.2,
}
"""What tensors are multiplied by."""

SCORE = "roi_heads.box_predictor.cls_score.bias"
ONE_CLASS = np.array([0, 9], np.float32)
"""Added where there is one class beside the background, which would always win."""


def calmed(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Multiplies the heads of a random state dict by `FACTORS`."""
    calm = {
        name: tensor * np.float32(FACTORS[name]) if name in FACTORS else tensor
        for name, tensor in state.items()
    }
    if calm[SCORE].shape == ONE_CLASS.shape:
        calm[SCORE] = calm[SCORE] + ONE_CLASS
    return calm


def image(height: int, width: int, uniform) -> np.ndarray:
    """Draws an image `[1, H, W, 3]` in 0 to 1: coarse patches, and noise on them.

    Args:
      height: pixels.
      width: pixels.
      uniform: that of `random_weights.py`.
    """
    rows, columns = -(-height // 24), -(-width // 24)
    patches = uniform(f"patches {height}x{width}", (rows, columns, 3), 0.25)
    coarse = np.kron(patches, np.ones((24, 24, 1), np.float32))[:height, :width]
    noise = uniform(f"noise {height}x{width}", (height, width, 3), 0.05)
    return (0.5 + coarse + noise).clip(0, 1)[None].astype(np.float32)
