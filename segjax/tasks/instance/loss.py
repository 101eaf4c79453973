"""The loss of objects that an experiment names."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from segjax import config as config_lib
from segjax import parts
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.losses import INSTANCE_LOSSES
from segjax.types import Array, Record


class InstanceLossFromConfig:
    """A loss of `INSTANCE_LOSSES`, or from outside, with the arguments of `config.loss`.

    It has the methods of `segjax.tasks.semantic.loss.LossFromConfig`.
    """

    def __init__(self, group: ml_collections.ConfigDict):
        """Keeps the arguments, and checks them.

        Raises:
          UserError: naming the key that is wrong, its value, and what is allowed.
        """
        loss = parts.find(INSTANCE_LOSSES, group.get("name"), "config.loss.name")
        given = config_lib.check_arguments(
            loss, group, "config.loss", given_later=("outputs", "batch")
        )
        for name, value in given.items() if group.name in INSTANCE_LOSSES else ():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"config.loss.{name} is a number, got {value!r}.")
            if not 0 <= value < float("inf"):
                raise UserError(f"config.loss.{name} is at least 0, got {value!r}.")
        self._loss = functools.partial(loss, **given)

    def fit_class_weights(
        self, records: Sequence[Record], label_spec: LabelSpec
    ) -> None:
        """Does nothing: classes of objects are not weighted by how often they come."""

    def __call__(
        self, outputs: Mapping[str, Any], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of a batch, a float32 scalar, and its parts by name."""
        return self._loss(outputs, batch)
