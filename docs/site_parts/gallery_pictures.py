"""Pictures of arrays: numbers where they can be read, shades elsewhere, boxes as boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from PIL import Image

from segjax.inspect.effective_field import random_variables
from segjax.viz.rendering import INK, to_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NUMBERS = 9
"""Rows or columns of an array whose numbers are written."""

SIDE, CHANNELS = 25, 4
"""Of the map that layers get."""


class Panel(NamedTuple):
    """One array of a picture.

    Attributes:
      title: its name.
      values: itself, of any rank.
    """

    title: str
    values: np.ndarray


def plane(values: np.ndarray) -> np.ndarray:
    """Brings an array to two axes: of a batch the first image, of channels the first.

    Args:
      values: of any rank.

    Returns:
      `[H, W]`.

    Example:
      >>> plane(np.zeros((2, 5, 6, 3))).shape, plane(np.zeros(4)).shape
      ((5, 6), (1, 4))
    """
    if values.ndim == 4:
        return values[0, :, :, 0] if values[0].size > values.shape[-1] else values[0, 0]
    while values.ndim > 2:
        values = values[..., 0] if values.shape[-1] < 4 else values[0]
    return np.atleast_2d(values)


def _is_boxes(panel: Panel) -> bool:
    name = any(word in panel.title for word in ("box", "anchor"))
    return name and panel.values.ndim > 1 and panel.values.shape[-1] == 4


def drawn(panels: list[Panel]) -> Image.Image:
    """Draws arrays side by side.

    Args:
      panels: at least one.

    Returns:
      A picture of few colours.
    """
    from matplotlib.figure import Figure

    shapes = [plane(panel.values).shape for panel in panels]
    wide = [0.42 * w + 0.5 if max(h, w) <= MOST_NUMBERS else 2.3 for h, w in shapes]
    widths = [
        max(w, 0.11 * len(p.title) + 0.4, 1.0)
        for w, p in zip(wide, panels, strict=True)
    ]
    high = max(0.42 * h + 0.6 if max(h, w) <= MOST_NUMBERS else 2.6 for h, w in shapes)
    figure = Figure(figsize=(sum(widths), max(high, 1.2)), layout="constrained")
    axes = figure.subplots(
        1, len(panels), squeeze=False, gridspec_kw={"width_ratios": widths}
    )[0]
    for ax, panel in zip(axes, panels, strict=True):
        ax.set_title(panel.title, size=9, color=INK)
        ax.set_xticks([])
        ax.set_yticks([])
        (_boxes if _is_boxes(panel) else _values)(ax, panel.values)
    return to_picture(figure, 80).quantize(32)


def _boxes(ax: Axes, values: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    rows = values.reshape(-1, 4).astype(float)
    for i, (y0, x0, y1, x1) in enumerate(rows):
        color = f"C{i % 10}"
        ax.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=color, lw=1.4)
        )
    low, high = rows.min(0), rows.max(0)
    margin = 0.08 * max(high[2] - low[0], high[3] - low[1], 1)
    ax.set_xlim(low[1] - margin, high[3] + margin)
    ax.set_ylim(high[2] + margin, low[0] - margin)
    ax.set_aspect("equal")


def _values(ax: Axes, values: np.ndarray) -> None:
    shown = plane(values)
    numbers = shown.astype(np.float64)
    has_numbers = max(shown.shape) <= MOST_NUMBERS
    finite = np.where(np.isfinite(numbers), numbers, 0)
    ax.imshow(
        finite,
        cmap="Blues" if has_numbers else "magma",
        alpha=0.55 if has_numbers else 1,
    )
    if has_numbers:
        for (i, j), value in np.ndenumerate(shown):
            text = (
                str(value)
                if shown.dtype == bool
                else f"{float(value):.2f}".rstrip("0").rstrip(".")
            )
            ax.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                size=8 if len(text) < 6 else 6,
                color=INK,
            )


def gradient_panels(name: str, layer: nn.Module) -> tuple[list[Panel], int, list[int]]:
    """Measures where the middle pixel of a layer's output looks.

    Args:
      name: of the layer: two take more than a map.
      layer: itself.

    Returns:
      The gradient's size `[25, 25]`, how many parameters the layer has, and the shape of
      its output.
    """

    class OneMap(nn.Module):
        """The layer as a function of one map."""

        inner: nn.Module

        def __call__(self, x: jax.Array, *, train: bool = False) -> Any:
            taken = {"train": train} if "train" in _arguments(layer) else {}
            if name == "DenseCRF":
                return self.inner(x, 255 * jax.nn.sigmoid(x[..., :3]))
            if name == "FPN":
                found = self.inner([x, nn.max_pool(x, (2, 2), (2, 2))], **taken)
                return found[0]
            return self.inner(x, **taken)

    net = OneMap(layer)
    variables: Any = random_variables(net, (SIDE, SIDE), channels=CHANNELS)
    image = jax.random.normal(jax.random.key(0), (1, SIDE, SIDE, CHANNELS))
    if name == "DenseCRF":  # with weights of 0 its pixels would not ask each other
        variables = net.init(jax.random.key(0), image)

    def middle(x: jax.Array) -> jax.Array:
        found: Any = net.apply(variables, x)
        pixel = found[0, found.shape[1] // 2, found.shape[2] // 2]
        return (pixel * jnp.arange(1, 1 + pixel.size)).sum()

    gradient = np.sqrt(np.abs(np.asarray(jax.jit(jax.grad(middle))(image))).sum((0, 3)))
    shape = jax.eval_shape(lambda x: net.apply(variables, x), image).shape
    count = sum(x.size for x in jax.tree.leaves(variables.get("params", {})))
    return [Panel("where the middle pixel looks", gradient)], count, list(shape)


def _arguments(layer: nn.Module) -> set[str]:
    import inspect

    return set(inspect.signature(type(layer).__call__).parameters)
