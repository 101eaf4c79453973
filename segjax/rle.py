"""Masks as run lengths, in the form of COCO: what data, metrics and results exchange.

A mask `[H, W]` is read column by column, `y + H * x`, and stored as the lengths of its
runs of 0 and of 1 in turn, the first one of 0. COCO writes these counts as a list, or as
text, in groups of five bits, each a character: every count from the fourth on as its difference
to the one before the last (`cocodataset/cocoapi`, `maskApi.c`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.errors import UserError, shown

_BITS, _SIGN, _MORE, _FIRST = 5, 16, 32, 48
"""Of a character: five bits, the sign among them, a sixth for "more follow", from "0"."""

_CHARACTERS = 12
"""Of one number, at most: 60 bits, which int64 holds."""


class Rle(NamedTuple):
    """A mask as run lengths.

    Attributes:
      size: `(height, width)`, pixels.
      counts: lengths of the runs of 0, 1, 0, ..., int64, `height * width` in all.
    """

    size: tuple[int, int]
    counts: np.ndarray

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.counts[1::2].sum())

    @property
    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Where its runs of 1 start and end (exclusive), `y + H * x`, int64 each."""
        edges = self.counts.cumsum()
        return edges[0::2][: len(edges) // 2], edges[1::2]


def encode(mask: np.ndarray) -> Rle:
    """Encodes a mask as run lengths.

    Args:
      mask: `[H, W]`, bool or numbers of which all but 0 count.

    Returns:
      The run lengths.

    Raises:
      ValueError: if it has another shape.

    Example:
      >>> encode(np.array([[0, 1], [1, 1]])).counts.tolist()
      [1, 3]
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"mask must be [H, W], got shape {mask.shape}")
    flat = mask.T.ravel().astype(bool)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first = [0] if flat.size and flat[0] else []
    edges = np.concatenate([first, edges, [flat.size]]).astype(np.int64)
    return Rle((mask.shape[0], mask.shape[1]), np.diff(edges, prepend=0))


def encode_label(label: np.ndarray) -> tuple[Rle, ...]:
    """Encodes each object of a label image as run lengths, in one pass over the pixels.

    Args:
      label: numbers of objects, integers `[H, W]`; 0 is none.

    Returns:
      A mask for each number that occurs, in their order.

    Example:
      >>> [rle.counts.tolist() for rle in encode_label(np.array([[7, 2, 2, 0, 7]]))]
      [[1, 2, 2], [0, 1, 3, 1]]
    """
    flat = label.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([np.zeros(min(flat.size, 1), np.int64), edges])
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    order = order[values[order] > 0]
    parts = np.split(order, np.flatnonzero(np.diff(values[order])) + 1)
    size = (label.shape[0], label.shape[1])
    found = []
    for part in parts if len(order) else ():
        places = np.stack([starts[part], ends[part]], axis=1).ravel()
        if places[-1] < flat.size:
            places = np.append(places, flat.size)
        found.append(Rle(size, np.diff(places, prepend=0)))
    return tuple(found)


def decode(rle: Rle) -> np.ndarray:
    """Turns run lengths into a mask, bool `[H, W]`.

    Example:
      >>> decode(Rle((2, 2), np.array([1, 3]))).astype(int).tolist()
      [[0, 1], [1, 1]]
    """
    values = np.arange(len(rle.counts)) % 2 == 1
    return np.repeat(values, rle.counts).reshape(rle.size[::-1]).T


def from_positions(positions: np.ndarray, size: tuple[int, int]) -> Rle:
    """Makes run lengths of the positions `y + H * x` at which a mask changes.

    Two changes at one position cancel each other.

    Args:
      positions: integers `[N]` in any order; those of `height * width` mean nothing.
      size: `(height, width)`.

    Returns:
      The run lengths.
    """
    total = size[0] * size[1]
    places, times = np.unique(np.asarray(positions, np.int64), return_counts=True)
    places = places[(times % 2 == 1) & (places < total)]
    edges = np.concatenate([places, [total]])
    return Rle(size, np.diff(edges, prepend=0))


def union(rles: Sequence[Rle]) -> Rle:
    """Joins masks of one size; at least one.

    Example:
      >>> left, right = encode(np.array([[1, 0, 0]])), encode(np.array([[0, 0, 1]]))
      >>> union([left, right]).counts.tolist()
      [0, 1, 1, 1]
    """
    if len(rles) == 1:
        return rles[0]
    starts, ends = (
        np.concatenate(x) for x in zip(*(r.runs for r in rles), strict=True)
    )
    places = np.concatenate([starts, ends])
    steps = np.repeat([1, -1], len(starts))
    order = np.lexsort((-steps, places))
    places, depth = places[order], steps[order].cumsum()
    before = depth - steps[order]
    changes = places[(depth == 0) != (before == 0)]
    return from_positions(changes, rles[0].size)


def boxes_of(rles: Sequence[Rle]) -> np.ndarray:
    """The smallest boxes around masks, `(y0, x0, y1, x1)` with the end exclusive.

    Returns:
      float32 `[N, 4]`; zeros for a mask without pixels.

    Example:
      >>> boxes_of([encode(np.array([[0, 0, 0], [0, 1, 1]]))]).tolist()
      [[1.0, 1.0, 2.0, 3.0]]
    """
    boxes = np.zeros((len(rles), 4), np.float32)
    for box, rle in zip(boxes, rles, strict=True):
        starts, ends = rle.runs
        full = ends > starts
        if not full.any():
            continue
        height, first, last = rle.size[0], starts[full], ends[full] - 1
        top, bottom = first % height, last % height
        # A run that goes on in the next column touches the lower and the upper rim.
        wraps = first // height != last // height
        box[0] = 0 if wraps.any() else top.min()
        box[2] = height if wraps.any() else bottom.max() + 1
        box[1], box[3] = (first // height).min(), (last // height).max() + 1
    return boxes


def intersections(rles: Sequence[Rle], others: Sequence[Rle]) -> np.ndarray:
    """Counts the pixels that masks share, from the runs alone.

    The number of pixels of a mask before a position is linear between the ends of its
    runs, so a run of another mask shares with it the difference of two interpolations.

    Args:
      rles: N masks.
      others: M masks of the same size.

    Returns:
      float64 `[N, M]`, integers.
    """
    shared = np.zeros((len(rles), len(others)))
    if not len(rles) or not len(others):
        return shared
    runs = [r.runs for r in rles]
    owner = np.repeat(np.arange(len(rles)), [len(starts) for starts, _ in runs])
    starts, ends = (np.concatenate(x) for x in zip(*runs, strict=True))
    for column, other in enumerate(others):
        edges = np.concatenate([[0], other.counts.cumsum()])
        ones = other.counts * (np.arange(len(other.counts)) % 2)
        before = np.concatenate([[0], ones.cumsum()])
        pixels = np.interp(ends, edges, before) - np.interp(starts, edges, before)
        shared[:, column] = np.bincount(owner, pixels, minlength=len(rles))
    return np.rint(shared)


def to_string(rle: Rle) -> str:
    """Writes the counts as COCO's text.

    Example:
      >>> to_string(encode(np.eye(4)))
      '01400000'
    """
    counts = rle.counts.astype(np.int64)
    differences = counts.copy()
    differences[3:] -= counts[1:-2]
    text = bytearray()
    for number in differences.tolist():
        more = True
        while more:
            bits = number & 31
            number >>= _BITS
            more = number != (-1 if bits & _SIGN else 0)
            text.append(_FIRST + (bits | _MORE if more else bits))
    return text.decode("ascii")


def from_string(text: str | bytes, size: tuple[int, int]) -> Rle:
    """Reads COCO's text.

    Args:
      text: what `to_string` writes.
      size: `(height, width)`.

    Returns:
      The run lengths.

    Raises:
      UserError: if it is not such a text, or its runs are not `height * width` in all.

    Example:
      >>> decode(from_string('01400000', (4, 4))).astype(int).tolist()[1]
      [0, 1, 0, 0]
    """
    # A character outside of ASCII becomes bytes above all that the text has.
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    bits = np.frombuffer(raw, np.uint8).astype(np.int64) - _FIRST
    if len(bits) and (bits.min() < 0 or bits.max() >= 64 or bits[-1] & _MORE):
        raise UserError(
            f"a mask's run lengths are given as {shown(text)}, which is not a text of "
            "COCO's form; give the counts as a list or as this text."
        )
    last = bits & _MORE == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    place = np.arange(len(bits)) - np.repeat(starts, ends - starts + 1)
    numbers, total = bits, int(size[0]) * int(size[1])
    if len(bits) and place.max() < _CHARACTERS:
        shift = _BITS * place
        numbers = np.add.reduceat((bits & 31) << shift, starts)
        negative = (bits[ends] & _SIGN) != 0
        numbers -= np.where(negative, np.int64(1) << (shift[ends] + _BITS), 0)
    if len(bits) and (place.max() >= _CHARACTERS or np.abs(numbers).max() > total):
        raise UserError(
            f"a mask's run lengths are given as {shown(text)}, which holds a number "
            f"too large for an image of {size[0]} x {size[1]}; give the mask in the size "
            "of its image."
        )
    # Once a sum has left the image, `from_counts` refuses it, whatever the later ones.
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return from_counts(numbers, size)


def from_counts(counts: Any, size: tuple[int, int]) -> Rle:
    """Checks run lengths against a size, whatever it was that a file held.

    Args:
      counts: a list of integers, or an array of them `[R]`; floats that are integers
        count as such.
      size: `(height, width)`.

    Returns:
      The run lengths.

    Raises:
      UserError: if they are not integers, one is negative, or they are not
        `height * width` in all.
    """
    height, width = (int(n) for n in size)
    values, total = _integers(counts), height * width
    if values is None:
        raise UserError(
            f"a mask's run lengths are {shown(counts)}, where a list of integers belongs."
        )
    if len(values) and values.min() < 0:
        raise UserError(
            f"a mask's run lengths hold {values.min()}; each must be at least 0."
        )
    # No sum can wrap unseen: the first one that is too large is less than twice `total`.
    fits = not len(values) or values.max() <= total < 1 << 62
    edges = values.cumsum() if fits else values
    if not fits or edges.max(initial=0) != total or edges[-1:].sum() != total:
        raise UserError(
            f"a mask's run lengths add up to {sum(values.tolist())} pixels, but an image "
            f"of {height} x {width} has {total}; give the mask in the size of its image."
        )
    return Rle((height, width), values)


def _integers(values: Any) -> np.ndarray | None:
    """The int64 `[R]` that a list or an array holds, None where it holds something else."""
    if not isinstance(values, np.ndarray):
        # Types first: one long text among numbers would be given room for each of them.
        if not isinstance(values, list | tuple) or not {int, float}.issuperset(
            map(type, values)
        ):
            return None
        try:
            values = np.array(values)
        except OverflowError:
            return None
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        return None
    # NaN, infinity and what int64 does not hold come out as other numbers.
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64, copy=False)
    return whole if whole is values or (whole == values).all() else None
