"""The network that an experiment names, with its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import ml_collections

from segjax import config as config_lib
from segjax.backbones import BACKBONES
from segjax.models import MODELS

BACKBONE = "backbone"
"""The key of config.model that is a group itself: a name of `BACKBONES`, arguments."""


def build_model(
    group: ml_collections.ConfigDict, changes: Mapping[str, Any] | None = None
) -> nn.Module:
    """Makes the network of `config.model`.

    Args:
      group: the name of the model and its arguments; `backbone` is such a group, too.
      changes: arguments that are replaced, those of the backbone in a dict
        `backbone`. An evaluation can ask for another output stride this way; the
        parameters stay what they are.

    Returns:
      The module, without parameters.

    Raises:
      UserError: if a name or an argument is unknown or missing, or a value is refused.
    """
    given = group.to_dict()
    for key, value in (changes or {}).items():
        nested = isinstance(value, Mapping) and isinstance(given.get(key), Mapping)
        given[key] = {**given[key], **value} if nested else value
    more: dict[str, Any] = {}
    if isinstance(given.get(BACKBONE), Mapping):
        more[BACKBONE] = config_lib.build(
            BACKBONES, given.pop(BACKBONE), f"model.{BACKBONE}"
        )
    return config_lib.build(MODELS, given, "model", **more)
