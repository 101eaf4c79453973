"""The names of Caffe's networks, kept as safetensors or .npz.

Images are BGR from 0 to 255 less a mean, and poolings round sizes up. A blob is named by
its layer, a separator and its place or purpose: "conv1_1.weight", "conv1_1.bias",
"conv1_1/0", "fc6_W", "fc6_b". Layouts are Caffe's: `[out, in, kh, kw]` and `[out, in]`.
"""

from __future__ import annotations

import re

from segjax.backbones.vgg import CONVOLUTIONS
from segjax.pretrained.source import Source

BLOB = re.compile(
    r"(?P<layer>(conv\d_\d|fc\d))[./_](?P<blob>weights?|bias(es)?|w|b|0|1)", re.I
)
WEIGHTS = ("weight", "weights", "w", "0")


def vgg16() -> Source:
    """VGG-16 as its authors released it: `VGG_ILSVRC_16_layers`.

    Simonyan & Zisserman, ICLR 2015, arXiv 1409.1556. The network is ours with Caffe's
    poolings; FCN, DeepLab and others begin with these weights.
    """
    stacks = enumerate(CONVOLUTIONS[16], 1)
    convs = [f"conv{i}_{k}" for i, count in stacks for k in range(1, count + 1)]
    layers = [*convs, "fc6", "fc7", "fc8"]
    return Source(
        {"name": "vgg", "depth": 16, "ceil_mode": True},
        {layer: layer for layer in layers},
        classifier=("fc8",),
        top=("fc",),
        normalization="caffe_vgg",
        rename=rename,
    )


def rename(name: str) -> str:
    """Brings the name of a blob into one form.

    Example:
      >>> rename("conv1_1/0"), rename("fc6_b"), rename("fc7.bias"), rename("data")
      ('conv1_1.weight', 'fc6.bias', 'fc7.bias', 'data')
    """
    found = BLOB.fullmatch(name)
    if found is None:
        return name
    is_weight = found["blob"].lower() in WEIGHTS
    return f"{found['layer']}.{'weight' if is_weight else 'bias'}"
