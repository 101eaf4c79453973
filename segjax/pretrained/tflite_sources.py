"""Networks that were published as files of TensorFlow Lite: their graphs, and our names.

Batch normalisation is folded into the convolutions of these files. Here it is an identity whose
statistics are frozen, so that a training goes on from the numbers of the file. Names are those
of the authors' release (tensorflow/models, research/deeplab and research/slim).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from segjax.backbones.mobilenet_edgetpu import MobileNetEdgeTPU
from segjax.backbones.mobilenet_v2 import MobileNetV2
from segjax.pretrained.source import Source

IMAGE = "image"
"""What the first operator takes."""

SPREAD = "spread"
"""One pixel repeated over a map: RESIZE_BILINEAR or TILE."""

GLOBAL_MEAN = "mean of the map"
"""MEAN over rows and columns, or AVERAGE_POOL_2D as large as the map."""

FOLDED = {"epsilon": 0.0, "frozen": True}
"""The norm that is an identity: of mean 0 and variance 1, whatever is trained."""

NORM = "BatchNorm"


class Step(NamedTuple):
    """An operator that a network has, with what it has to be.

    Attributes:
      name: in the authors' release; that of its weights, where it has any.
      kind: of the operator, `SPREAD` or `GLOBAL_MEAN`.
      inputs: the steps whose results it takes, or `IMAGE`.
      ours: the path of our module; empty where it has no weights.
      kernel: side of the kernel.
      stride: of a convolution.
      dilation: of a convolution.
      features: channels of the result; None for any number, that of the classes.
      activation: what follows it.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    ours: str = ""
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    features: int | None = 0
    activation: str | None = None

    @property
    def has_norm(self) -> bool:
        """Whether a norm was folded into it: into all but what gives the classes."""
        return self.features is not None


def deeplab_v3(backbone: dict[str, Any], features: int) -> Source:
    """DeepLab v3 in the release's mobile form: image pooling and one 1x1 branch.

    Args:
      backbone: the group of the backbone.
      features: channels of ASPP.

    Returns:
      The source.
    """
    group = {
        "name": "deeplab_v3",
        "backbone": {**backbone, "output_stride": 16, "norm": FOLDED},
        "rates": (),
        "features": features,
        "norm": FOLDED,
    }
    return Source(
        group,
        names_of(_deeplab_steps(group)),
        classifier=("logits/semantic",),
        normalization="tflite",
        arrange=functools.partial(_swap_branches, features),
        input_size=(513, 513),
    )


def mobilenet_v2() -> Source:
    """MobileNet v2 with its classifier of 1,001 classes, the first of which is background."""
    group = {"name": "mobilenet_v2", "same_padding": True, "norm": FOLDED}
    return Source(
        group,
        names_of(_classifier_steps(group)),
        classifier=("MobilenetV2/Logits/Conv2d_1c_1x1",),
        top=("MobilenetV2/Logits", "MobilenetV2/Conv_1"),
        normalization="tflite",
    )


def steps_of(source: str) -> tuple[Step, ...]:
    """The operators of the network of a source.

    Raises:
      KeyError: if there is no such source.
    """
    group = dict(TFLITE[source].group)
    return _deeplab_steps(group) if "backbone" in group else _classifier_steps(group)


def names_of(steps: tuple[Step, ...]) -> dict[str, str]:
    """The names of weights: foreign modules and the paths of ours."""
    names = {}
    for step in steps:
        if not step.ours:
            continue
        if step.has_norm:
            names[step.name] = f"{step.ours}/conv"
            names[f"{step.name}/{NORM}"] = f"{step.ours}/norm"
        else:
            names[step.name] = step.ours
    return names


def _swap_branches(features: int, name: str, tensor: np.ndarray) -> np.ndarray:
    """The release concatenates the image first, ASPP here last."""
    if name != "concat_projection.weight" or tensor.ndim != 4:
        return tensor
    return np.concatenate([tensor[:, features:], tensor[:, :features]], axis=1)


def _deeplab_steps(group: dict[str, Any]) -> tuple[Step, ...]:
    backbone = dict(group["backbone"])
    steps = _backbone_steps(backbone)
    steps = [
        step._replace(ours=f"backbone/{step.ours}") if step.ours else step
        for step in steps
    ]
    last, features = steps[-1].name, group["features"]
    conv: dict[str, Any] = {"features": features, "activation": "relu"}
    return (
        *steps,
        Step("AvgPool2D", GLOBAL_MEAN, (last,)),
        Step("aspp0", "CONV_2D", (last,), "aspp/pointwise", **conv),
        Step("image_pooling", "CONV_2D", ("AvgPool2D",), "aspp/image", **conv),
        Step("ResizeBilinear", SPREAD, ("image_pooling",)),
        Step("concat", "CONCATENATION", ("ResizeBilinear", "aspp0")),
        Step("concat_projection", "CONV_2D", ("concat",), "aspp/project", **conv),
        Step(
            "logits/semantic",
            "CONV_2D",
            ("concat_projection",),
            "logits",
            features=None,
        ),
        Step("ResizeBilinear_2", "RESIZE_BILINEAR", ("logits/semantic",)),
    )


def _classifier_steps(group: dict[str, Any]) -> tuple[Step, ...]:
    steps = _backbone_steps(group)
    name = "MobilenetV2/Logits"
    logits = f"{name}/Conv2d_1c_1x1"
    return (
        *steps,
        Step(f"{name}/AvgPool", GLOBAL_MEAN, (steps[-1].name,)),
        Step(logits, "CONV_2D", (f"{name}/AvgPool",), "classifier", features=None),
    )


def _backbone_steps(group: dict[str, Any]) -> list[Step]:
    """The operators of a backbone, from the plan of its blocks."""
    attributes = {k: v for k, v in group.items() if k not in ("name", "norm")}
    if group["name"] == "mobilenet_edgetpu":
        model: Any = MobileNetEdgeTPU(**attributes)
        name, activation = "MobilenetEdgeTPU", "relu"
    else:
        model = MobileNetV2(**attributes)
        name, activation = "MobilenetV2", "relu6"
    before = model.channels(32)
    conv: dict[str, Any] = {"activation": activation}
    steps = [Step(f"{name}/Conv", "CONV_2D", (IMAGE,), "stem", 3, 2, 1, before, **conv)]
    for i, block in enumerate(model.plan()):
        is_fused, kernel = getattr(block, "fused", False), getattr(block, "kernel", 3)
        expanded = getattr(block, "expanded", None) or block.expansion * before
        base, ours = f"{name}/expanded_conv" + (f"_{i}" if i else ""), f"block{i + 1}"
        first = now = steps[-1].name
        geometry = kernel, block.stride, block.dilation, expanded
        if expanded != before:
            sizes = geometry if is_fused else (1, 1, 1, expanded)
            expand = f"{base}/expand", "CONV_2D", (now,), f"{ours}/expand"
            steps.append(Step(*expand, *sizes, **conv))
            now = steps[-1].name
        if not is_fused:
            depthwise = f"{base}/depthwise", "DEPTHWISE_CONV_2D", (now,)
            steps.append(Step(*depthwise, f"{ours}/depthwise", *geometry, **conv))
            now = steps[-1].name
        project = f"{base}/project", "CONV_2D", (now,), f"{ours}/project"
        steps.append(Step(*project, features=block.features))
        if block.is_residual:
            added = tuple(sorted((first, steps[-1].name)))
            steps.append(Step(f"{base}/add", "ADD", added))
        before = block.features
    if (features := model.last_features) is not None:
        last = f"{name}/Conv_1", "CONV_2D", (steps[-1].name,), "last"
        steps.append(Step(*last, features=features, **conv))
    return steps


EDGETPU = {"name": "mobilenet_edgetpu", "width": 0.75}
MOBILENET = {"name": "mobilenet_v2", "last_features": None}
HALF = {**MOBILENET, "width": 0.5, "divisor": 1}

TFLITE = {
    "tflite/deeplab_mobilenet_edgetpu_cityscapes": deeplab_v3(EDGETPU, 128),
    "tflite/deeplabv3_mnv2_dm05_pascal": deeplab_v3(HALF, 256),
    "tflite/deeplabv3_mnv2_pascal": deeplab_v3(MOBILENET, 256),
    "tflite/mobilenet_v2": mobilenet_v2(),
}
"""The sources by name."""
