"""The networks of segmentation_models.pytorch ("SMP"), 0.6, and their names, module by module.

github.com/qubvel-org/segmentation_models.pytorch (MIT). A source is
`smp/ARCHITECTURE-ENCODER`, as `smp/unet-resnet34`; its arguments are those of SMP's class,
which has them as defaults here, too. Images are RGB, normalised by ImageNet's mean and standard
deviation, as SMP's `preprocess_input` does for these encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from segjax.backbones.mobilenet_v2 import MobileNetV2
from segjax.pretrained import torchvision
from segjax.pretrained.source import Source
from segjax.pretrained.torchvision import conv_norm

PREFIX = "smp/"

ENCODERS: dict[str, Source] = {
    **{f"resnet{n}": torchvision.resnet(n) for n in (18, 34, 50, 101, 152)},
    **{f"vgg{n}": torchvision.vgg(n, batch_norm=False) for n in (11, 13, 16, 19)},
    **{f"vgg{n}_bn": torchvision.vgg(n, batch_norm=True) for n in (11, 13, 16, 19)},
    "mobilenet_v2": torchvision.mobilenet_v2(),
}
"""The encoders by SMP's names, which are torchvision's."""

DENSE = tuple(name for name in ENCODERS if not name.startswith("vgg"))
"""Those that have an output stride: SMP refuses a VGG that is dilated."""

HEAD = "segmentation_head.0"
PYRAMID = (1, 2, 3, 6)
"""Bins of PSPNet's grids."""

BESIDE = ("classification_head.3", "mean", "std")
"""A classifier of the whole image, and what SMP's examples keep beside a network."""


def unet(encoder: str, arguments: Mapping[str, Any]) -> Source:
    """`Unet`: copied pixels, and two convolutions a level.

    Args:
      encoder: a name of `ENCODERS`.
      arguments: of SMP's class.

    Returns:
      The source.
    """
    stages = _maps(encoder)[1 : arguments["encoder_depth"] + 1]
    group = {
        "name": "unet_backbone",
        "stages": stages,
        "features": tuple(arguments["decoder_channels"]),
        "center": encoder.startswith("vgg"),
    }
    blocks = {
        f"decoder.blocks.{i}.conv": f"up{len(stages) - i}" for i in range(len(stages))
    }
    names = {HEAD: "logits"}
    for theirs, ours in blocks.items():
        for k in (1, 2):
            names[f"{theirs}{k}.0"] = f"{ours}/conv{k}"
            names[f"{theirs}{k}.1"] = f"{ours}/norm{k}"
    if group["center"]:
        for k in (1, 2):
            names[f"decoder.center.{k - 1}.0"] = f"center/conv{k}"
            names[f"decoder.center.{k - 1}.1"] = f"center/norm{k}"
    return _source(encoder, arguments, group, names)


def fpn(encoder: str, arguments: Mapping[str, Any]) -> Source:
    """`FPN`: Semantic FPN without the pyramid's last convolutions.

    Args:
      encoder: a name of `ENCODERS`.
      arguments: of SMP's class.

    Returns:
      The source.
    """
    group = {
        "name": "semantic_fpn",
        "stages": _maps(encoder)[2:],
        "pyramid_features": arguments["decoder_pyramid_channels"],
        "features": arguments["decoder_segmentation_channels"],
        "output_convs": False,
        "align_corners": True,
        "dropout_rate": arguments["decoder_dropout"],
    }
    names = {HEAD: "logits", "decoder.p5": "pyramid/lateral5/conv"}
    for level in (4, 3, 2):
        names[f"decoder.p{level}.skip_conv"] = f"pyramid/lateral{level}/conv"
    for level in (5, 4, 3, 2):
        for i in range(max(1, level - 2)):
            block = f"decoder.seg_blocks.{5 - level}.block.{i}.block"
            ours = f"branch{level}_{i + 1}"
            names |= conv_norm(f"{block}.0", f"{block}.1", ours)
    return _source(encoder, arguments, group, names)


def pspnet(encoder: str, arguments: Mapping[str, Any]) -> Source:
    """`PSPNet`: of the encoder's map at stride 8, unless it is deeper.

    Args:
      encoder: a name of `ENCODERS`.
      arguments: of SMP's class.

    Returns:
      The source.
    """
    depth = arguments["encoder_depth"]
    group = {
        "name": "pspnet",
        "stage": _maps(encoder)[depth],
        "bins": PYRAMID,
        "norm_single_bin": False,
        "features": arguments["psp_out_channels"],
        "fuse_kernel": 1,
        "logits_kernel": 3,
        "aux_stage": None,
        "side_remainder": 0,
        "dropout_rate": arguments["psp_dropout"],
        "norm": {"momentum": 0.9},
    }
    names = {HEAD: "logits"}
    for i, bins in enumerate(PYRAMID):
        theirs = f"decoder.psp.blocks.{i}.pool.1"
        names |= conv_norm(f"{theirs}.0", f"{theirs}.1", f"pyramid/bins{bins}")
    names |= conv_norm("decoder.conv.0", "decoder.conv.1", "fuse")
    return _source(encoder, arguments, group, names, arrange=_map_first)


def deeplab_v3plus(encoder: str, arguments: Mapping[str, Any]) -> Source:
    """`DeepLabV3Plus`, whose dilations are the same at every output stride.

    Args:
      encoder: a name of `DENSE`.
      arguments: of SMP's class.

    Returns:
      The source.
    """
    features = arguments["decoder_channels"]
    group = {
        "name": "deeplab_v3plus",
        "rates": tuple(arguments["decoder_atrous_rates"]),
        "scale_rates": False,
        "features": features,
        "refine": True,
        "decoder_features": (features,),
        "depthwise_norm": False,
        "side_remainder": 0,
        "dropout_rate": arguments["decoder_aspp_dropout"],
        "norm": {"momentum": 0.9},
    }
    aspp = "decoder.aspp.0"
    names = {HEAD: "logits"}
    for theirs, ours in (
        (f"{aspp}.convs.0", "aspp/pointwise"),
        (f"{aspp}.project", "aspp/project"),
        ("decoder.block1", "reduce"),
    ):
        names |= conv_norm(f"{theirs}.0", f"{theirs}.1", ours)
    names |= conv_norm(f"{aspp}.convs.4.1", f"{aspp}.convs.4.2", "aspp/image")
    for conv, norm, ours in (
        *(
            (f"{aspp}.convs.{i}.0", f"{aspp}.convs.{i}.1", f"aspp/atrous{i}")
            for i in (1, 2, 3)
        ),
        ("decoder.aspp.1", "decoder.aspp.2", "refine"),
        ("decoder.block2.0", "decoder.block2.1", "refine1"),
    ):
        names[f"{conv}.0"] = f"{ours}/depthwise/conv"
        names |= conv_norm(f"{conv}.1", norm, f"{ours}/pointwise")
    return _source(encoder, arguments, group, names)


def _source(
    encoder: str,
    arguments: Mapping[str, Any],
    group: Mapping[str, Any],
    names: Mapping[str, str],
    **more: Any,
) -> Source:
    """A decoder, and the part of an encoder that it reads."""
    depth = arguments["encoder_depth"]
    backbone = dict(ENCODERS[encoder].group)
    last = _maps(encoder)[depth]
    if depth < DEPTH:
        backbone["last_stage"] = last
    stride = arguments.get("encoder_output_stride", 2**DEPTH)
    if stride < 2**DEPTH:
        backbone |= {"output_stride": stride, "dilate_first_block": True}
    trunk = {
        f"encoder.{theirs}": ours
        for theirs, ours in ENCODERS[encoder].names.items()
        if not theirs.startswith(ENCODERS[encoder].top)
    }
    computed = {
        x: f"backbone/{y}" for x, y in trunk.items() if _depth(encoder, y) <= depth
    }
    return Source(
        {**group, "backbone": backbone},
        {**computed, **names},
        classifier=(HEAD,),
        unused=frozenset({*BESIDE, *(trunk.keys() - computed.keys())}),
        **more,
    )


DEPTH = 5
"""Maps of an encoder, at strides 2 to 32."""

PLAN = MobileNetV2().plan()


def _maps(encoder: str) -> tuple[str, ...]:
    """Our names of an encoder's maps, from that of the image's size on."""
    if encoder.startswith("vgg"):
        return (*(f"conv{i}" for i in range(1, 6)), "stage5")
    return ("", *(f"stage{i}" for i in range(1, 6)))


def _depth(encoder: str, module: str) -> int:
    """The first of an encoder's maps that one of its modules is needed for."""
    name = module.partition("/")[0]
    if encoder.startswith("vgg"):  # conv4_1, norm4_1
        return int(name[4]) - 1
    if name.startswith("block"):
        return int(PLAN[int(name[5:]) - 1].stage[-1])
    return {"stem": 1, "last": DEPTH}.get(name) or int(name.removeprefix("stage"))


def _map_first(name: str, tensor: np.ndarray) -> np.ndarray:
    """SMP concatenates the grids first and the map last, PSPNet here the map first."""
    if name != "decoder.conv.0.weight" or tensor.ndim != 4:
        return tensor
    grids = tensor.shape[1] // 2
    return np.concatenate([tensor[:, grids:], tensor[:, :grids]], axis=1)


COMMON: dict[str, Any] = {
    "encoder_depth": DEPTH,
    "in_channels": 3,
    "activation": None,
}
"""Arguments of every class; `classes` are read from the weights."""

ARCHITECTURES: dict[str, tuple[str, Callable[..., Source], dict[str, Any]]] = {
    "unet": (
        "Unet",
        unet,
        {
            "decoder_channels": (256, 128, 64, 32, 16),
            "decoder_use_norm": "batchnorm",
            "decoder_attention_type": None,
            "decoder_interpolation": "nearest",
        },
    ),
    "fpn": (
        "FPN",
        fpn,
        {
            "decoder_pyramid_channels": 256,
            "decoder_segmentation_channels": 128,
            "decoder_merge_policy": "add",
            "decoder_dropout": 0.2,
            "decoder_interpolation": "nearest",
            "upsampling": 4,
        },
    ),
    "pspnet": (
        "PSPNet",
        pspnet,
        {
            "encoder_depth": 3,
            "psp_out_channels": 512,
            "decoder_use_norm": "batchnorm",
            "psp_dropout": 0.2,
            "upsampling": 8,
        },
    ),
    "deeplabv3plus": (
        "DeepLabV3Plus",
        deeplab_v3plus,
        {
            "encoder_output_stride": 16,
            "decoder_channels": 256,
            "decoder_atrous_rates": (12, 24, 36),
            "decoder_aspp_separable": True,
            "decoder_aspp_dropout": 0.5,
            "upsampling": 4,
        },
    ),
}
"""SMP's classes, their sources, and their arguments with SMP's defaults."""


def source(name: str, arguments: Mapping[str, Any] | None = None) -> Source:
    """Makes the source of an architecture and an encoder.

    Args:
      name: "ARCHITECTURE-ENCODER", as "unet-resnet34".
      arguments: those of SMP's class that are not its defaults.

    Returns:
      The source.
    """
    architecture, _, encoder = name.partition("-")
    _, make, defaults = ARCHITECTURES[architecture]
    return make(encoder, {**COMMON, **defaults, **(arguments or {})})


SMP: dict[str, Source] = {
    f"{PREFIX}{architecture}-{encoder}": source(f"{architecture}-{encoder}")
    for architecture in ARCHITECTURES
    for encoder in (DENSE if architecture == "deeplabv3plus" else ENCODERS)
}
"""The sources by name, with SMP's own arguments."""
