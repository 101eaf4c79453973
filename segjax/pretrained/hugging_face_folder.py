"""The folder that `save_pretrained` of Hugging Face writes: `config.json`, and the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.backbones.mix_transformer import STRIDES, MixTransformer
from segjax.errors import UserError
from segjax.pretrained.hugging_face import HUGGING_FACE, REPOSITORIES
from segjax.pretrained.source import Source
from segjax.text_files import read_json

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The files of weights, the one that is preferred first."""

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
    return dataclasses.replace(entry, class_names=_class_names(config)), weights[0]


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
    }
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
