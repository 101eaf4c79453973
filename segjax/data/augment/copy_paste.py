"""Copy-paste: objects of another record are put over an example.

Ghiasi, Cui, Srinivas, Qian, Lin, Cubuk, Le, Zoph, CVPR 2021, arXiv 2012.07177. Both images are
scaled and mirrored at random, and a random subset of the objects of one is pasted on the other,
at the place where they are. Edges are not blended, which the paper found to make no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from segjax.data.augment import warp
from segjax.data.augment.arguments import FACTORS, interval, number
from segjax.data.augment.crops import magnified, sample_start
from segjax.errors import UserError
from segjax.rle import boxes_of, decode, encode
from segjax.types import IGNORE_LABEL, Example, Record


def copy_paste(
    examples: tuple[Example, Callable[[], Example]],
    rng: np.random.Generator,
    *,
    probability: float = 0.5,
    fraction: float = 0.5,
    classes: Sequence[int] | None = None,
) -> Example:
    """Puts objects of another example over an example, with their labels and weights.

    An object is a connected region of one label. In a pipeline it comes last, wherever it is
    listed: the other example, of a record that is chosen at random, was cropped and changed
    by the same augmentations on its own.

    Args:
      examples: the example, and what makes the other one, of the same size.
      rng: source of randomness.
      probability: how often anything is pasted at all.
      fraction: probability of each object to be pasted.
      classes: values of the labels that are objects; None is all but 0.

    Returns:
      An example of the same size.

    Raises:
      ValueError: when a number is out of its range.
    """
    example, make_other = examples
    probability = number("probability", probability, 0, 1)
    fraction = number("fraction", fraction, 0, 1)
    if classes is not None:
        classes = [int(number("classes", value, 0, 1 << 31)) for value in classes]
    if rng.random() >= probability:
        return example
    other = make_other()
    label = other["label"]
    pasted = np.zeros(label.shape, bool)
    for value in np.unique(label):
        if value == IGNORE_LABEL or not (
            value if classes is None else value in classes
        ):
            continue
        numbers, count = ndimage.label(label == value)
        chosen = np.concatenate([[False], rng.random(count) < fraction])
        pasted |= chosen[numbers]
    return {
        key: np.where(pasted[..., None] if x.ndim == 3 else pasted, other[key], x)
        for key, x in example.items()
    }


def paste_objects(
    records: tuple[Record, Callable[[], Record]],
    rng: np.random.Generator,
    *,
    probability: float = 0.5,
    fraction: float = 0.5,
    scale: Sequence[float] = (0.5, 2.0),
    min_visibility: float = 0.1,
) -> Record:
    """Puts objects of another record over the image of a record, with their masks.

    The other image is magnified, mirrored with probability 1/2, and laid at a random place.
    What the objects hide is taken from the masks of the record, whose boxes and areas
    become those of what is left. Regions of many objects are not pasted.

    Args:
      records: a record of objects (`segjax.data.instance.records`), and what reads the
        other one.
      rng: source of randomness.
      probability: how often anything is pasted at all.
      fraction: probability of each object to be pasted.
      scale: range of the magnification, sampled uniformly in its logarithm.
      min_visibility: fraction of an object's pixels that must be left for it to be kept.

    Returns:
      A record with an image of the same size: the objects that are left, then the new ones.

    Raises:
      ValueError: when a range is not `(low, high)`, or a number is out of its range.
      UserError: if objects have keypoints.
    """
    record, read_other = records
    probability = number("probability", probability, 0, 1)
    fraction = number("fraction", fraction, 0, 1)
    least = number("min_visibility", min_visibility, 0, 1)
    low, high = np.log(interval("scale", scale, *FACTORS))
    if rng.random() >= probability:
        return record
    other = read_other()
    if "keypoints" in record or "keypoints" in other:
        raise UserError(
            "config.pipeline.augment: 'copy_paste' does not know which keypoints a pasted "
            "object hides; leave it out where objects have keypoints."
        )
    chosen = rng.random(len(other["masks"])) < fraction
    place = _Placed(record["image"].shape, other["image"].shape, low, high, rng)
    masks = {
        i: place.mask(decode(other["masks"][i]))
        for i in np.flatnonzero(chosen & ~np.asarray(other["crowd"])).tolist()
    }
    masks = {i: mask for i, mask in masks.items() if mask.any()}
    if not masks:
        return record
    covered = np.logical_or.reduce(list(masks.values()))
    image, over = _alike(record["image"], other["image"])
    return {
        **record,
        "image": np.where(covered[..., None], place.image(over), image),
        **_objects(record, other, covered, masks, least),
    }


class _Placed:
    """Where pixels of an image see the other image, once magnified, mirrored and moved."""

    def __init__(
        self,
        shape: tuple[int, ...],
        other: tuple[int, ...],
        low: float,
        high: float,
        rng: np.random.Generator,
    ) -> None:
        canvas = magnified((other[0], other[1]), float(np.exp(rng.uniform(low, high))))
        mirrored = rng.random() < 0.5
        self._at, self._inside = [], []
        for length, side, large in zip(shape[:2], other[:2], canvas, strict=True):
            at = sample_start(rng, large, length) + np.arange(length)
            self._inside.append((at >= 0) & (at < large))
            self._at.append(((at + 0.5) * side / large - 0.5).astype(np.float32))
        if mirrored:
            self._at[1] = other[1] - 1 - self._at[1]

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Reads a mask `[h, w]` from the nearest pixels, bool `[H, W]`."""
        nearest = [
            np.clip(np.floor(at + 0.5).astype(np.intp), 0, side - 1)
            for at, side in zip(self._at, mask.shape, strict=True)
        ]
        return mask[np.ix_(*nearest)] & np.logical_and.outer(*self._inside)

    def image(self, image: np.ndarray) -> np.ndarray:
        """Interpolates an image `[h, w, C]` bilinearly; its type stays."""
        return np.rint(warp.between_rows_and_columns(image, *self._at)).astype(
            image.dtype
        )


def _alike(image: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two images `[H, W, C]` of one type and number of channels: those of the larger ones."""
    dtype = np.promote_types(image.dtype, other.dtype)
    channels = max(image.shape[-1], other.shape[-1])

    def brought(x: np.ndarray) -> np.ndarray:
        x = np.broadcast_to(x, (*x.shape[:2], channels))
        if x.dtype == dtype:
            return x
        return x.astype(dtype) * dtype.type(
            np.iinfo(dtype).max // np.iinfo(x.dtype).max
        )

    return brought(image), brought(other)


def _objects(
    record: Record,
    other: Record,
    covered: np.ndarray,
    masks: Mapping[int, np.ndarray],
    least: float,
) -> dict[str, Any]:
    """What is left of the objects of a record, and the pasted ones, by their places."""
    boxes, left, areas, rles = [], [], [], []
    for i, rle in enumerate(record["masks"]):
        whole = decode(rle)
        seen = whole & ~covered
        count, total = int(seen.sum()), int(whole.sum())
        if not count or (count < least * total and not record["crowd"][i]):
            continue
        is_same = count == total
        rles.append(rle if is_same else encode(seen))
        boxes.append(record["boxes"][i] if is_same else boxes_of(rles[-1:])[0])
        areas.append(record["areas"][i] if is_same else count)
        left.append(i)
    new = [encode(mask) for mask in masks.values()]
    joined = lambda key: np.concatenate([record[key][left], other[key][list(masks)]])
    return {
        "boxes": np.concatenate([np.reshape(boxes, (-1, 4)), boxes_of(new)]).astype(
            np.float32
        ),
        "classes": joined("classes"),
        "crowd": joined("crowd"),
        "areas": np.array([*areas, *(rle.area for rle in new)], np.float32),
        "masks": (*rles, *new),
    }
