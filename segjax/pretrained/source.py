"""Where weights come from: the network that they belong to, and its names there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.backbones import BACKBONES
from segjax.errors import UserError
from segjax.models import MODELS
from segjax.models.builder import build_model
from segjax.pretrained.convert import Names, State, modules_of

CHANNELS = 3
"""Of the images that weights from elsewhere were trained on, which are RGB."""

IMAGE_SHAPE = (1, 224, 224, CHANNELS)
"""The shape that parameters are initialised with; theirs depend on the channels alone."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights of one kind.

    Attributes:
      group: the network, as the group `model` of a config has it: `name`, attributes,
        and `backbone` as such a group again. The number of classes is read from the
        weights.
      names: foreign modules and the paths of ours.
      classifier: foreign modules whose outputs are classes; the first one is the head.
      auxiliary: foreign modules, and the attributes of ours that make their place; where
        the weights lack the modules, the network does, too.
      top: beginnings of the foreign modules of a classifier of images that stand behind
        its last stage; a segmentation may have no place for them.
      normalization: how images are normalised for these weights, a method of
        `segjax.data.files.images.normalize`.
      rename: brings a foreign tensor's name into the form that `names` has, with
        "weight" and "bias".
      arrange: brings a tensor, with its name, into our order of channels.
      input_size: height and width of the images that the weights were made for, where their
        file says so.
      unused: foreign modules, and tensors, that weights may have and the network has not.
      class_names: of the classes, where the folder of the weights has them.
    """

    group: Mapping[str, Any]
    names: Names
    classifier: tuple[str, ...]
    auxiliary: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    top: tuple[str, ...] = ()
    normalization: str = "imagenet"
    rename: Callable[[str], str] = str
    arrange: Callable[[str, np.ndarray], np.ndarray] = lambda name, tensor: tensor
    input_size: tuple[int, int] | None = None
    unused: frozenset[str] = frozenset()
    class_names: tuple[str, ...] = ()

    @property
    def is_backbone(self) -> bool:
        """Whether these are weights of a classifier of images, not of a segmentation."""
        return self.group["name"] in BACKBONES

    def classes_of(self, state: State) -> int | None:
        """The number of classes that the head of some weights has; None without one."""
        found = state.get(f"{self.classifier[0]}.bias")
        return len(found) if found is not None and found.ndim == 1 else None

    def group_of(self, state: State, num_classes: int | None = None) -> dict[str, Any]:
        """The network with the attributes that some weights show.

        Args:
          state: foreign tensors by name.
          num_classes: where given, instead of the classes of the weights.

        Returns:
          The group `model` of a config.

        Raises:
          UserError: if the head is missing.
        """
        if num_classes is None:
            num_classes = self.classes_of(state)
        if num_classes is None and not self.is_backbone:
            raise UserError(
                f"The number of classes is not known, as {self.classifier[0]}.bias is "
                "missing or not a vector: give weights with a classifier. In Python, "
                "segjax.pretrained.load(..., num_classes=N, reinitialize=True) makes one."
            )
        present = modules_of(state)
        group = dict(self.group) | {"num_classes": num_classes}
        for module, attributes in self.auxiliary.items():
            if module in present:
                group |= attributes
        return group

    def has_names_of(self, state: Iterable[str]) -> bool:
        """Whether some tensors have the names of this source, with or without its heads."""
        heads = tuple(module.partition(".")[0] + "." for module in self.auxiliary)
        needed = {x for x in self.names if not f"{x}.".startswith((*heads, *self.top))}
        found = modules_of(x for x in state if not self.is_unused(x))
        return needed <= found <= set(self.names)

    def is_unused(self, name: str) -> bool:
        """Whether a tensor is one of those that the network has no use for."""
        return name in self.unused or name.rpartition(".")[0] in self.unused


def build(group: Mapping[str, Any], source: str) -> nn.Module:
    """Makes the network, or the backbone alone, that weights of a source belong to.

    Raises:
      UserError: if an attribute is unknown or refused.
    """
    return build_model(
        group, table={**MODELS, **BACKBONES}, where=f"the network of {source}"
    )


def abstract_variables(model: nn.Module) -> Mapping[str, Any]:
    """Shapes and dtypes of a model's collections; computes nothing."""
    image = jax.ShapeDtypeStruct(IMAGE_SHAPE, jnp.float32)
    init = lambda image: model.init(jax.random.key(0), image, train=False)
    return jax.eval_shape(init, image)
