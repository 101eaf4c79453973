"""The receptive field of an output pixel: as a tree of taps, and as a picture of gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from segjax.viz.rendering import INK, to_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEEN, _UNSEEN, _EDGE, _FRAME = "#D55E00", "#dcdcdc", "#E6A36B", "#56B4E9"


class Field(NamedTuple):
    """A measured field, and the one that is computed.

    Attributes:
      title: what stands above it.
      gradient: `[H, W]`, not negative: how much each pixel of the image matters.
      rows: first row, and one after the last, that can matter by the network's layers.
      columns: the same for columns.
      note: what stands below it.
    """

    title: str
    gradient: np.ndarray
    rows: tuple[int, int]
    columns: tuple[int, int]
    note: str = ""


def plot_fields(
    fields: Sequence[Field],
    *,
    columns: int = 4,
    margin: float = 0.12,
    side: float = 2.6,
    dpi: int = 110,
) -> Image.Image:
    """Plots gradients with the computed rectangle over them.

    Brightness is the square root of the gradient, of its largest value; pixels without
    any gradient are grey, so that holes differ from what is merely dark.

    Args:
      fields: the panels.
      columns: panels in a row.
      margin: what is shown around the rectangle, as a fraction of its side.
      side: of a panel in inches.
      dpi: dots in an inch.

    Returns:
      An RGB picture.

    Raises:
      ValueError: if there is nothing to plot.
    """
    from matplotlib.figure import Figure

    if not fields:
        raise ValueError("fields hold nothing to plot")
    columns = min(columns, len(fields))
    rows = math.ceil(len(fields) / columns)
    size = (columns * (side + 0.15), rows * (side + 0.62))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, field in zip(axes, fields, strict=False):
        _plot_field(ax, field, margin)
    for ax in axes[len(fields) :]:
        ax.set_axis_off()
    return to_picture(figure, dpi)


def _plot_field(ax: Axes, field: Field, margin: float) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    gradient = np.asarray(field.gradient, np.float64)
    shown = np.sqrt(gradient / max(gradient.max(), np.finfo(np.float64).tiny))
    picture = colormaps["inferno"](0.06 + 0.94 * shown)[..., :3]
    picture[gradient == 0] = 0.86
    ax.imshow(picture, interpolation="nearest")
    (top, bottom), (left, right) = field.rows, field.columns
    corner = left - 0.5, top - 0.5
    frame = Rectangle(
        corner,
        right - left,
        bottom - top,
        fill=False,
        ec=_FRAME,
        lw=1.8,
        ls=(0, (4, 2)),
    )
    ax.add_patch(frame)
    side = max(bottom - top, right - left)
    half = side / 2 + max(1.0, margin * side)
    ax.set_xlim((left + right - 1) / 2 - half, (left + right - 1) / 2 + half)
    ax.set_ylim((top + bottom - 1) / 2 + half, (top + bottom - 1) / 2 - half)
    ax.set_facecolor("#f4f4f4")
    ax.set_title(field.title, loc="left", size=9.5, color=INK, pad=4)
    ax.set_xlabel(field.note, loc="left", size=8.5, color=INK)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color("#bbbbbb")


def plot_trees(
    stacks: Sequence[tuple[str, Sequence[int]]],
    *,
    kernel: int = 3,
    columns: int = 2,
    dpi: int = 110,
) -> Image.Image:
    """Plots which pixels of each layer a single output pixel hangs on, in one dimension.

    Args:
      stacks: title, and the dilation of each layer from the input on.
      kernel: taps of every layer, an odd number.
      columns: stacks in a row.
      dpi: dots in an inch.

    Returns:
      An RGB picture; all stacks have one scale.

    Raises:
      ValueError: if there is nothing to plot.
    """
    from matplotlib.figure import Figure

    if not stacks:
        raise ValueError("stacks hold nothing to plot")
    columns = min(columns, len(stacks))
    rows = math.ceil(len(stacks) / columns)
    reach = max(sum(dilations) for _, dilations in stacks) * (kernel // 2) + 2
    depth = max(len(dilations) for _, dilations in stacks)
    size = (columns * (0.30 * reach + 0.6), rows * (0.52 * depth + 0.8))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (title, dilations) in zip(axes, stacks, strict=False):
        _plot_tree(ax, dilations, kernel, reach)
        ax.set_ylim(-0.5, depth + 0.4)
        ax.set_title(title, loc="left", size=10, color=INK, pad=2)
    return to_picture(figure, dpi)


def _plot_tree(ax: Axes, dilations: Sequence[int], kernel: int, reach: int) -> None:
    pixels, taps = {0}, range(-(kernel // 2), kernel // 2 + 1)
    line = np.arange(-reach, reach + 1)
    for level in range(len(dilations), -1, -1):
        seen = np.isin(line, sorted(pixels))
        ax.scatter(
            line[~seen], np.full((~seen).sum(), level), s=16, c=_UNSEEN, zorder=2
        )
        ax.scatter(line[seen], np.full(seen.sum(), level), s=26, c=_SEEN, zorder=3)
        if not level:
            break
        dilation, below = dilations[level - 1], set()
        for pixel in pixels:
            for tap in taps:
                end = pixel + dilation * tap
                ax.plot((pixel, end), (level, level - 1), color=_EDGE, lw=0.8, zorder=1)
                below.add(end)
        ax.text(
            *(-reach - 0.6, level - 0.5, f"rate {dilation}"),
            ha="left",
            va="center",
            size=8,
            color="#666666",
        )
        pixels = below
    ax.set_xlim(-reach - 1, reach + 1)
