"""The loss of training on images with objects that are measured, without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from segjax.data.instance.buckets import Bucket, bucket_of
from segjax.data.instance.examples import InstanceExampleMaker
from segjax.data.instance.records import facts_of
from segjax.training import sharding
from segjax.training.step import Metrics
from segjax.types import Array, Record

ImageLoss = Callable[[Mapping[str, Any], Mapping[str, Any], Array], Metrics]
"""From variables, a batch of one and a key to `loss` and its parts, by name."""


def validation_loss(
    loss: ImageLoss,
    variables: Mapping[str, Any],
    records: Sequence[Record],
    *,
    buckets: Sequence[Bucket],
    resize: str,
    max_objects: int,
    mask_size: int,
    keypoint_swap: Sequence[int] | None,
) -> dict[str, float]:
    """Measures the loss of each image, seen whole, and takes the mean over images.

    The images are dealt out to the processes.

    The regions that the loss looks at are sampled, as in training, with a key that is the
    same each time. Networks normalise by the statistics of the image, as in training, unless
    theirs are frozen.

    Args:
      loss: of a batch of one; compiled once for each bucket.
      variables: collections of the model, on the devices of this process.
      records: of a split.
      buckets: sizes `(height, width)` that images are padded to.
      resize: how they meet them; with "keep" an image that is too large is shrunk.
      max_objects: capacity of an example.
      mask_size: side of its masks.
      keypoint_swap: which keypoint each one becomes in a mirror.

    Returns:
      `loss` and its parts, by name.
    """
    resize = "shrink" if resize == "keep" else resize
    make = InstanceExampleMaker(
        records, 0, max_objects, (), resize, mask_size, 0.0, keypoint_swap
    )
    sizes = facts_of(records).sizes.tolist()
    index, count = sharding.process_index(), sharding.process_count()
    mine = range(index, len(records), count)
    rows = []
    with sharding.fail_together():  # losses may be code from outside
        for i in mine or range(1):  # all processes learn the names of the parts
            height, width = sizes[i]
            bucket = buckets[bucket_of((height, width), buckets, resize)]
            example = make(i, i, bucket)
            batch = {key: value[None] for key, value in example.items()}
            key = jax.random.fold_in(jax.random.key(0), i)
            rows.append(jax.device_get(loss(variables, batch, key)))
    names = sorted(rows[0])
    table = np.array([[row[name] for name in names] for row in rows], np.float64)
    means = sharding.gather(table[: len(mine)]).mean(0)
    return dict(zip(names, means.tolist(), strict=True))
