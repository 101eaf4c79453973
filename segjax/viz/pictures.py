"""Labels in colour, overlays, errors, side by side.

The colours of right and wrong are distinct also for people who do not distinguish red from
green (Okabe and Ito's palette).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segjax.types import IGNORE_LABEL
from segjax.viz.instances import COLORS

Color = Sequence[int]

IGNORE_COLOR = (224, 224, 192)
"""The colour of pixels that do not count, as in PASCAL VOC."""

MISSED = (0, 114, 178)
INVENTED = (213, 94, 0)
_RIGHT = ((70, 70, 70), (235, 235, 235))
_INK = "#333333"
_PADDING = 12

LARGEST_PANEL = 1024
"""Side of a panel of `comparison`, pixels."""


def palette(colors: Sequence[Color], ignore_color: Color = IGNORE_COLOR) -> np.ndarray:
    """Makes the table of 256 colours that indexed image files carry.

    Args:
      colors: (red, green, blue) of each class, 0 to 255, K rows.
      ignore_color: colour of `IGNORE_LABEL`; where there are 256 classes, the last one's
        own colour is kept.

    Returns:
      uint8 `[256, 3]`, black where there is no class. For Pillow:
      `image.putpalette(palette(colors).ravel().tolist())`.

    Raises:
      ValueError: if colours are not K triples of 0 to 255, or more than 256.

    Example:
      >>> palette([(0, 0, 0), (250, 0, 0)])[[1, 2, 255]].tolist()
      [[250, 0, 0], [0, 0, 0], [224, 224, 192]]
    """
    rows = np.asarray(colors, int).reshape(-1, np.shape(colors)[-1])
    if rows.shape[1] != 3 or len(rows) > 256 or rows.min() < 0 or rows.max() > 255:
        raise ValueError(
            f"colors must be at most 256 triples of 0 to 255, got {list(colors)}"
        )
    table = np.zeros((256, 3), np.uint8)
    table[IGNORE_LABEL] = ignore_color
    table[: len(rows)] = rows
    return table


def colorize(
    label: np.ndarray, colors: Sequence[Color], ignore_color: Color = IGNORE_COLOR
) -> np.ndarray:
    """Paints each class in its colour.

    Args:
      label: integers `[H, W]`, classes or `IGNORE_LABEL`.
      colors: (red, green, blue) of each class, K rows.
      ignore_color: colour of pixels that do not count.

    Returns:
      uint8 `[H, W, 3]`.

    Raises:
      ValueError: if the label holds a class without a colour.

    Example:
      >>> colorize(np.array([[0, 1]]), [(9, 9, 9), (0, 80, 0)]).tolist()
      [[[9, 9, 9], [0, 80, 0]]]
    """
    label = np.asarray(label)
    known = (label >= 0) & (label < len(colors)) | (label == IGNORE_LABEL)
    if not known.all():
        raise ValueError(
            f"label holds class {label[~known][0]}, but there are {len(colors)} colors"
        )
    return palette(colors, ignore_color)[label]


def to_display(image: np.ndarray) -> np.ndarray:
    """Makes an image of any type fit to be looked at.

    Bytes stay as they are. Of all else the first to the last percentile of the finite
    values is stretched over black to white, all channels alike; NaN becomes black.

    Args:
      image: `[H, W]` or `[H, W, C]`, any real type or bool. One channel is grey, of two
        the third is black, of more than three the first three are shown.

    Returns:
      uint8 `[H, W, 3]`.

    Raises:
      ValueError: if the array has no such shape.
    """
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or not image.size:
        raise ValueError(f"image must be [H, W] or [H, W, C], got shape {image.shape}")
    image = image[..., :3]
    if image.dtype != np.uint8:
        values = image.astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 0.0)
        if image.dtype == bool:
            low, high = 0.0, 1.0
        elif high <= low:
            # Nothing but outliers differs: a flat image is mid-grey, not noise.
            low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        scale = 255.0 / (high - low) if high > low else 0.0
        stretched = (values - low) * scale + (0.0 if scale else 127.0)
        stretched = np.nan_to_num(stretched, nan=0.0, posinf=255.0, neginf=0.0)
        image = np.clip(np.rint(stretched), 0, 255).astype(np.uint8)
    if image.shape[-1] == 1:
        return np.repeat(image, 3, axis=-1)
    return np.pad(image, ((0, 0), (0, 0), (0, 3 - image.shape[-1])))


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    colors: Sequence[Color],
    alpha: float = 0.35,
) -> np.ndarray:
    """Lays the colours of the classes over an image, with crisp borders.

    The inside of a region is tinted; its outermost pixels have the full colour. Ignored
    pixels show the bare image.

    Args:
      image: `[H, W]` or `[H, W, C]`, any real type (`to_display`).
      label: integers `[H, W]`, classes or `IGNORE_LABEL`.
      colors: (red, green, blue) of each class.
      alpha: strength of the tint, 0 nothing to 1 opaque.

    Returns:
      uint8 `[H, W, 3]`.

    Raises:
      ValueError: if the sizes differ.
    """
    shown = to_display(image)
    _check_same_size(label, shown, "label", "image")
    label = np.asarray(label)
    tinted = _tinted(shown, colorize(label, colors), _borders(label), alpha)
    return np.where((label == IGNORE_LABEL)[..., None], shown, tinted)


def overlay_instances(
    image: np.ndarray, numbers: np.ndarray, alpha: float = 0.35
) -> np.ndarray:
    """Lays a colour for each object over an image, with crisp outlines.

    Colours are given by number, in turn, so that an object that keeps its number from page to
    page keeps its colour.

    Args:
      image: `[H, W]` or `[H, W, C]`, any real type (`to_display`).
      numbers: integers `[H, W]`, 0 where there is no object, which shows the bare image.
      alpha: strength of the tint, 0 nothing to 1 opaque.

    Returns:
      uint8 `[H, W, 3]`.

    Raises:
      ValueError: if the sizes differ.

    Example:
      >>> overlay_instances(np.zeros((1, 3), np.uint8), np.array([[0, 1, 1]])).tolist()
      [[[0, 0, 0], [230, 159, 0], [80, 56, 0]]]
    """
    shown = to_display(image)
    numbers = np.asarray(numbers)
    _check_same_size(numbers, shown, "numbers", "image")
    paint = np.array(COLORS, np.uint8)[(numbers - 1) % len(COLORS)]
    # Marked on the side of the object, also where the background comes first.
    border = _borders(numbers) | _borders(numbers[::-1, ::-1])[::-1, ::-1]
    tinted = _tinted(shown, paint, border, alpha)
    return np.where((numbers == 0)[..., None], shown, tinted)


def _tinted(
    shown: np.ndarray, paint: np.ndarray, border: np.ndarray, alpha: float
) -> np.ndarray:
    """Mixes a picture with its paint, which covers the borders."""
    tinted = np.rint(shown * (1.0 - alpha) + paint * alpha).astype(np.uint8)
    return np.where(border[..., None], paint, tinted)


def _borders(label: np.ndarray) -> np.ndarray:
    """Marks the pixel on this side of each border, one pixel wide."""
    border = np.zeros(label.shape, bool)
    border[:, :-1] |= label[:, :-1] != label[:, 1:]
    border[:-1] |= label[:-1] != label[1:]
    return border


def error_map(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Shows where a prediction is wrong, and in which direction.

    With two classes: right pixels dark (class 0) or light (class 1); blue where class 0
    was missed, orange where it was invented. In a map of membrane and cells blue is a
    gap in the membrane and orange a membrane too many. With more classes right
    pixels are light and wrong ones orange. Ignored pixels are grey.

    Args:
      label: true classes, integers `[H, W]`.
      prediction: predicted classes, integers `[H, W]`.

    Returns:
      uint8 `[H, W, 3]`.

    Raises:
      ValueError: if the sizes differ.
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    _check_same_size(label, prediction, "label", "prediction")
    counted = label != IGNORE_LABEL
    binary = prediction.max() <= 1 and label.max(initial=0, where=counted) <= 1
    truth = label == 1 if binary else np.ones(label.shape, bool)
    shown = np.array(_RIGHT, np.uint8)[truth.astype(int)]
    wrong = label != prediction
    shown[wrong] = INVENTED
    if binary:
        shown[wrong & (label == 0)] = MISSED
    shown[~counted] = IGNORE_COLOR
    return shown


def _check_same_size(a: np.ndarray, b: np.ndarray, first: str, second: str) -> None:
    if np.ndim(a) != 2 or np.shape(a) != np.shape(b)[:2]:
        raise ValueError(
            f"{first} and {second} must have one size, got {np.shape(a)} and {np.shape(b)}"
        )


def comparison(
    image: np.ndarray,
    label: np.ndarray | None,
    prediction: np.ndarray,
    colors: Sequence[Color],
    names: Sequence[str],
) -> Image.Image:
    """Puts image, label, prediction and error side by side, with captions and a legend.

    Args:
      image: `[H, W]` or `[H, W, C]`, any real type.
      label: true classes, integers `[H, W]`; None where there is none.
      prediction: predicted classes, integers `[H, W]`.
      colors: (red, green, blue) of each class, K rows.
      names: names of the classes, K.

    Returns:
      An RGB picture. Small images are magnified by an integer, pixels staying crisp; of
      those with more than `LARGEST_PANEL` pixels a side, every second pixel is shown, or
      every third, and so on.

    Raises:
      ValueError: if sizes differ, or a class has no colour.
    """
    _check_same_size(prediction, image, "prediction", "image")
    step = math.ceil(max(prediction.shape) / LARGEST_PANEL)
    shown = image[::step, ::step]
    panels = [("image", to_display(shown))]
    legend = list(zip(names, colors, strict=True))
    if label is not None:
        panels.append(("label", colorize(label[::step, ::step], colors)))
    panels.append(("prediction", colorize(prediction[::step, ::step], colors)))
    if label is not None:
        counted = np.asarray(label) != IGNORE_LABEL
        wrong = np.mean(np.asarray(label)[counted] != np.asarray(prediction)[counted])
        caption = f"error: {wrong:.1%} of the pixels" if counted.any() else "error"
        errors = error_map(label[::step, ::step], prediction[::step, ::step])
        panels.append((caption, errors))
        if len(names) == 2:
            legend += error_directions(names)
        else:
            legend.append(("wrong", INVENTED))
        if not counted.all():
            legend.append(("does not count", IGNORE_COLOR))
    return _lay_out(panels, legend)


def error_directions(names: Sequence[str]) -> list[tuple[str, Color]]:
    """Names the errors of two classes after the one that is looked for, with their colours."""
    if names[0].lower() == "background":
        # Where the background was invented, the other class was missed.
        return [(f"{names[1]} missed", INVENTED), (f"{names[1]} invented", MISSED)]
    return [(f"{names[0]} missed", MISSED), (f"{names[0]} invented", INVENTED)]


def _lay_out(
    panels: Sequence[tuple[str, np.ndarray]], legend: Sequence[tuple[str, Color]]
) -> Image.Image:
    """Plots panels in a row, their captions above, one legend below."""
    height, width = panels[0][1].shape[:2]
    zoom = max(1, math.ceil(256 / width))
    width, height = width * zoom, height * zoom
    size = max(13, round(width / 26))
    font = ImageFont.load_default(size)
    line = round(size * 1.7)
    total = len(panels) * (width + _PADDING) + _PADDING

    # Where each entry of the legend begins; it wraps at the right edge.
    places, x, y = [], _PADDING, line + height + _PADDING
    for name, _ in legend:
        wide = round(size * 2.6 + font.getlength(name))
        if x > _PADDING and x + wide > total:
            x, y = _PADDING, y + line
        places.append((x, y))
        x += wide
    canvas = Image.new("RGB", (total, y + line + _PADDING // 2), "white")
    plot = ImageDraw.Draw(canvas)
    for i, (caption, panel) in enumerate(panels):
        left = _PADDING + i * (width + _PADDING)
        plot.text((left, line / 2), caption, _INK, font, anchor="lm")
        shown = Image.fromarray(panel).resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(shown, (left, line))
    for (name, color), (x, y) in zip(legend, places, strict=True):
        box = (x, y + (line - size) // 2, x + size, y + (line + size) // 2)
        plot.rectangle(box, fill=tuple(color), outline="#999999")
        plot.text((x + size * 1.5, y + line / 2), name, _INK, font, anchor="lm")
    return canvas
