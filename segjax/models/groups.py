"""Groups of a network's config that have no name, and the values that they become.

Such a group holds the arguments of one dataclass; those that it leaves out keep the defaults
of its network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from segjax import config as config_lib
from segjax.layers.norm import Norm
from segjax.models.mask_rcnn.attributes import RPN, PostProcessing, RoIHeads, RoIPooling

VALUES: dict[str, type[Any]] = {
    "norm": Norm,
    "rpn": RPN,
    "roi_pooling": RoIPooling,
    "roi_heads": RoIHeads,
    "post_processing": PostProcessing,
}
"""Attributes of networks that are groups in a config, and what they are in Python."""


def with_values(
    network: Callable[..., Any], given: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Makes the values of a network's groups.

    Args:
      network: the class of the network.
      given: its arguments, as a config has them.
      where: the place of the arguments, for messages.

    Returns:
      The arguments with values in place of groups. None, and a key that is not an argument of
      the network, are left as they are.

    Raises:
      UserError: if a group has an unknown key, or a value is refused.

    Example:
      >>> from segjax.backbones.mobilenet_v3 import MobileNetV3
      >>> with_values(MobileNetV3, {"norm": {"momentum": 0.95}}, "config.model")["norm"]
      Norm(kind='batch', momentum=0.95, epsilon=0.001, frozen=False, groups=32)
    """
    parameters = config_lib.inspect_arguments(network, where)
    made = dict(given)
    for key, kind in VALUES.items():
        group = given.get(key)
        if key not in parameters or group is None or isinstance(group, kind):
            continue
        if isinstance(group, Mapping):
            default = parameters[key].default
            known = default if isinstance(default, kind) else kind()
            group = {**dataclasses.asdict(known), **group}
        made[key] = config_lib.call(kind, group, f"{where}.{key}")
    return made


def merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the leaves of one tree in the place of another's.

    Example:
      >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
      {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged
