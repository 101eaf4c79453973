"""The network that an experiment names, with its backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import ml_collections

from segjax import config as config_lib
from segjax import parts
from segjax.backbones import BACKBONES
from segjax.data.normalization import stored_scale
from segjax.errors import UserError
from segjax.layers.crf import DenseCRF
from segjax.layers.remat import with_remat
from segjax.models import MODELS
from segjax.models.groups import merge, with_values

BACKBONE = "backbone"
"""The key of config.model that is a group itself: a name of `BACKBONES`, arguments."""
NETWORK = "network"
"""The key of a model around another: a name of `MODELS`, its arguments except `num_classes`."""
CRF = "crf"
"""The key of a model with a CRF: arguments of `DenseCRF` except `num_classes`."""
REMAT = "remat"
"""The key of a model, of any one, that says whether its blocks are computed twice in training."""
SCALE, OFFSET = "image_scale", "image_offset"
"""Arguments of models that undo the normalisation of their images."""


def build_model(
    group: Mapping[str, Any] | ml_collections.ConfigDict,
    changes: Mapping[str, Any] | None = None,
    *,
    normalization: str | None = None,
    table: Mapping[str, Callable[..., nn.Module]] = MODELS,
    where: str = "config.model",
) -> nn.Module:
    """Makes a network of a dict such as `config.model`.

    Args:
      group: the name of the model and its arguments; `backbone` is such a group, too.
        So are `network` and `crf` of a model around another one. `norm` and the others of
        `groups.VALUES` are groups without a name. With `remat`, which every model has, its
        blocks are computed a second time in training instead of being kept in memory.
      changes: arguments that are replaced, those of the backbone in a dict `backbone`,
        those of another group in a dict of its name. An evaluation can ask for another
        output stride this way; the parameters stay what they are.
      normalization: of the images, for models that undo it; None leaves them at their
        defaults.
      table: the names that the group may have.
      where: the place of the group, for messages.

    Returns:
      The module, without parameters.

    Raises:
      UserError: if a name or an argument is unknown or missing, or a value is refused.
    """
    plain = (
        group.to_dict() if isinstance(group, ml_collections.ConfigDict) else dict(group)
    )
    given = merge(plain, changes or {})
    remat = given.pop(REMAT, False)
    if not isinstance(remat, bool):
        raise UserError(f"{where}.{REMAT} is {remat!r}: it is True or False.")
    more: dict[str, Any] = {}
    if isinstance(given.get(BACKBONE), Mapping):
        more[BACKBONE] = _build(BACKBONES, given.pop(BACKBONE), f"{where}.{BACKBONE}")
    classes = {"num_classes": given.get("num_classes")}
    if isinstance(given.get(NETWORK), Mapping):
        inner = {**classes, **given.pop(NETWORK)}
        more[NETWORK] = build_model(inner, where=f"{where}.{NETWORK}")
    if isinstance(given.get(CRF), Mapping):
        inner = {**classes, **given.pop(CRF)}
        more[CRF] = config_lib.call(DenseCRF, inner, f"{where}.{CRF}")
    name = f"{where}.name"
    more |= _undoing(parts.find(table, given.get("name"), name), given, normalization)
    made = _build(table, given, where, **more)
    return with_remat(made) if remat else made


def _build(
    table: Mapping[str, Callable[..., Any]],
    group: Mapping[str, Any],
    where: str,
    **more: Any,
) -> nn.Module:
    """Builds what a group names, its own groups first."""
    network = parts.find(table, group.get("name"), f"{where}.name")
    group = with_values(network, group, where)
    made = config_lib.build(table, group, where, **more)
    if not isinstance(made, nn.Module):
        raise UserError(
            f"{where}.name is {group['name']!r}, which makes a {type(made).__name__}: a "
            "network is a module of Flax Linen (flax.linen.Module)."
        )
    return made


def _undoing(
    model: Callable[..., Any], given: Mapping[str, Any], normalization: str | None
) -> dict[str, tuple[float, ...]]:
    """Scale and offset of a model that undoes the normalisation, unless it states them."""
    has_them = SCALE in config_lib.inspect_arguments(model, "config.model.name")
    if not has_them or normalization is None or SCALE in given or OFFSET in given:
        return {}
    try:
        scale, offset = stored_scale(normalization)
    except ValueError as error:
        raise UserError(f"config.pipeline.{error}.") from error
    return {SCALE: scale, OFFSET: offset}
