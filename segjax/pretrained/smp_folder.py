"""The folder that segmentation_models.pytorch saves: `config.json` and `model.safetensors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from segjax.errors import UserError
from segjax.pretrained import smp
from segjax.pretrained.source import Source
from segjax.text_files import read_json
from segjax.types import is_count

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CLASS = "_model_class"

FIXED: dict[str, tuple[Any, ...]] = {
    "in_channels": (3,),
    "activation": (None, "identity", "softmax", "softmax2d", "logsoftmax"),
    "decoder_use_norm": ("batchnorm", True, {"type": "batchnorm"}),
    "decoder_use_batchnorm": (True,),
    "psp_use_batchnorm": (True,),
    "decoder_attention_type": (None,),
    "decoder_interpolation": ("nearest",),
    "decoder_merge_policy": ("add",),
    "decoder_aspp_separable": (True,),
    "encoder_output_stride": (16, 8),
}
"""Arguments of which a few values are known; the activation's classes are those of logits."""

DEPTHS = {"unet": (5, 4, 3), "fpn": (5,), "pspnet": (3, 4, 5), "deeplabv3plus": (5,)}
"""Values of `encoder_depth`."""

IGNORED = ("classes", "encoder_weights", "aux_params", "encoder_name")
"""Arguments that weights say themselves, or that have no part in the logits."""

OLDER = ("decoder_use_batchnorm", "psp_use_batchnorm")
"""Arguments of SMP before 0.5."""

LARGEST = 1 << 16
"""The most channels, or pixels of a dilation, that are taken for meant."""


def _is_size(value: Any) -> TypeGuard[int]:
    return is_count(value) and value <= LARGEST


Check = tuple[Callable[[Any], bool], str]

SIZE: Check = _is_size, f"an integer from 1 to {LARGEST}"
FRACTION: Check = (
    lambda x: isinstance(x, int | float) and 0 <= x < 1,
    "at least 0 and less than 1",
)

FREE: dict[str, Check] = {
    "decoder_pyramid_channels": SIZE,
    "decoder_segmentation_channels": (
        lambda x: _is_size(x) and x % 32 == 0,
        "a multiple of 32",
    ),
    "psp_out_channels": SIZE,
    "decoder_atrous_rates": (
        lambda x: _are_sizes(x, 3),
        "three integers of at least 1",
    ),
    "decoder_dropout": FRACTION,
    "psp_dropout": FRACTION,
    "decoder_aspp_dropout": FRACTION,
}
"""Arguments that can have many values, and which."""


def read_saved(source: str, folder: Path) -> tuple[Source, Path]:
    """Reads with which arguments a network was made that SMP's `save_pretrained` saved.

    Args:
      source: the name of the source that it is said to be, as "smp/unet-resnet34".
      folder: with `config.json` and `model.safetensors`.

    Returns:
      The source with those arguments, and the file of weights.

    Raises:
      UserError: if a file is missing or the network is another one than named, or one that
        segjax does not have; what it has is listed then.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}: give the folder that SMP's save_pretrained writes, "
                f"with {CONFIG} and {WEIGHTS}, or a file of weights."
            )
    file = folder / CONFIG
    config = read_json(file)
    if not isinstance(config, dict):
        raise UserError(f"{file} is not a JSON object of the arguments of a network.")
    name = source.removeprefix(smp.PREFIX)
    architecture, _, encoder = name.partition("-")
    classes = {row[0]: key for key, row in smp.ARCHITECTURES.items()}
    found = classes.get(str(config.get(CLASS, smp.ARCHITECTURES[architecture][0])))
    theirs = config.get("encoder_name", encoder)
    saved = f"{smp.PREFIX}{found}-{theirs}"
    if saved not in smp.SMP:
        made = f"{config.get(CLASS, architecture)} with the encoder {theirs!r}"
        raise UserError(
            f"{file} is of {made}, which segjax does not have: {SUPPORTED}."
        )
    if saved != source:
        raise UserError(f"{file} is of {saved}, not of {source}: name that source.")
    arguments = {
        key: value
        for key, value in config.items()
        if not key.startswith("_") and key not in IGNORED
    }
    _check(architecture, arguments, config, file)
    return smp.source(name, arguments), folder / WEIGHTS


SUPPORTED = (
    f"supported are {', '.join(row[0] for row in smp.ARCHITECTURES.values())} with the "
    f"encoders {', '.join(smp.ENCODERS)} (DeepLabV3Plus without VGG)"
)
"""Ends a sentence about a network that is not here."""


def _check(
    architecture: str,
    arguments: Mapping[str, Any],
    config: Mapping[str, Any],
    file: Path,
) -> None:
    """Checks each argument; the first one that is not known ends in a sentence."""
    defaults = {**smp.COMMON, **smp.ARCHITECTURES[architecture][2]}
    depth = arguments.get("encoder_depth", defaults["encoder_depth"])
    depth_first = sorted(arguments, key=lambda key: key != "encoder_depth")
    for key, value in ((key, arguments[key]) for key in depth_first):
        if key not in (*defaults, *OLDER):
            if value is None:
                continue
            raise UserError(
                f"{file} has the argument {key}, which segjax does not know; it knows "
                f"{', '.join((*defaults, *OLDER, *IGNORED))}."
            )
        is_allowed, allowed = _allowed(key, architecture, depth, config)
        if not is_allowed(value):
            raise UserError(
                f"{file}: {key} is {value!r}, which segjax does not have; supported: "
                f"{allowed}."
            )


def _allowed(
    key: str, architecture: str, depth: Any, config: Mapping[str, Any]
) -> Check:
    """Which values an argument can have, and how to say that."""
    if key in FREE:
        return FREE[key]
    if key == "decoder_channels":
        if architecture != "unet":
            return SIZE
        return lambda x: _are_sizes(x, depth), f"{depth} integers, one for each level"
    values: tuple[Any, ...] = FIXED.get(key, DEPTHS[architecture])
    if key == "upsampling":
        values = (2**depth if architecture == "pspnet" else 4,)
    if key == "activation" and config.get("classes", 1) == 1:
        values = (*values, "sigmoid")
    return lambda x: any(x == y and type(x) is type(y) for y in values), ", ".join(
        map(repr, values)
    )


def _are_sizes(value: Any, count: int) -> bool:
    is_list = isinstance(value, list | tuple) and len(value) == count
    return is_list and all(map(_is_size, value))
