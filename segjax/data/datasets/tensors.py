"""How images in colour and their labels are written: raw arrays, which read fast."""

from __future__ import annotations

import numpy as np

from segjax.data.datasets.prepare import tfds


def description(builder: tfds.core.DatasetBuilder, text: str) -> tfds.core.DatasetInfo:
    """Describes records of `image` uint8 `[H, W, 3]`, `label` uint8 `[H, W]` and `name`.

    They are kept in the order in which they are written, and can state what they were
    made from.
    """
    features = {
        "image": tfds.features.Tensor(
            shape=(None, None, 3), dtype=np.uint8, encoding="bytes"
        ),
        "label": tfds.features.Tensor(
            shape=(None, None), dtype=np.uint8, encoding="bytes"
        ),
        "name": tfds.features.Text(),
    }
    return tfds.core.DatasetInfo(
        builder=builder,
        description=text,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
        metadata=tfds.core.MetadataDict(),
    )
