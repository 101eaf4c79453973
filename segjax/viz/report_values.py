"""The values that a report is made of."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

Color = Sequence[int]

PANEL_SIDE = 480
"""The longest side of a picture in a report, in pixels."""


@dataclass(frozen=True)
class Panel:
    """A picture of an image, its label, its prediction or its errors.

    Attributes:
      caption: what it shows.
      pixels: uint8 `[H, W, 3]`.
      crisp: whether it has few colours with sharp borders, as labels have.
    """

    caption: str
    pixels: np.ndarray
    crisp: bool = False

    def reduced(self, side: int) -> Panel:
        """The same panel, its longest side at most `side` pixels.

        Example:
          >>> Panel("image", np.zeros((40, 80, 3), np.uint8)).reduced(20).pixels.shape
          (10, 20, 3)
        """
        height, width = self.pixels.shape[:2]
        scale = side / max(height, width)
        if scale >= 1:
            return self
        size = max(1, round(width * scale)), max(1, round(height * scale))
        method = Image.Resampling.NEAREST if self.crisp else Image.Resampling.BOX
        picture = Image.fromarray(self.pixels).resize(size, method)
        return dataclasses.replace(self, pixels=np.asarray(picture))


@dataclass(frozen=True)
class ImageRow:
    """What was measured on one image.

    Attributes:
      name: of the image.
      metrics: by name; NaN where one is undefined.
      panels: the first is the image; empty where it is not shown.
    """

    name: str
    metrics: Mapping[str, float]
    panels: tuple[Panel, ...] = ()


def worst_first(
    scored: Iterable[tuple[float, ImageRow]], *, keep_panels: int
) -> list[ImageRow]:
    """Sorts images, the worst first; panels of the others are let go at once.

    Args:
      scored: each image with a number that is the higher the better it was predicted; NaN
        comes last.
      keep_panels: how many images keep their panels.

    Returns:
      The rows.

    Example:
      >>> rows = worst_first(
      ...     [(0.9, ImageRow("a", {})), (0.2, ImageRow("b", {}))], keep_panels=1
      ... )
      >>> [row.name for row in rows]
      ['b', 'a']
    """
    rows: list[tuple[float, int, ImageRow]] = []
    kept: list[tuple[float, int, tuple[Panel, ...]]] = []  # the best of them first
    for number, (score, row) in enumerate(scored):
        score = math.inf if math.isnan(score) else score
        panels = tuple(panel.reduced(PANEL_SIDE) for panel in row.panels)
        heapq.heappush(kept, (-score, -number, panels))
        if len(kept) > keep_panels:
            heapq.heappop(kept)
        rows.append((score, number, dataclasses.replace(row, panels=())))
    shown = {-number: panels for _, number, panels in kept}
    return [
        dataclasses.replace(row, panels=shown.get(number, ()))
        for _, number, row in sorted(rows, key=lambda entry: entry[:2])
    ]


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
      caption: what it holds.
      header: names of the columns.
      rows: texts and numbers; the first of each row is its name.
      colors: one of each row, shown before its name; empty where rows have none.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    colors: Sequence[Color] = ()


@dataclass(frozen=True)
class MeasuredImages:
    """Images that were measured one by one.

    Attributes:
      rows: one of each image, the worst first.
      sorted_by: a sentence that says by what they are sorted.
      objects: tables of objects, where there are any.
    """

    rows: Sequence[ImageRow]
    sorted_by: str
    objects: Sequence[Table] = ()


@dataclass(frozen=True)
class ReportContent:
    """All that a report says.

    Attributes:
      title: of the page.
      facts: what was trained, on what, and what was measured, by name.
      data: tables of the splits and the classes.
      log: rows of `metrics.jsonl`.
      metrics: of the evaluated split, by name; NaN where one is undefined.
      split: its name.
      confusion: counts `[K, K]`, rows are the truth, and the names of the classes; None
        where objects are found.
      calibration: sums of `segjax.metrics.calibration_counts`, `[M, 3]`; None where they
        were not measured.
      images: the images that were measured, worst first.
      legend: names and colours of the classes, as the panels show them.
      images_note: which of the split they are, and by what they are sorted.
      objects: tables of objects, where they are measured.
      config: the experiment.
      environment: versions, device, command line, by name.
    """

    title: str
    facts: Mapping[str, str]
    data: Sequence[Table] = ()
    log: Sequence[Mapping[str, Any]] = ()
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    split: str = ""
    confusion: tuple[np.ndarray, Sequence[str]] | None = None
    calibration: np.ndarray | None = None
    images: Sequence[ImageRow] = ()
    legend: Sequence[tuple[str, Color]] = ()
    images_note: str = ""
    objects: Sequence[Table] = ()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
