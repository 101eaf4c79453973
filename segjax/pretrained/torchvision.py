"""The names of torchvision's models, 0.28 (github.com/pytorch/vision), module by module.

Figures of the networks: https://docs.pytorch.org/vision/stable/models.html. Images are
RGB, normalised by ImageNet's mean and standard deviation.
"""

from __future__ import annotations

from typing import Any

from segjax.backbones.resnet import BLOCKS as RESNET_BLOCKS
from segjax.backbones.vgg import CONVOLUTIONS
from segjax.pretrained.convert import prefixed
from segjax.pretrained.source import Source


def vgg(depth: int, *, batch_norm: bool) -> Source:
    """VGG with its classifier, or without.

    Args:
      depth: layers with weights.
      batch_norm: whether norms follow the convolutions.

    Returns:
      The source.
    """
    names, i = {}, 0
    for stack, count in enumerate(CONVOLUTIONS[depth], 1):
        for k in range(1, count + 1):
            names[f"features.{i}"] = f"conv{stack}_{k}"
            if batch_norm:
                names[f"features.{i + 1}"] = f"norm{stack}_{k}"
            i += 3 if batch_norm else 2
        i += 1  # the pooling
    names |= {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
    group: dict[str, Any] = {"name": "vgg", "depth": depth}
    if batch_norm:
        group["norm"] = {"kind": "batch"}
    return Source(group, names, classifier=("classifier.6",), top=("classifier.",))


def alexnet() -> Source:
    """AlexNet in torchvision's own form: no groups, no local response normalisation."""
    features = {0: "conv1", 3: "conv2", 6: "conv3", 8: "conv4", 10: "conv5"}
    names = {f"features.{i}": name for i, name in features.items()}
    names |= {"classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": "fc8"}
    group = {
        "name": "alexnet",
        "features": (64, 192, 384, 256, 256),
        "groups": (1, 1, 1, 1, 1),
        "lrn": False,
        "first_padding": 2,
        "ceil_mode": False,
    }
    return Source(group, names, classifier=("classifier.6",), top=("classifier.",))


def googlenet() -> Source:
    """GoogLeNet with batch normalisation, and its auxiliary classifiers where given.

    torchvision's own weights want images in [-1, 1]. Its model brings images that are
    normalised by ImageNet's mean and standard deviation there if `transform_input` is set; so
    does ours.
    """
    units = {"conv1": "conv1", "conv2": "conv2_reduce", "conv3": "conv2"}
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for theirs, ours in INCEPTION.items():
            units[f"inception{block}.{theirs}"] = f"inception{block}/{ours}"
    names = {"fc": "classifier"}
    for head in ("aux1", "aux2"):
        units[f"{head}.conv"] = f"{head}/conv"
        names |= {f"{head}.fc1": f"{head}/fc1", f"{head}.fc2": f"{head}/fc2"}
    for theirs, ours in units.items():
        names |= conv_norm(f"{theirs}.conv", f"{theirs}.bn", ours)
    group = {
        "name": "googlenet",
        "norm": {"kind": "batch", "epsilon": 1e-3},
        "lrn": False,
        "wide_kernel": 3,
        "last_pool": 2,
        "dropout_rate": 0.2,
    }
    return Source(
        group,
        names,
        classifier=("fc", "aux1.fc2", "aux2.fc2"),
        top=("fc", "aux1.", "aux2."),
        auxiliary={"aux1.fc2": {"auxiliary": True}},
        normalization="tf",
    )


INCEPTION = {
    "branch1": "conv1x1",
    "branch2.0": "reduce3x3",
    "branch2.1": "conv3x3",
    "branch3.0": "reduce5x5",
    "branch3.1": "conv5x5",
    "branch4.1": "projection",
}
"""The branches of a block; the one that is called 5x5 has 3x3 kernels in torchvision."""


def resnet(depth: int) -> Source:
    """ResNet with its classifier, or without.

    Args:
      depth: layers with weights.

    Returns:
      The source.
    """
    names = _resnet_names(depth) | {"fc": "classifier"}
    return Source(
        {"name": "resnet", "depth": depth}, names, classifier=("fc",), top=("fc",)
    )


def mobilenet_v2() -> Source:
    """MobileNet v2 with its classifier, or without."""
    names = conv_norm("features.0.0", "features.0.1", "stem")
    names |= conv_norm("features.1.conv.0.0", "features.1.conv.0.1", "block1/depthwise")
    names |= conv_norm("features.1.conv.1", "features.1.conv.2", "block1/project")
    for i in range(2, 18):
        theirs, ours = f"features.{i}.conv", f"block{i}"
        names |= conv_norm(f"{theirs}.0.0", f"{theirs}.0.1", f"{ours}/expand")
        names |= conv_norm(f"{theirs}.1.0", f"{theirs}.1.1", f"{ours}/depthwise")
        names |= conv_norm(f"{theirs}.2", f"{theirs}.3", f"{ours}/project")
    names |= conv_norm("features.18.0", "features.18.1", "last")
    names |= {"classifier.1": "classifier"}
    group = {"name": "mobilenet_v2"}
    return Source(group, names, classifier=("classifier.1",), top=("classifier.",))


def mobilenet_v3_large() -> Source:
    """MobileNet v3-large with its classifier, or without."""
    names = conv_norm("features.0.0", "features.0.1", "stem")
    for i in range(1, 16):
        theirs, ours = f"features.{i}.block", f"block{i}"
        parts = ["expand", "depthwise", "project"]
        if i == 1:
            parts.remove("expand")
        if i in SQUEEZED:
            parts.insert(2, "squeeze")
        for k, part in enumerate(parts):
            if part == "squeeze":
                names[f"{theirs}.{k}.fc1"] = f"{ours}/squeeze/reduce"
                names[f"{theirs}.{k}.fc2"] = f"{ours}/squeeze/expand"
            else:
                names |= conv_norm(
                    f"{theirs}.{k}.0", f"{theirs}.{k}.1", f"{ours}/{part}"
                )
    names |= conv_norm("features.16.0", "features.16.1", "last")
    names |= {"classifier.0": "classifier_hidden", "classifier.3": "classifier"}
    group = {"name": "mobilenet_v3"}
    return Source(group, names, classifier=("classifier.3",), top=("classifier.",))


SQUEEZED = (4, 5, 6, 11, 12, 13, 14, 15)
"""Blocks of MobileNet v3-large with squeeze and excitation."""


def lraspp(backbone: Source) -> Source:
    """LR-ASPP in torchvision's form, on MobileNet v3 at output stride 16.

    Args:
      backbone: the source of its backbone.

    Returns:
      The source.
    """
    group = {
        "name": "lraspp",
        "backbone": dense(backbone, 16, dilate_first_block=True),
        "low_level_stage": "stage3_first",
    }
    names = {
        **trunk(backbone),
        **conv_norm("classifier.cbr.0", "classifier.cbr.1", "project"),
        "classifier.scale.1": "scale",
        "classifier.low_classifier": "low_logits",
        "classifier.high_classifier": "logits",
    }
    heads = ("classifier.high_classifier", "classifier.low_classifier")
    return Source(group, names, classifier=heads)


def fcn(backbone: Source) -> Source:
    """FCN in torchvision's form: a dilated backbone, one head, interpolation.

    Args:
      backbone: the source of its backbone.

    Returns:
      The source.
    """
    group = {
        "name": "fcn",
        "backbone": dense(backbone, 8),
        "head": "conv",
        "upsampling": "resize",
        "dropout_rate": 0.1,
        "zero_scores": False,
    }
    names = {
        **trunk(backbone),
        **conv_norm("classifier.0", "classifier.1", "head"),
        "classifier.4": "score",
        **AUXILIARY,
    }
    return Source(
        group,
        names,
        classifier=("classifier.4", "aux_classifier.4"),
        auxiliary={"aux_classifier.4": {"aux_stage": "stage4"}},
    )


def deeplab_v3(
    backbone: Source,
    *,
    output_stride: int = 8,
    aux_stage: str = "stage4",
    **attributes: Any,
) -> Source:
    """DeepLab v3 in torchvision's form.

    Args:
      backbone: the source of its backbone.
      output_stride: of the backbone; ASPP's dilations are 12, 24 and 36 in any case.
      aux_stage: the map that the auxiliary head reads.
      **attributes: other attributes of the backbone.

    Returns:
      The source.
    """
    aspp = {
        **conv_norm("convs.0.0", "convs.0.1", "pointwise"),
        **conv_norm("convs.1.0", "convs.1.1", "atrous1"),
        **conv_norm("convs.2.0", "convs.2.1", "atrous2"),
        **conv_norm("convs.3.0", "convs.3.1", "atrous3"),
        **conv_norm("convs.4.1", "convs.4.2", "image"),
        **conv_norm("project.0", "project.1", "project"),
    }
    group = {
        "name": "deeplab_v3",
        "backbone": dense(backbone, output_stride, **attributes),
        "rates": tuple(rate * output_stride // 16 for rate in (12, 24, 36)),
        "refine": True,
        "align_corners": False,
        "dropout_rate": 0.5,
        "norm": {"momentum": 0.9},
    }
    return Source(
        group,
        {
            **trunk(backbone),
            **prefixed(aspp, "classifier.0", "aspp"),
            **conv_norm("classifier.1", "classifier.2", "refine"),
            "classifier.4": "logits",
            **AUXILIARY,
        },
        classifier=("classifier.4", "aux_classifier.4"),
        auxiliary={"aux_classifier.4": {"aux_stage": aux_stage}},
    )


def dense(backbone: Source, output_stride: int, **attributes: Any) -> dict[str, Any]:
    """The group of a backbone within a segmentation."""
    return {**backbone.group, "output_stride": output_stride, **attributes}


def trunk(backbone: Source) -> dict[str, str]:
    """The names of a backbone within a segmentation: all but its classifier."""
    names = {
        theirs.removeprefix("features."): ours
        for theirs, ours in backbone.names.items()
        if not theirs.startswith(backbone.top)
    }
    return prefixed(names, "backbone", "backbone")


def conv_norm(conv: str, norm: str, ours: str) -> dict[str, str]:
    """A convolution and its norm, which are one module here.

    Args:
      conv: the foreign convolution.
      norm: the foreign norm.
      ours: our module, `layers.conv_norm.ConvNorm`.

    Returns:
      The names of both.
    """
    return {conv: f"{ours}/conv", norm: f"{ours}/norm"}


AUXILIARY = {
    **conv_norm("aux_classifier.0", "aux_classifier.1", "aux"),
    "aux_classifier.4": "aux_logits",
}
"""The head on an earlier stage, of the networks that were trained with one."""


def _resnet_names(depth: int) -> dict[str, str]:
    names = conv_norm("conv1", "bn1", "stem")
    convs = 2 if depth < 50 else 3
    for layer, count in enumerate(RESNET_BLOCKS[depth], 1):
        for i in range(count):
            theirs, ours = f"layer{layer}.{i}", f"stage{layer + 1}/block{i + 1}"
            for k in range(1, convs + 1):
                names |= conv_norm(
                    f"{theirs}.conv{k}", f"{theirs}.bn{k}", f"{ours}/conv{k}"
                )
        if layer > 1 or convs == 3:
            first = f"layer{layer}.0.downsample"
            names |= conv_norm(
                f"{first}.0", f"{first}.1", f"stage{layer + 1}/block1/projection"
            )
    return names
