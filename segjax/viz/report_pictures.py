"""Pictures as text within a page, in a number of bytes that is given."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from segjax.viz.report_values import ImageRow, Panel

SIZES = ((480, 80), (360, 70), (270, 60), (200, 50), (140, 40), (96, 30))
"""Longest side in pixels, and WebP's quality: tried in this order until the pictures fit."""

THUMBNAIL = 56, 60
"""The same of the small picture in the table."""


def data_uri(panel: Panel, side: int, quality: int) -> str:
    """Encodes a panel as WebP within a URI, without loss where it is crisp.

    Args:
      panel: the picture.
      side: its longest side becomes at most this many pixels.
      quality: 0 to 100, of what is not crisp.

    Returns:
      `data:image/webp;base64,...`.
    """
    file = io.BytesIO()
    picture = Image.fromarray(panel.reduced(side).pixels)
    if panel.crisp:
        picture.save(file, "WEBP", lossless=True, quality=40, method=2)
    else:
        picture.save(file, "WEBP", quality=quality, method=2)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def encode_rows(rows: Sequence[ImageRow], most_bytes: int) -> list[tuple[str, ...]]:
    """Encodes the panels of images, as large as the number of bytes allows.

    Args:
      rows: images; those without panels take nothing.
      most_bytes: what all URIs together may take.

    Returns:
      Of each row the thumbnail of its first panel, then its panels; an empty tuple where
      it has none. Where even the smallest do not fit, the last rows stay empty.
    """
    for side, quality in SIZES:
        encoded = _encode(rows, side, quality, most_bytes)
        if len(encoded) == len(rows):
            break
    return encoded + [()] * (len(rows) - len(encoded))


def _encode(
    rows: Sequence[ImageRow], side: int, quality: int, most_bytes: int
) -> list[tuple[str, ...]]:
    """Encodes rows until one does not fit."""
    encoded: list[tuple[str, ...]] = []
    for row in rows:
        uris: tuple[str, ...] = ()
        if row.panels:
            uris = (
                data_uri(row.panels[0], *THUMBNAIL),
                *(data_uri(panel, side, quality) for panel in row.panels),
            )
        most_bytes -= sum(map(len, uris))
        if most_bytes < 0:
            break
        encoded.append(uris)
    return encoded
