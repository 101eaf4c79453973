"""Averaging a prediction over several networks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segjax.predict.dihedral import Apply
from segjax.predict.heads import SOFTMAX, Head
from segjax.predict.scaled import NormalizedImage
from segjax.predict.temperature import Pages
from segjax.types import Array


class Members(NamedTuple):
    """Variables of several networks.

    Attributes:
      stacked: collections of the model; each array has the networks along its first axis.
    """

    stacked: Any


def stack_members(variables: Sequence[Any]) -> Members:
    """Puts the variables of networks of one architecture together.

    Example:
      >>> members = stack_members([{"bias": jnp.zeros(3)}, {"bias": jnp.ones(3)}])
      >>> members.stacked["bias"].shape
      (2, 3)
    """
    return Members(jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables))


def over_members(apply: Apply, head: Head = SOFTMAX) -> Apply:
    """Averages the class probabilities over the networks, where there are several.

    Args:
      apply: the network.
      head: how its logits are read.

    Returns:
      A function like `apply`. Given `Members`, it returns the logits of the mean, float32;
      given the variables of one network, what `apply` does.
    """

    def averaged(variables: Any, image: Array) -> Array:
        if not isinstance(variables, Members):
            return apply(variables, image)

        def add(total: Array, member: Any) -> tuple[Array, None]:
            return total + head.probabilities(apply(member, image)), None

        count = len(jax.tree.leaves(variables.stacked)[0])
        first = jax.tree.map(lambda leaf: leaf[0], variables.stacked)
        shape = jax.eval_shape(apply, first, image).shape
        total, _ = jax.lax.scan(add, jnp.zeros(shape), variables.stacked)
        return head.logits(total / count)

    return averaged


class EnsemblePredictor:
    """The mean of the class probabilities of several predictors, of any architectures.

    Each is given channels of its own of the images: where they are normalised in different
    ways, an image has as many parts as there are networks.
    """

    def __init__(self, predictors: Sequence[Pages], channels: int):
        """Takes the predictors.

        Args:
          predictors: of each network, two or more.
          channels: of each part of an image, C.
        """
        self._predictors, self._channels = tuple(predictors), channels
        self.head = predictors[0].head

    def pages(
        self, images: Iterable[NormalizedImage], outputs: Sequence[str] = ("labels",)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Predicts a stream of images.

        Args:
          images: float32 `[H, W, C * N]` each, the parts of N networks one after the other.
          outputs: keys of `segjax.predict.tiled.OUTPUTS`; `logits` are the
            logarithms of probabilities, or of their odds where classes overlap.

        Yields:
          for each image, in order, an array over its pixels for each output.
        """
        whole = map(np.asarray, images)  # once for all networks
        streams = itertools.tee(whole, len(self._predictors))
        found = [
            predictor.pages(self._parts(stream, place), ("probabilities",))
            for place, (predictor, stream) in enumerate(
                zip(self._predictors, streams, strict=True)
            )
        ]
        for pages in zip(*found, strict=True):
            mean = sum(page["probabilities"] for page in pages) / len(pages)
            yield jax.device_get(self.head.outputs(self.head.logits(mean), outputs))

    def _parts(self, images: Iterable[np.ndarray], place: int) -> Iterator[np.ndarray]:
        first = place * self._channels
        for image in images:
            yield image[..., first : first + self._channels]
