"""RandAugment: a few random operations, all of one strength.

Cubuk, Zoph, Shlens, Le, CVPR Workshops 2020, arXiv 1909.13719. The operations and their
ranges are those of the paper's code as torchvision has them, in 30 steps. Those that move
pixels move label and weight, too; what comes from outside the image does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from segjax.data.augment import warp
from segjax.data.augment.arguments import integer, number
from segjax.data.augment.photometric import LUMA
from segjax.types import IGNORE_LABEL, Example

LARGEST = 30
"""The magnitude at which operations are as strong as they get."""

_FILLED: Mapping[str, int] = {
    "image": 0,
    "label": IGNORE_LABEL,
    "weight": 0,
    "outside": 1,
}
"""What pixels from outside the image hold."""

_SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32)[..., None] / 13


def rand_augment(
    example: Example,
    rng: np.random.Generator,
    *,
    num_ops: int = 2,
    magnitude: float = 9.0,
) -> Example:
    """Applies random operations, one after the other, each as likely as the others.

    They are, at magnitude 30: shear by 0.3 along either axis, shift by 45 % of a side, rotation
    by 30 degrees (of these the sign is random); brightness, colour, contrast and sharpness
    by a factor of 0.1 or 1.9; posterize to 4 bits, solarize all; and of no magnitude
    autocontrast, equalize, and nothing. Colour is left out where images are not RGB.

    Args:
      example: the example; its image is in [0, 1]. In a pipeline this augmentation comes
        before the normalisation, wherever it is listed.
      rng: source of randomness.
      num_ops: operations that are applied.
      magnitude: of all of them, from 0 to 30.

    Returns:
      An example of the same size. Where it shows what was outside, the image is 0, the
      label `IGNORE_LABEL`, the weight 0.

    Raises:
      ValueError: when a number is out of its range.
    """
    return _apply((*_COLORS, *_MOVES), example, rng, num_ops, magnitude)


def rand_augment_colors(
    example: Example,
    rng: np.random.Generator,
    *,
    num_ops: int = 2,
    magnitude: float = 9.0,
) -> Example:
    """Applies random operations as `rand_augment`, but none that moves pixels.

    Args:
      example: the example; its image is in [0, 1].
      rng: source of randomness.
      num_ops: operations that are applied.
      magnitude: of all of them, from 0 to 30.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when a number is out of its range.
    """
    return _apply(tuple(_COLORS), example, rng, num_ops, magnitude)


def _apply(
    names: Sequence[str],
    example: Example,
    rng: np.random.Generator,
    num_ops: int,
    magnitude: float,
) -> Example:
    num_ops = integer("num_ops", num_ops, 0, 100)
    strength = number("magnitude", magnitude, 0, LARGEST) / LARGEST
    if example["image"].shape[-1] != 3:
        names = [name for name in names if name != "color"]
    for place in rng.integers(len(names), size=num_ops):
        signed = strength if rng.random() < 0.5 else -strength
        name = names[place]
        if name in _MOVES:
            example = _moved(example, *_MOVES[name](signed))
        else:
            image = _COLORS[name](example["image"], signed)
            example = {**example, "image": image.astype(np.float32, copy=False)}
    return example


def _moved(example: Example, matrix: np.ndarray, shift: np.ndarray) -> Example:
    """Reads pixel p of an example at `matrix (p - c) + shift * size + c`, c its centre."""
    height, width = example["image"].shape[:2]
    size = np.array([height, width])
    center = (size - 1) / 2
    at = np.moveaxis(np.indices((height, width)), 0, -1) - center
    at = (at @ matrix.T + shift * size + center).astype(np.float32)
    outside = ((at < -0.5) | (at > size - 0.5)).any(-1)
    y, x = np.moveaxis(np.clip(at, 0, size - 1), -1, 0)
    nearest = tuple(np.floor(i + 0.5).astype(np.intp) for i in (y, x))
    moved = {}
    for key, values in example.items():
        read = warp.bilinear(values, y, x) if key == "image" else values[nearest]
        read[outside] = _FILLED[key]
        moved[key] = read
    return moved


def _rotated(strength: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = (f(math.radians(30 * strength)) for f in (math.cos, math.sin))
    return np.array([[cosine, sine], [-sine, cosine]]), np.zeros(2)


_MOVES: Mapping[str, Callable[[float], tuple[np.ndarray, np.ndarray]]] = {
    "shear_x": lambda m: (np.array([[1, 0], [0.3 * m, 1]]), np.zeros(2)),
    "shear_y": lambda m: (np.array([[1, 0.3 * m], [0, 1]]), np.zeros(2)),
    "translate_x": lambda m: (np.eye(2), np.array([0, 150 / 331 * m])),
    "translate_y": lambda m: (np.eye(2), np.array([150 / 331 * m, 0])),
    "rotate": _rotated,
}
"""From the strength in [-1, 1] to matrix and shift of `_moved`."""


def _toward(image: np.ndarray, other: np.ndarray | float, m: float) -> np.ndarray:
    """Nearly `other` at -1, nearly twice as far from it at 1; clipped to [0, 1]."""
    factor = np.float32(1 + 0.9 * m)
    return np.clip(factor * image + (1 - factor) * other, 0, 1)


def _grey(image: np.ndarray) -> np.ndarray:
    """The grey `[H, W, 1]` of a colour; of other numbers of channels the mean."""
    if image.shape[-1] != 3:
        return image.mean(-1, keepdims=True)
    return (image * np.array(LUMA, np.float32)).sum(-1, keepdims=True)


def _sharpened(image: np.ndarray, m: float) -> np.ndarray:
    smooth = ndimage.correlate(image, _SMOOTHING, mode="nearest")
    return _toward(image, smooth, m)


def _posterized(image: np.ndarray, m: float) -> np.ndarray:
    levels = 2 ** (8 - round(4 * abs(m)))
    step = 256 // levels
    return np.floor(np.rint(image * 255) / step).astype(np.float32) * step / 255


def _autocontrasted(image: np.ndarray, m: float) -> np.ndarray:
    del m
    low, high = image.min((0, 1)), image.max((0, 1))
    spread = np.where(high > low, high - low, 1)
    return np.where(high > low, (image - low) / spread, image)


def _equalized(image: np.ndarray, m: float) -> np.ndarray:
    del m
    bytes_ = np.rint(image * 255).clip(0, 255).astype(np.uint8)
    planes = [
        np.asarray(ImageOps.equalize(Image.fromarray(plane)))
        for plane in np.moveaxis(bytes_, -1, 0)
    ]
    return np.stack(planes, -1).astype(np.float32) / 255


_COLORS: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "identity": lambda image, m: image,
    "brightness": lambda image, m: _toward(image, 0.0, m),
    "color": lambda image, m: _toward(image, _grey(image), m),
    "contrast": lambda image, m: _toward(image, float(_grey(image).mean()), m),
    "sharpness": _sharpened,
    "posterize": _posterized,
    "solarize": lambda image, m: np.where(image >= 1 - abs(m), 1 - image, image),
    "autocontrast": _autocontrasted,
    "equalize": _equalized,
}
"""From an image in [0, 1] and the strength in [-1, 1] to an image in [0, 1]."""
