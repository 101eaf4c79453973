"""What the logits of a network stand for: classes that exclude each other, one, or several."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_collections

from segjax.data.label_spec import LabelSpec
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError, suggestion
from segjax.losses import LOSSES, SIGMOID_LOSSES
from segjax.predict import heads
from segjax.types import Array

ACTIVATIONS = ("softmax", "sigmoid")

_OF_ONE_CLASS = (
    *("boundary_f1", "boundary_iou", "surface_distance", "trimap_widths"),
    "calibration",
)


@dataclasses.dataclass(frozen=True)
class SemanticHead:
    """The meaning of the logits, by `config.head` and `config.model.num_classes`.

    "softmax": each pixel is of one of K classes, by K logits. "sigmoid" with one logit: a
    pixel is of class 1 or of class 0. "sigmoid" with K logits: classes overlap, and a pixel
    is of any number of them, also of none.

    Attributes:
      activation: one of `ACTIVATIONS`.
      num_logits: channels of the logits.
    """

    activation: str
    num_logits: int

    @property
    def num_classes(self) -> int:
        """The classes of the labels."""
        return 2 if self.is_binary else self.num_logits

    @property
    def is_binary(self) -> bool:
        """Whether one logit tells two classes apart."""
        return self.activation == "sigmoid" and self.num_logits == 1

    @property
    def overlaps(self) -> bool:
        """Whether a pixel may be of several classes."""
        return self.activation == "sigmoid" and self.num_logits > 1

    @property
    def read(self) -> heads.Head:
        """How the logits that `expand` gives are read."""
        return heads.SIGMOID if self.overlaps else heads.SOFTMAX

    def expand(self, logits: Array) -> Array:
        """The logits of all classes, of those of the network."""
        return heads.against_zero(logits) if self.is_binary else logits

    def collapse(self, logits: Array) -> Array:
        """The logits of the network, of those that `expand` gives, up to a number of all."""
        return logits[..., 1:] - logits[..., :1] if self.is_binary else logits

    @property
    def labels(self) -> tuple[int, type[LabelSpec]]:
        """How many classes the labels have, and the type of their description."""
        return self.num_classes, OverlappingClasses if self.overlaps else LabelSpec

    def check_wishes(self, config: ml_collections.ConfigDict, evaluation: Any) -> None:
        """Checks that nothing is wanted which classes that overlap do not have.

        Args:
          config: the experiment.
          evaluation: what is measured, a `segjax.tasks.semantic.evaluate.Evaluation`; it may
            be more than the config names.

        Raises:
          UserError: naming the key.
        """
        if not self.overlaps:
            return
        wanted = [
            f"evaluation.{key}" for key in _OF_ONE_CLASS if getattr(evaluation, key)
        ]
        wanted += ["evaluation.cell_class"] * (evaluation.cell_class is not None)
        wanted += ["pipeline.border_weight"] * bool(
            config.pipeline.get("border_weight")
        )
        wanted += [key for key in ("crf", "objects") if key in config]
        if wanted:
            raise UserError(
                f"config.{wanted[0]} is for pixels of one class each, but with "
                f'config.head "sigmoid" and {self.num_logits} logits classes overlap: leave '
                "it out."
            )

    def check_loss(self, name: object) -> None:
        """Checks that a loss of `LOSSES` is one of these logits; others are let pass.

        Raises:
          UserError: naming losses that are.
        """
        if not isinstance(name, str) or name not in LOSSES:
            return
        if (name in SIGMOID_LOSSES) == (self.activation == "sigmoid"):
            return
        softmax, sigmoid = ACTIVATIONS
        known, other = sorted(SIGMOID_LOSSES), softmax
        if self.activation == softmax:
            known, other = sorted(LOSSES.keys() - SIGMOID_LOSSES.keys()), sigmoid
        raise UserError(
            f'config.loss.name is {name!r}, a loss for config.head "{other}", but the head '
            f'is "{self.activation}": use one of {", ".join(known)}, or the other head.'
        )

    def check_labels(self, spec: LabelSpec, name: str) -> None:
        """Checks that the labels of a data set have the classes of the logits.

        Raises:
          UserError: saying what does not fit.
        """
        if isinstance(spec, OverlappingClasses) != self.overlaps:
            if self.overlaps:
                what, remedy = "exclude each other", "leave config.head out"
            else:
                what, remedy = "overlap", "give config.head=sigmoid"
            raise UserError(
                f'The classes of the data set "{name}" {what}, but config.head is '
                f"{self.activation!r} with {self.num_logits} logits: {remedy}."
            )
        if self.num_classes != spec.num_classes:
            one = " (or 1, with config.head=sigmoid)" if spec.num_classes == 2 else ""
            raise UserError(
                f"config.model.num_classes is {self.num_logits}, but the data set "
                f'"{name}" has {spec.num_classes} classes ({", ".join(spec.names)}): use '
                f"that number{one}."
            )


def head_of(config: ml_collections.ConfigDict) -> SemanticHead:
    """Reads the head of an experiment.

    Raises:
      UserError: if there is no such head, or it does not fit the number of logits.
    """
    activation = config.get("head", "softmax")
    if activation not in ACTIVATIONS:
        raise UserError(
            f"config.head is {activation!r}; use one of {', '.join(ACTIVATIONS)}."
            f"{suggestion(str(activation), ACTIVATIONS)}"
        )
    count = config.model.num_classes
    most = OverlappingClasses.most_classes
    if activation == "sigmoid" and count > most:
        raise UserError(
            f"config.model.num_classes is {count}, but at most {most} classes can overlap: "
            "use fewer, or a network for each part of them."
        )
    if activation == "softmax" and count == 1:
        raise UserError(
            "config.model.num_classes is 1, and the softmax of one logit is always 1: use "
            "2, or one logit with config.head=sigmoid."
        )
    return SemanticHead(activation, count)
