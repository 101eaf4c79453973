"""Groups of a network's config that have no name, and the values that they become.

Such a group holds the arguments of one dataclass; those that it leaves out keep the defaults
of its network.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

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

Make = Callable[[type[Any], Any, str], Any]
"""A maker of values: from a dataclass, its arguments (or what stands in their place, which is
an error), and the group's key."""


def with_values(
    network: Callable[..., Any], given: Mapping[str, Any], make: Make
) -> dict[str, Any]:
    """Makes the values of a network's groups.

    Args:
      network: the class of the network.
      given: its arguments, as a config has them.
      make: makes a value.

    Returns:
      The arguments with values in place of groups. None, and a key that is not an argument of
      the network, are left as they are.

    Example:
      >>> from segjax.backbones.mobilenet_v3 import MobileNetV3
      >>> make = lambda kind, arguments, key: kind(**arguments)
      >>> with_values(MobileNetV3, {"norm": {"momentum": 0.95}}, make)["norm"]
      Norm(kind='batch', momentum=0.95, epsilon=0.001, frozen=False, groups=32)
    """
    parameters = inspect.signature(network).parameters
    made = dict(given)
    for key, kind in VALUES.items():
        group = given.get(key)
        if key not in parameters or group is None or isinstance(group, kind):
            continue
        if isinstance(group, Mapping):
            default = parameters[key].default
            known = default if isinstance(default, kind) else kind()
            group = {**dataclasses.asdict(known), **group}
        made[key] = make(kind, group, key)
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
