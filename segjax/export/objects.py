"""What a network that finds objects answers for images as they are stored.

It is what `segjax predict` computes for an image that is not cut into tiles: the image is
resized to its bucket, and what was found is brought back and drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.augment.views import whole
from segjax.data.augment.warp import neighbours
from segjax.data.instance.buckets import Bucket, Frame, bucket_of, fit_to_bucket
from segjax.errors import UserError
from segjax.export.functions import PixelFunction, named_arrays
from segjax.ops.regions.drawing import draw_boxes, draw_masks
from segjax.types import Array, Outputs


@dataclasses.dataclass(frozen=True)
class ObjectNetwork:
    """A trained network that finds objects, with all that `predict` does around it.

    Attributes:
      apply: maps variables, images `[B, H, W, 3]` in [0, 1] and their sizes `[B, 2]` to
        detections, best first: `boxes`, `scores`, `classes`, and maybe `masks`, `keypoints`.
      variables: its collections.
      channels: of the images as they are stored.
      buckets: sizes that images are padded to.
      resize: how they meet them, one of `segjax.data.instance.buckets.RESIZES`.
      mask_threshold: least probability of a pixel in a mask.
      keep_score: objects of a lower score are left out.
    """

    apply: Callable[[Any, Array, Array], Outputs]
    variables: Mapping[str, Any]
    channels: int
    buckets: Sequence[Bucket]
    resize: str
    mask_threshold: float = 0.5
    keep_score: float = 0.5

    def frame(self, size: tuple[int, int]) -> tuple[Frame, Bucket]:
        """How an image of a size lies in the bucket that it is seen in, and that bucket.

        Raises:
          UserError: where `predict` would cut it into tiles.
        """
        resize = "shrink" if self.resize == "keep" else self.resize
        bucket = self.buckets[bucket_of(size, self.buckets, resize)]
        frame = fit_to_bucket(whole(size), bucket, resize, None)
        if self.resize == "keep" and frame.size != size:
            raise UserError(
                f"--image_size={size[0]},{size[1]} is larger than every size that the network "
                f"takes ({', '.join(f'{h} x {w}' for h, w in self.buckets)}), and a program "
                "does not join the objects of tiles: give a smaller one."
            )
        return frame, bucket


def object_function(
    network: ObjectNetwork, size: tuple[int, int] | None, dtype: np.dtype
) -> PixelFunction:
    """The function of whole images of one size.

    Its outputs are, for each image: `labels` `[H, W]` int32, the number of the object that a
    pixel is of, 1 being the best one, and 0 none; in D slots, of which the last may be empty,
    `boxes` `[D, 4]` (y0, x0, y1, x1, pixels), `scores`, `classes` (0 in an empty slot), and where
    the network has them `masks` `[D, m, m]`, probabilities in the box, and `keypoints`
    `[D, P, 3]` (y, x, score).

    Args:
      network: the network.
      size: height and width of the images.
      dtype: of the images.

    Returns:
      The function.

    Raises:
      UserError: no size, or one for which `predict` would cut tiles; or images that are no
        integers.
    """
    if size is None:
        raise UserError(
            "Objects compete over the whole image, so a program that finds them is for images "
            "of one size: give --image_size=HEIGHT,WIDTH."
        )
    if dtype.kind != "u":
        raise UserError(
            f"Images are divided by the largest value of their type, which {dtype} does not "
            "have: give --dtype=uint8 or --dtype=uint16."
        )
    frame, bucket = network.frame(size)
    arrays, variables_of = named_arrays(network.variables)

    def one(variables: Any, image: Array) -> dict[str, Array]:
        given = _in_bucket(image, frame, bucket)
        sizes = jnp.array([frame.size], jnp.int32)
        found = {
            name: values[0]
            for name, values in network.apply(variables, given[None], sizes).items()
        }
        return _in_image(found, frame, size, network)

    def function(weights: Mapping[str, Array], images: Array) -> dict[str, Array]:
        variables = variables_of(weights)
        return jax.lax.map(lambda image: one(variables, image), images)

    about = {
        "kind": "image",
        "normalization": {"by": "program"},
        "objects": {
            "keep_score": network.keep_score,
            "mask_threshold": network.mask_threshold,
        },
    }
    return PixelFunction(function, arrays, size, False, about)


def _in_bucket(image: Array, frame: Frame, bucket: Bucket) -> Array:
    """Brings an image `[H, W, C]` to its bucket, RGB in [0, 1]: `examples.read_image`."""
    seen = image.astype(jnp.float32)
    for axis in (0, 1):
        before, after, share = neighbours(frame.centers(axis), image.shape[axis])
        first, second = (jnp.take(seen, x, axis) for x in (before, after))
        seen = first + (second - first) * np.expand_dims(share, (1 - axis, 2))
    seen = seen / np.float32(np.iinfo(image.dtype).max)
    if seen.shape[-1] == 1:
        seen = jnp.repeat(seen, 3, axis=-1)
    rest = [(0, whole - part) for whole, part in zip(bucket, seen.shape, strict=False)]
    return jnp.pad(seen, [*rest, (0, 0)])


def _in_image(
    found: Mapping[str, Array],
    frame: Frame,
    size: tuple[int, int],
    network: ObjectNetwork,
) -> dict[str, Array]:
    """Brings what was found to the pixels of the image: `evaluate.to_image_coordinates`."""
    ratios = np.array(frame.step, np.float32)
    limit = np.tile(np.array(size, np.float32), 2)[None]
    kept = found["valid"] & (found["scores"] >= network.keep_score)
    only = lambda x: jnp.where(kept.reshape(-1, *(1,) * (x.ndim - 1)), x, 0)
    boxes = only(jnp.clip(found["boxes"] * np.tile(ratios, 2)[None], 0, limit))
    answer = {
        "boxes": boxes,
        "scores": only(found["scores"]),
        "classes": only(found["classes"]),
    }
    if "masks" in found:
        answer["masks"] = only(found["masks"])
        answer["labels"] = draw_masks(
            found["masks"], boxes, kept, size, threshold=network.mask_threshold
        )
    else:
        answer["labels"] = draw_boxes(boxes, kept, size)
    if "keypoints" in found:
        scales = np.array([*ratios, 1], np.float32)[None, None]
        answer["keypoints"] = only(found["keypoints"] * scales)
    return answer
