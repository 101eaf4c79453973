"""The folder that `save_pretrained` of Hugging Face writes: `config.json`, and the weights.

Where the folder says how images are prepared (`preprocessor_config.json`), that is read, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.backbones.mix_transformer import STRIDES, MixTransformer
from segjax.errors import UserError
from segjax.pretrained.hugging_face import HUGGING_FACE, REPOSITORIES
from segjax.pretrained.source import CHANNELS, Source
from segjax.text_files import read_json

CONFIG = "config.json"
PREPARED = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The files of weights, the one that is preferred first."""

NORMALIZATIONS: dict[tuple[float, ...], str] = {
    (0.485, 0.456, 0.406, 0.229, 0.224, 0.225): "imagenet",
    (0.5, 0.5, 0.5, 0.5, 0.5, 0.5): "tf",
    (0.0, 0.0, 0.0, 1.0, 1.0, 1.0): "range",
}
"""What a mean and a standard deviation of images in [0, 1] are called here."""

LONGEST = 100
"""Characters of a name of a class; longer ones are taken for no name."""

UNNAMED = "LABEL_"
"""What names of classes begin with that nobody has named."""


def read_saved(source: str, folder: Path) -> tuple[Source, Path]:
    """Reads what a network is that `save_pretrained` saved.

    Args:
      source: the name of the source that it is said to be, as "hf/segformer-b0-ade".
      folder: with `config.json` and the weights.

    Returns:
      The source, with the names of the classes that the folder states, and the file of
      weights.

    Raises:
      UserError: if a file is missing or not readable, or the network is another one.
    """
    weights = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not weights or not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} has not both {CONFIG} and {WEIGHTS[0]}: give the folder of a "
            f"repository such as {REPOSITORIES[source]}, or a file of weights."
        )
    file = folder / CONFIG
    config = read_json(file)
    if not isinstance(config, dict) or config.get("model_type") != "segformer":
        raise UserError(f"{file} does not describe a SegFormer (model_type).")
    entry = HUGGING_FACE[source]
    _check(source, entry, config, file)
    if (prepared := folder / PREPARED).is_file():
        entry = dataclasses.replace(entry, **_prepared(entry, prepared))
    return dataclasses.replace(entry, class_names=_class_names(config)), weights[0]


def _prepared(entry: Source, file: Path) -> dict[str, Any]:
    """How images are prepared: the attributes of a source that say it.

    A source whose images are not squeezed, as those of Cityscapes, keeps them so: its network
    was measured on whole images, whatever size the file states.
    """
    given = read_json(file)
    if not isinstance(given, dict):
        raise UserError(f"{file} does not say how images are prepared: leave it away.")
    mean = given.get("image_mean", [0.485, 0.456, 0.406])
    std = given.get("image_std", [0.229, 0.224, 0.225])
    if not given.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    factor = given.get("rescale_factor", 1 / 255)
    try:
        named = NORMALIZATIONS[*(round(float(x), 4) for x in (*mean, *std))]
        known = given.get("do_rescale", True) and abs(255 * float(factor) - 1) < 1e-3
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise UserError(
            f"{file} normalises images by mean {mean}, deviation {std} and factor {factor}, "
            "which is none of segjax's ways: name the file of weights itself, and set "
            "config.pipeline.normalization to the nearest."
        )
    found: dict[str, Any] = {"normalization": named}
    if entry.input_size is not None:
        found["input_size"] = _size(given, file)
    return found


def _size(given: Mapping[str, Any], file: Path) -> tuple[int, int] | None:
    """Height and width to which images are squeezed; None where they stay as they are."""
    if not given.get("do_resize", True):
        return None
    size = given.get("size", 512)
    sides = size
    if isinstance(size, dict):
        sides = [size.get("height"), size.get("width")]
    elif isinstance(size, int):
        sides = [size, size]
    match sides:
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
    raise UserError(
        f"{file} has size {size!r}, and not a height and a width: name the file of weights "
        "itself, and give --input_size."
    )


def _check(source: str, entry: Source, config: Mapping[str, Any], file: Path) -> None:
    """Compares the network with the source's; the first difference ends in a sentence."""
    encoder = entry.group.get("backbone", entry.group)
    expected = {
        "depths": list(encoder["blocks"]),
        "hidden_sizes": list(encoder["features"]),
        "num_attention_heads": list(MixTransformer.heads),
        "sr_ratios": list(MixTransformer.reductions),
        "strides": list(STRIDES),
        "hidden_act": "gelu",
        "num_channels": CHANNELS,
    }
    if not entry.is_backbone:
        expected["decoder_hidden_size"] = entry.group["features"]
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UserError(
                f"{file} has {key} {config[key]!r}, and {source} has {value!r}: name the "
                "source of that size."
            )


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes in their order; none where nobody has named them."""
    given = config.get("id2label")
    if not isinstance(given, dict):
        return ()
    names = [given.get(str(i)) for i in range(len(given))]
    named = [x.strip() for x in names if isinstance(x, str) and x.strip()]
    if len(set(named)) < len(names) or any(x.startswith(UNNAMED) for x in named):
        return ()
    if any(len(x) > LONGEST or not x.isprintable() for x in named):
        return ()
    return tuple(named)
