"""The reliability diagram: of pixels that are so sure, how many are right."""

from __future__ import annotations

import numpy as np

_WIDTH, _HEIGHT = 380, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 38
_LEAST = 1e-4
"""Bins of a smaller fraction of the pixels are not plotted: too few to say anything."""


def reliability(sums: np.ndarray) -> str:
    """Plots the accuracy of pixels over their confidence (Guo et al. 2017, figure 1).

    A circle is a bin: the larger, the more pixels it has. On the diagonal, confidence is what
    it says; below it, the network is too sure.

    Args:
      sums: of `segjax.metrics.calibration_counts`, `[M, 3]`.

    Returns:
      HTML, a figure; empty where there are no pixels.

    Example:
      >>> "circle" in reliability(np.array([[0, 0, 0], [10, 8.0, 7]]))
      True
    """
    total = sums[:, 0].sum()
    used = sums[sums[:, 0] > max(_LEAST * total, 0)]
    if not total:
        return ""
    fraction = used[:, 0] / total
    points = used[:, 1:] / used[:, :1]
    place = lambda x, y: (
        _LEFT + x * (_WIDTH - _LEFT - _RIGHT),
        _HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM),
    )
    parts, placed, said = [], [], []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = place(value, value)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">'
            f"{value:g}</text>"
        )
    (x0, y0), (x1, y1) = place(0, 0), place(1, 1)
    parts.append(
        f'<path class="line1 dashed" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>'
    )
    for (confidence, accuracy), part in zip(points, fraction, strict=True):
        x, y = place(confidence, accuracy)
        placed.append(f"{x:.1f} {y:.1f}")
        parts.append(
            f'<circle class="line0" cx="{x:.1f}" cy="{y:.1f}" r="{2 + 8 * part**0.5:.1f}"/>'
        )
        said.append(f"{confidence:.2f}: {accuracy:.2f} of {part:.1%}")
    parts.append(
        f'<path class="line0" d="M{"L".join(placed)}"/>'
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" '
        'text-anchor="middle">confidence</text>'
    )
    description = (
        f"Accuracy by confidence, with the part of the pixels: {'; '.join(said)}"
    )
    return (
        "<figure class=curve><figcaption>accuracy over confidence; dashed: perfectly "
        f'calibrated</figcaption><svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'aria-label="{description}">{"".join(parts)}</svg></figure>'
    )
