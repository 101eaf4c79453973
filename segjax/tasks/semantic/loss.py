"""The loss that an experiment names, with class weights that its data decide."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from segjax import config as config_lib
from segjax import parts
from segjax.data.label_spec import LabelSpec
from segjax.data.semantic.class_weights import check_method, class_weights
from segjax.errors import UserError
from segjax.losses import LOSSES
from segjax.types import Array, Record

Loss = Callable[[Mapping[str, Any], Mapping[str, Array]], Array]

WEIGHTS = "class_weights"
"""The argument of losses that can name a rule of `segjax.data.semantic.class_weights`."""


class LossFromConfig:
    """A loss of `LOSSES`, or from outside, with the arguments of `config.loss`.

    Everything about it is checked when it is made. Where `config.loss.class_weights` is
    the name of a rule, such as "median_frequency", the weights are those of the training
    split, and the loss can be called once it has been given them.
    """

    def __init__(self, group: ml_collections.ConfigDict, num_classes: int):
        """Keeps the arguments, and checks them on shapes alone.

        Args:
          group: `config.loss`.
          num_classes: channels of the logits.

        Raises:
          UserError: naming the key that is wrong, its value, and what is allowed.
        """
        loss = parts.find(LOSSES, group.get("name"), "config.loss.name")
        config_lib.check_arguments(
            loss, group, "config.loss", given_later=("outputs", "batch")
        )
        arguments = config_lib.arguments(group)
        self.rule = arguments.get(WEIGHTS)
        if isinstance(self.rule, str):
            check_method(self.rule)
            arguments[WEIGHTS] = (1.0,) * num_classes
        else:
            self.rule = None
        self._loss: Loss = functools.partial(loss, **arguments)
        if group.name in LOSSES:  # others may read any output of the network
            self._check(num_classes)
        self.is_complete = self.rule is None

    def _check(self, num_classes: int) -> None:
        pixels = (1, 1, 1)
        outputs = {"logits": jax.ShapeDtypeStruct((*pixels, num_classes), np.float32)}
        batch = {
            "label": jax.ShapeDtypeStruct(pixels, np.int32),
            "weight": jax.ShapeDtypeStruct(pixels, np.float32),
        }
        try:
            jax.eval_shape(self._loss, outputs, batch)
        except (TypeError, ValueError) as error:
            raise UserError(f"config.loss: {error}.") from error

    def fit_class_weights(
        self, records: Sequence[Record], label_spec: LabelSpec
    ) -> None:
        """Counts the classes of the training split, where a rule asks for it, once."""
        if self.is_complete:
            return
        assert self.rule is not None
        weights = class_weights(self.rule, records, label_spec)
        self._loss = functools.partial(self._loss, **{WEIGHTS: weights})
        self.is_complete = True

    def on_shapes(
        self, outputs: Mapping[str, Any], batch: Mapping[str, Array]
    ) -> Array:
        """The loss before the weights of the classes are known, to be traced alone."""
        return self._loss(outputs, batch)

    def __call__(self, outputs: Mapping[str, Any], batch: Mapping[str, Array]) -> Array:
        """The loss of a batch, a float32 scalar."""
        if not self.is_complete:
            raise ValueError(
                f"the loss waits for the class weights that {self.rule!r} takes from the "
                "training split: call `fit_class_weights` first"
            )
        return self._loss(outputs, batch)
