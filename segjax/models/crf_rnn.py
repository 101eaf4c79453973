"""CRF as a recurrent network: any network, and a fully connected CRF learned with it.

Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang, Torr, ICCV 2015, arXiv
1502.03240. The steps of mean field are layers that share their weights; behind an FCN-8s
they are trained together with it, with five steps in training and ten afterwards.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.paths import prefixed
from segjax.layers.attributes import check_counts, check_dtypes
from segjax.layers.crf import DenseCRF
from segjax.types import Array, Dtype, Outputs


class CRFRNN(nn.Module):
    """A network whose logits a CRF refines, trained end to end.

    The paper's own is `CRFRNN(21, FCN(21, skips=("stage4", "stage3")), DenseCRF(21,
    compatibility="full"))`, which has 443 more parameters than the FCN-8s: two weights
    and the compatibility of 21 labels. The authors also give each label a weight in
    each kernel; only the product with the compatibility matters.

    The kernels compare colours on a scale of 0 to 255, and the network is given a
    normalised image, so its normalisation is undone here: `image * image_scale +
    image_offset`. In an experiment both come from `config.pipeline.normalization`.

    Attributes:
      num_classes: channels of the logits, K.
      network: image -> logits `[B, H, W, K]` of the image's own size.
      crf: what refines them, for as many classes.
      image_scale: steps of 0..255 in one unit of the image; one number, or one for each
        channel. The default is that of images in [0, 1].
      image_offset: what an image of zeros is in 0..255, likewise.
      dtype: of the logits that the network hands over; the CRF computes in float32.

    Raises:
      ValueError: naming the attribute, what it was, and what is allowed.
    """

    num_classes: int
    network: nn.Module
    crf: DenseCRF
    image_scale: tuple[float, ...] = (255.0,)
    image_offset: tuple[float, ...] = (0.0,)
    dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes)
        check_dtypes(dtype=self.dtype)
        parts: tuple[tuple[str, Any], ...] = (
            ("network", self.network),
            ("crf", self.crf),
        )
        for name, part in parts:
            if part.num_classes != self.num_classes:
                raise ValueError(
                    f"{name} has {part.num_classes} classes; allowed are those of the "
                    f"whole, {self.num_classes}"
                )
        geometry: Geometry = parts[0][1].geometry
        if geometry.margin:
            raise ValueError(
                f"network loses {geometry.margin} pixels at each border; allowed is one "
                "whose logits have the size of the image"
            )
        for name in ("image_scale", "image_offset"):
            if not getattr(self, name):
                raise ValueError(f"{name} holds one number or one for each channel")
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to refined logits `[B, H, W, K]`.

        Other outputs of the network in training, such as `aux_logits`, are passed on.

        Raises:
          ValueError: if the network does not take the size, or scale and offset are
            neither for one channel nor for all.
        """
        outputs = self.network(image, train=train)
        refined = self.crf(outputs["logits"].astype(self.dtype), self._stored(image))
        return {**outputs, "logits": refined}

    def _stored(self, image: Array) -> Array:
        channels = image.shape[-1]
        factors = []
        for name in ("image_scale", "image_offset"):
            value = jnp.asarray(getattr(self, name), jnp.float32)
            if value.shape not in ((1,), (channels,)):
                raise ValueError(
                    f"{name} has {value.shape[0]} numbers; allowed are 1 and {channels}, "
                    "the channels of the image"
                )
            factors.append(jnp.broadcast_to(value, (channels,))[None, None, None])
        return image.astype(jnp.float32) * factors[0] + factors[1]

    def layers(self) -> tuple[Layer, ...]:
        """The network's; the CRF then connects each pixel with all others."""
        network: Any = self.network
        return (*prefixed("network", network.layers()), Layer("crf"))

    @property
    def geometry(self) -> Geometry:
        """That of the network, but without tiles, and with sides of at least two pixels."""
        network: Any = self.network
        geometry: Geometry = network.geometry
        return dataclasses.replace(
            geometry, halo=None, minimum=max(geometry.minimum, 2)
        )
