"""The U-Net's weight of pixels: the gaps between touching cells count most.

`w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma**2))`

d1 and d2 are the distances of x to the borders of its nearest and second-nearest cell, w_c
balances the frequencies of the classes. Source: Ronneberger, Fischer and Brox 2015, arXiv
1505.04597, section 3, equation 2.
"""

from __future__ import annotations

import collections
import inspect
import math
import threading
from typing import Any

import numpy as np
from scipy import ndimage

from segjax.data.dataset import LazyPage, parts_of
from segjax.data.files.plane import Window, with_margin
from segjax.errors import UserError, suggestion
from segjax.types import IGNORE_LABEL, Record

LARGEST = 1e5
"""Of `w0` and `sigma`."""

NEGLIGIBLE = 1e-4
"""Where the second term of the weight is smaller than this, it may be taken as 0."""

_GIVEN = ("cells", "ignored")
"""Arguments of `border_weight` that come from a record."""

_WHOLE = slice(None), slice(None)


def border_weight(
    cells: np.ndarray,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    everywhere: bool = False,
    balance: bool = False,
    ignored: np.ndarray | None = None,
) -> np.ndarray:
    """Weighs pixels by how narrow the gap between two cells is around them.

    The border of a cell are its pixels with one of their four neighbours outside it; past
    the edge of the image nothing is known, so that edge makes no border. With fewer than
    two cells the second term is 0.

    Where the term is below `NEGLIGIBLE`, it is 0. So the weights in a part of an image depend
    on nothing farther away than `reach_of`, and each cell is measured in a window alone.

    Args:
      cells: number of the cell each pixel lies in, `[H, W]` integers, 0 for background.
      w0: weight of a pixel on two borders at once.
      sigma: width of the gap that counts, in pixels.
      everywhere: gives pixels inside cells the second term, too, as the paper's formula
        does; if False, a common choice, only background gets it.
      balance: w_c is `pixels / (2 * pixels of the class)` for the classes cell and
        background, so that both weigh the same in sum and the mean of w_c is 1; if False
        it is 1.
      ignored: pixels that do not count, `[H, W]` bool; they are of neither class, and
        their w_c is 1. None: all count.

    Returns:
      Weights, `[H, W]` float32.

    Raises:
      ValueError: when `cells` is not an integer plane, `ignored` is of another shape, or `w0` or
        `sigma` is out of range.

    Example:
      >>> import numpy as np
      >>> cells = np.array([[1, 1, 0, 2, 2]])
      >>> border_weight(cells).round(2)
      array([[ 1.  ,  1.  , 10.23,  1.  ,  1.  ]], dtype=float32)
    """
    integers = np.issubdtype(cells.dtype, np.integer)
    if cells.ndim != 2 or not integers or cells.min(initial=0) < 0:
        raise ValueError(
            "cells must be [H, W] integers that are not negative,"
            f" got {cells.dtype} {cells.shape}"
        )
    if not (0 <= w0 <= LARGEST and 0 < sigma <= LARGEST):
        raise ValueError(
            f"w0 must be from 0 and sigma above 0 to {LARGEST:g}, got {w0} and {sigma}"
        )
    if ignored is not None and ignored.shape != cells.shape:
        raise ValueError(
            f"ignored must be of the shape of cells, {cells.shape}, got {ignored.shape}"
        )
    by_class = class_weights(cells, ignored) if balance else (1.0, 1.0)
    weight = _by_class(cells, ignored, by_class)
    return weight + _border_term(cells, w0, sigma, everywhere)


def reach_of(w0: float, sigma: float) -> int:
    """How far away a cell can be for the weight to depend on it, pixels.

    Example:
      >>> reach_of(10.0, 5.0)
      24
    """
    if w0 <= NEGLIGIBLE:
        return 0
    return math.ceil(sigma * math.sqrt(2 * math.log(w0 / NEGLIGIBLE)))


def _border_term(
    cells: np.ndarray, w0: float, sigma: float, everywhere: bool
) -> np.ndarray:
    reach = reach_of(w0, sigma)
    if not reach:
        return np.zeros(cells.shape, np.float32)
    nearest, second = two_distances(cells, reach)
    term = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    counts = term >= NEGLIGIBLE
    return np.where(counts if everywhere else counts & (cells == 0), term, 0)


def cells_of(label: np.ndarray, cell_class: int) -> np.ndarray:
    """Numbers the cells of a semantic label, `[H, W]`: the connected parts of a class.

    Pixels that touch at a corner only are apart, so that a diagonal membrane one pixel
    wide separates.
    """
    return ndimage.label(label == cell_class)[0]


class BorderWeights:
    """Border weights of records, computed when first asked for and kept in memory.

    The map of a record is the same in every epoch. The maps used last are kept, up to
    `limit` bytes; the others are computed again. May be called from several threads.

    Attributes:
      cell_class: class whose connected parts are the cells, where a record has no
        `cells` `[H, W]` of its own.
      limit: bytes of maps that are kept.
      arguments: the others of `border_weight`.
    """

    def __init__(
        self, *, cell_class: int = 1, limit: int = 2**28, **arguments: Any
    ) -> None:
        known = inspect.signature(border_weight).parameters
        defaults = {k: x.default for k, x in known.items() if k not in _GIVEN}
        allowed = {"cell_class", *defaults}
        for argument in arguments.keys() - allowed:
            raise UserError(
                f"config.pipeline.border_weight has no argument '{argument}'."
                f"{suggestion(argument, allowed)}"
            )
        try:
            border_weight(np.zeros((1, 1), np.int32), **arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"config.pipeline.border_weight: {error}.") from error
        self.cell_class, self.limit = cell_class, limit
        self.arguments = {**defaults, **arguments}
        self._by_class: dict[int, tuple[float, float]] = {}
        self._kept: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, record_id: int, record: Record) -> np.ndarray | LazyPage:
        """Returns the weights of a record, `[H, W]` float32, not to be written into.

        Of a page whose cells are read by windows, and whose map would not be kept beside the
        others, they are computed window by window: the same numbers.
        """
        with self._lock:
            if record_id in self._kept:
                self._kept.move_to_end(record_id)
                return self._kept[record_id]
            used = sum(w.nbytes for w in self._kept.values())
        cells = parts_of(record).get("cells")
        if (
            isinstance(cells, LazyPage)
            and used + 4 * math.prod(cells.shape) > self.limit
        ):
            return LazyPage(cells.shape, lambda at: self._part(record_id, record, at))
        cells, label = record.get("cells"), np.asarray(record["label"])
        if cells is None:
            cells = cells_of(label, self.cell_class)
        ignored = label == IGNORE_LABEL
        weight = border_weight(np.asarray(cells), ignored=ignored, **self.arguments)
        weight.flags.writeable = False
        with self._lock:
            self._kept[record_id] = weight
            while sum(w.nbytes for w in self._kept.values()) > self.limit:
                self._kept.popitem(last=False)
        return weight

    def _part(
        self, record_id: int, record: Record, window: Window | None
    ) -> np.ndarray:
        """Computes the weights of a window, from the cells in it and in reach of it."""
        page, label = (parts_of(record)[key] for key in ("cells", "label"))
        w0, sigma, everywhere, balance = (
            self.arguments[key] for key in ("w0", "sigma", "everywhere", "balance")
        )
        margin = reach_of(w0, sigma) + 1  # a border is known by the pixel beyond it
        around, within = with_margin(window or _WHOLE, margin, page.shape)
        cells = page[around]
        if not balance:
            by_class = 1.0, 1.0
        else:
            if record_id not in self._by_class:
                whole = np.asarray(record["cells"]), record["label"] == IGNORE_LABEL
                self._by_class[record_id] = class_weights(*whole)
            by_class = self._by_class[record_id]
        weight = _by_class(cells, label[around] == IGNORE_LABEL, by_class)
        return (weight + _border_term(cells, w0, sigma, everywhere))[within]


def two_distances(cells: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the borders of the nearest and the second-nearest cell.

    Args:
      cells: number of the cell each pixel lies in, `[H, W]`, 0 for background.
      reach: distances up to this are exact; larger ones may be infinite, pixels.

    Returns:
      Nearest and second-nearest, `[H, W]` float32 each, pixels.
    """
    compact = np.unique(cells, return_inverse=True)[1].reshape(cells.shape)
    compact = compact + (1 if cells.min(initial=1) > 0 else 0)
    nearest = np.full(cells.shape, np.inf, np.float32)
    second = nearest.copy()
    for number, box in enumerate(ndimage.find_objects(compact), 1):
        window = tuple(
            slice(max(s.start - reach, 0), min(s.stop + reach, n))
            for s, n in zip(box, cells.shape, strict=True)
        )
        border = _border(compact[window] == number)
        if not border.any():
            continue
        distance = ndimage.distance_transform_edt(~border).astype(np.float32)
        first = nearest[window]
        second[window] = np.minimum(second[window], np.maximum(first, distance))
        nearest[window] = np.minimum(first, distance)
    return nearest, second


def _border(mask: np.ndarray) -> np.ndarray:
    """Pixels of the mask that have one of their four neighbours outside it."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def class_weights(cells: np.ndarray, ignored: np.ndarray | None) -> tuple[float, float]:
    """Weights of the classes cell and background that give both the same sum, and the mean 1."""
    mask = (cells if ignored is None else cells[~ignored]) > 0
    fraction = mask.mean() if mask.size else 0
    if fraction in (0, 1):
        return 1.0, 1.0
    return 0.5 / fraction, 0.5 / (1 - fraction)


def _by_class(
    cells: np.ndarray, ignored: np.ndarray | None, weights: tuple[float, float]
) -> np.ndarray:
    """The weights of the classes cell and background, pixel by pixel."""
    inside, outside = np.array(weights, np.float32)
    weight = np.where(cells > 0, inside, outside)
    if ignored is not None:
        weight[ignored] = 1
    return weight
