"""One training example of objects out of a record: seen, clipped, padded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.data.augment import views as augmentation
from segjax.data.augment.augmentations import Augmentations
from segjax.data.instance.buckets import Bucket, Frame, fit_to_bucket
from segjax.errors import UserError
from segjax.rle import decode
from segjax.types import Example, Record

SMALLEST_SIDE = 1.0
"""Of a box in the example, pixels; less is dropped."""

_TOUCH = 1e-3
"""By which a box may reach beyond the picture without being clipped, pixels."""


class InstanceExampleMaker:
    """Turns a record of objects into an example, from the seed and a position alone.

    Attributes:
      records: of objects (`segjax.data.instance.records`).
      seed: of views and augmentations.
      max_objects: capacity of the example, G.
      augment: names of `segjax.data.augment.views`, with their arguments.
      resize: how an image meets its bucket (`segjax.data.instance.buckets.RESIZES`).
      mask_size: side of the masks, each cropped to its box.
      min_visibility: fraction of an object that must be left for it to be kept.
      keypoint_swap: which keypoint each one becomes in a mirror.

    Raises:
      UserError: for an augmentation or argument that does not exist, or keypoints of
        another number than `keypoint_swap`.
    """

    def __init__(
        self,
        records: Sequence[Record],
        seed: int,
        max_objects: int,
        augment: Augmentations,
        resize: str,
        mask_size: int,
        min_visibility: float,
        keypoint_swap: Sequence[int] | None,
    ) -> None:
        augmentation.check(augment)
        self.records, self.seed, self.augment = records, seed, augment
        self.max_objects, self.resize = max_objects, resize
        self.mask_size, self.min_visibility = mask_size, min_visibility
        self.keypoint_swap = None if keypoint_swap is None else list(keypoint_swap)

    def __call__(self, position: int, record_id: int, bucket: Bucket) -> Example:
        """Makes the example at a position of the stream out of a record."""
        record = self._combined(position, record_id)
        rng = np.random.default_rng((self.seed, 1, position))
        height, width = record["image"].shape[:2]
        view = augmentation.sample(self.augment, (height, width), rng)
        frame = fit_to_bucket(view, bucket, self.resize, rng)
        image = read_image(record["image"], frame)
        image = augmentation.color(self.augment, image, rng)
        return {
            "image": padded(image, bucket),
            "sizes": np.array(frame.size, np.int32),
            **self._objects(record, frame),
        }

    def _combined(self, position: int, record_id: int) -> Record:
        """A record, and what augmentations put into it from another one."""
        # 3 keeps the stream apart from those of order, views and buckets.
        rng = np.random.default_rng((self.seed, 3, position))
        other = int(rng.integers(len(self.records)))
        record, read_other = self.records[record_id], lambda: self.records[other]
        return augmentation.combine(self.augment, record, read_other, rng)

    def _objects(self, record: Record, frame: Frame) -> Example:
        """Boxes, classes, masks and keypoints of what is left of the objects."""
        boxes, masks, kept = [], [], []
        placed = frame.place_boxes(record["boxes"])
        for i, (box, rle) in enumerate(zip(placed, record["masks"], strict=True)):
            mask = decode(rle)
            clipped = self._clipped(box, mask, frame, crowd=bool(record["crowd"][i]))
            if clipped is not None:
                boxes.append(clipped)
                masks.append(mask)
                kept.append(i)
        chosen = self._chosen(np.array(boxes), record["crowd"][kept])
        ids = [kept[i] for i in chosen]
        G, m = self.max_objects, self.mask_size
        out: Example = {
            "boxes": np.zeros((G, 4), np.float32),
            "classes": np.zeros(G, np.int32),
            "crowd": np.zeros(G, bool),
            "masks": np.zeros((G, m, m), np.uint8),
            "num_dropped": np.array(len(kept) - len(chosen), np.int32),
        }
        n = len(ids)
        out["classes"][:n] = record["classes"][ids]
        out["crowd"][:n] = record["crowd"][ids]
        for slot, i in enumerate(chosen):
            out["boxes"][slot] = boxes[i]
            out["masks"][slot] = crop_mask(masks[i], boxes[i], frame, m)
        if "keypoints" in record:
            out["keypoints"] = np.zeros((G, *record["keypoints"].shape[1:]), np.float32)
            out["keypoints"][:n] = self._keypoints(record, frame)[ids]
        return out

    def _clipped(
        self, box: np.ndarray, mask: np.ndarray, frame: Frame, *, crowd: bool
    ) -> np.ndarray | None:
        """The box of what is left of an object; None where that is too little."""
        limit = np.array([*frame.size, *frame.size], np.float64)
        inside = np.clip(box, 0, limit)
        if np.abs(inside - box).max() > _TOUCH:
            left, fraction = _seen(mask, frame)
            if left is None or (fraction < self.min_visibility and not crowd):
                return None
            # What is left of the mask may reach less far than the clipped box.
            inside = np.concatenate(
                [
                    np.maximum(inside[:2], left[:2]),
                    np.minimum(inside[2:], left[2:]),
                ]
            )
        return inside if (inside[2:] - inside[:2]).min() >= SMALLEST_SIDE else None

    def _chosen(self, boxes: np.ndarray, crowd: np.ndarray) -> list[int]:
        """Positions of the objects that fit, in their order; the largest stay."""
        if len(boxes) <= self.max_objects:
            return list(range(len(boxes)))
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        order = np.lexsort((-areas, crowd))
        return sorted(order[: self.max_objects].tolist())

    def _keypoints(self, record: Record, frame: Frame) -> np.ndarray:
        """Keypoints `[N, P, 3]` in the example; those outside are not labelled."""
        keypoints = np.asarray(record["keypoints"], np.float64)
        if frame.view.mirrors:
            if (swap := self.keypoint_swap) is None or len(swap) != keypoints.shape[1]:
                raise UserError(
                    f"Images are mirrored, and their objects have {keypoints.shape[1]} "
                    "keypoints, so it must be known which of them change places; got "
                    f"keypoint_swap={swap}."
                )
            keypoints = keypoints[:, swap]
        at = frame.place(keypoints[..., :2])
        inside = ((at >= 0) & (at <= frame.size)).all(-1)
        visibility = np.where(inside, keypoints[..., 2], 0)
        at = at * (visibility > 0)[..., None]
        return np.concatenate([at, visibility[..., None]], -1).astype(np.float32)


def read_image(image: np.ndarray, frame: Frame) -> np.ndarray:
    """Reads an image `[H, W, C]` of integers as RGB in [0, 1], float32."""
    seen = frame.read(image) / np.float32(np.iinfo(image.dtype).max)
    return np.repeat(seen, 3, axis=-1) if seen.shape[-1] == 1 else seen


def padded(image: np.ndarray, bucket: Bucket) -> np.ndarray:
    """Pads an image `[h, w, C]` below and at the right by zeros, to a bucket."""
    out = np.zeros((*bucket, image.shape[-1]), np.float32)
    out[: image.shape[0], : image.shape[1]] = image
    return out


def crop_mask(mask: np.ndarray, box: np.ndarray, frame: Frame, size: int) -> np.ndarray:
    """Crops a mask to a box of the example, and resizes it.

    A cell is set where the mask covers at least half of it, exactly: the integral of the
    mask is interpolated at the corners of the cells.

    Args:
      mask: of the record, bool `[H, W]`.
      box: in the example, `(y0, x0, y1, x1)`.
      frame: how the one lies in the other.
      size: side of the result.

    Returns:
      uint8 `[size, size]`, 0 or 1.
    """
    top, left, bottom, right = frame.unplace_boxes(box)[0]
    height, width = mask.shape
    rows = np.clip(np.linspace(top, bottom, size + 1), 0, height)
    columns = np.clip(np.linspace(left, right, size + 1), 0, width)
    first, last = int(rows[0]), max(int(np.ceil(rows[-1])), int(rows[0]) + 1)
    start, stop = int(columns[0]), max(int(np.ceil(columns[-1])), int(columns[0]) + 1)
    window = mask[first:last, start:stop]
    integral = np.zeros((window.shape[0] + 1, window.shape[1] + 1))
    integral[1:, 1:] = window.cumsum(0, dtype=np.float64).cumsum(1)
    corners = _between(integral, rows - first)
    corners = _between(corners.T, columns - start).T
    covered = np.diff(np.diff(corners, axis=0), axis=1)
    cells = np.outer(np.diff(rows), np.diff(columns))
    out = (covered >= 0.5 * cells - 1e-9) & (cells > 0)
    out = out.T if frame.view.transposed else out
    down, right_left = (
        slice(None, None, -1 if f else None) for f in frame.view.flipped
    )
    return out[down, right_left].astype(np.uint8)


def _between(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolates rows of `[N + 1, ...]` linearly at places in `[0, N]`."""
    before = np.minimum(at.astype(np.intp), len(values) - 2)
    fraction = (at - before)[:, None]
    return values[before] + fraction * (values[before + 1] - values[before])


def _seen(mask: np.ndarray, frame: Frame) -> tuple[np.ndarray | None, float]:
    """Box, in the example, of what is seen of a mask, and the fraction of it that is."""
    total = np.count_nonzero(mask)
    whole = np.array([[0, 0, *frame.size]], np.float64)
    bounds = np.clip(frame.unplace_boxes(whole)[0], 0, (*mask.shape, *mask.shape))
    top, left = np.floor(bounds[:2] + 0.5).astype(int)
    bottom, right = np.floor(bounds[2:] + 0.5).astype(int)
    window = mask[top:bottom, left:right]
    rows, columns = (np.flatnonzero(window.any(axis)) for axis in (1, 0))
    if not total or not len(rows):
        return None, 0.0
    box = [top + rows[0], left + columns[0], top + rows[-1] + 1, left + columns[-1] + 1]
    fraction = np.count_nonzero(window) / total
    return frame.place_boxes(np.array([box]))[0], fraction
