"""The names of torchvision's detectors of objects, 0.28 (github.com/pytorch/vision).

Published files have older names, which are brought into today's form. Boxes there are
(x0, y0, x1, y1), here (y0, x0, y1, x1), so that the rows of deltas change places. Images
are RGB in 0 to 1; the network normalises them itself.

The first versions have frozen norms, whose epsilon is 0 with the weights that torchvision
publishes (`overwrite_eps` in its `detection` models), and 1e-5 in detectors that others
train by its scripts. The second versions have 1e-5.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from segjax.models.groups import merge
from segjax.pretrained.convert import prefixed
from segjax.pretrained.source import Source
from segjax.pretrained.torchvision import conv_norm, resnet

RENAMED = (
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"^(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2"),
)
"""Names of files from before torchvision 0.12, and those of today."""

DELTAS = ("rpn.head.bbox_pred.", "roi_heads.box_predictor.bbox_pred.")
"""Tensors whose first axis is blocks of dx, dy, dw, dh."""

PUBLISHED_EPSILON = 0.0
"""Of the frozen norms, with torchvision's published weights of the first versions."""

SECOND = {
    "norm": {"kind": "batch"},
    "rpn": {"depth": 2},
    "roi_heads": {
        "box_conv_features": (256, 256, 256, 256),
        "box_features": (1024,),
    },
}
"""The attributes of the second version of the detectors, after Li et al., 2021, arXiv
2111.11429."""


def faster_rcnn(*, second: bool = False) -> Source:
    """Faster R-CNN on ResNet-50 with a pyramid.

    Args:
      second: whether it is the second version, `_v2`.

    Returns:
      The source.
    """
    return _detector(_detector_names(second), _group(second, masks=False))


def mask_rcnn(*, second: bool = False) -> Source:
    """Mask R-CNN on ResNet-50 with a pyramid.

    Args:
      second: whether it is the second version, `_v2`.

    Returns:
      The source.
    """
    names = _detector_names(second)
    for i in range(4):
        theirs, ours = f"roi_heads.mask_head.{i}", f"mask_head/conv{i + 1}"
        names |= _unit(theirs, ours, second)
    names |= {
        "roi_heads.mask_predictor.conv5_mask": "mask_head/upsample",
        "roi_heads.mask_predictor.mask_fcn_logits": "mask_head/logits",
    }
    return _detector(names, _group(second), "roi_heads.mask_predictor.mask_fcn_logits")


def keypoint_rcnn() -> Source:
    """The R-CNN of persons and their 17 keypoints, on ResNet-50 with a pyramid."""
    names = _detector_names(False)
    for i in range(8):
        names[f"roi_heads.keypoint_head.{2 * i}"] = f"keypoint_head/conv{i + 1}"
    names["roi_heads.keypoint_predictor.kps_score_lowres"] = "keypoint_head"
    return _detector(names, _group(False, masks=False, keypoints=17))


def _detector(names: dict[str, str], group: dict[str, Any], *heads: str) -> Source:
    predictor = "roi_heads.box_predictor"
    return Source(
        group,
        names,
        classifier=(f"{predictor}.cls_score", f"{predictor}.bbox_pred", *heads),
        normalization="range",
        rename=renamed,
        arrange=arranged,
    )


def _group(second: bool, **heads: Any) -> dict[str, Any]:
    norm: dict[str, Any] = {"frozen": not second}
    if not second:
        norm["epsilon"] = PUBLISHED_EPSILON
    group = {
        "name": "mask_rcnn",
        "backbone": {"name": "resnet", "depth": 50, "norm": norm},
        "roi_pooling": {"aligned": False},
        "roi_heads": heads,
    }
    return merge(group, SECOND) if second else group


def _detector_names(second: bool) -> dict[str, str]:
    """The backbone, the pyramid, the head of proposals, and that of boxes."""
    source = resnet(50)
    body = {a: b for a, b in source.names.items() if not a.startswith(source.top)}
    names = prefixed(body, "backbone.body", "backbone")
    for i in range(4):
        for theirs, ours in (("inner_blocks", "lateral"), ("layer_blocks", "output")):
            block = f"backbone.fpn.{theirs}.{i}"
            names |= _unit(block, f"fpn/{ours}{i + 2}", second)
    for i in range(2 if second else 1):
        names[f"rpn.head.conv.{i}.0"] = f"rpn/conv{i + 1}"
    names |= {"rpn.head.cls_logits": "rpn/logits", "rpn.head.bbox_pred": "rpn/deltas"}
    if second:
        for i in range(4):
            names |= _unit(f"roi_heads.box_head.{i}", f"box_head/conv{i + 1}", True)
        names["roi_heads.box_head.5"] = "box_head/fc1"
    else:
        names["roi_heads.box_head.fc6"] = "box_head/fc1"
        names["roi_heads.box_head.fc7"] = "box_head/fc2"
    return names | {
        "roi_heads.box_predictor.cls_score": "box_head/logits",
        "roi_heads.box_predictor.bbox_pred": "box_head/deltas",
    }


def _unit(theirs: str, ours: str, norm: bool) -> dict[str, str]:
    """A convolution with its norm, or with a bias and without one where ours has none."""
    if norm:
        return conv_norm(f"{theirs}.0", f"{theirs}.1", ours)
    return {f"{theirs}.0": f"{ours}/conv"}


def renamed(name: str) -> str:
    """Brings a name of an older file into today's form.

    Example:
      >>> renamed("roi_heads.mask_head.mask_fcn1.weight")
      'roi_heads.mask_head.0.0.weight'
      >>> renamed("backbone.fpn.inner_blocks.3.bias")
      'backbone.fpn.inner_blocks.3.0.bias'
      >>> renamed("rpn.head.conv.0.0.weight")
      'rpn.head.conv.0.0.weight'
    """
    found = re.match(r"^roi_heads\.mask_head\.mask_fcn(\d+)\.(weight|bias)$", name)
    if found:
        return f"roi_heads.mask_head.{int(found[1]) - 1}.0.{found[2]}"
    for old, new in RENAMED:
        name = re.sub(old, new, name)
    return name


def arranged(name: str, tensor: np.ndarray) -> np.ndarray:
    """Puts the rows of deltas into our order: from dx, dy, dw, dh to dy, dx, dh, dw.

    Example:
      >>> arranged("rpn.head.bbox_pred.bias", np.arange(8)).tolist()
      [1, 0, 3, 2, 5, 4, 7, 6]
    """
    if not name.startswith(DELTAS) or not tensor.ndim or tensor.shape[0] % 4:
        return tensor
    blocks = tensor.reshape(-1, 4, *tensor.shape[1:])
    return blocks[:, [1, 0, 3, 2]].reshape(tensor.shape)
