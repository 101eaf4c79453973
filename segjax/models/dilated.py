"""Multi-scale context aggregation by dilated convolutions: front end and context module.

Yu & Koltun, ICLR 2016, arXiv 1511.07122; details that the paper leaves open follow
the authors' release (Dilation7, 8 and 10). The convolutions of the front end are not padded:
the image is, by 186 mirrored pixels on each side, which prediction does by itself.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from segjax.geometry.fields import Layer, input_window, output_size
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.paths import prefixed
from segjax.layers.aspp import SCORE_INIT
from segjax.layers.attributes import check_counts, check_dtypes
from segjax.layers.conv import Conv
from segjax.layers.initializers import Initializer, he_normal
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.resizing.resize import bilinear_kernel, resize_bilinear
from segjax.types import Array, Dtype, Outputs

WIDTHS = {"basic": (1, 1, 1, 1, 1, 1, 1), "large": (2, 2, 4, 8, 16, 32, 32)}
"""Channels of the layers of a context module, in multiples of the classes (table 1)."""

PADDINGS = ("first", "each")
UPSAMPLING = ("fixed", "learned")
NOISE = 0.01
"""Standard deviation of the noise that replaces the identity's zeros, in a wide layer."""


def identity(num_classes: int) -> Initializer:
    """Kernels that pass their input on, group by group (equations 4 and 5).

    Maps belong to the classes in turn, in equal parts. An output map starts as the mean
    of the input maps of its class, scaled to keep the sum over a class; where a class
    has several maps, noise tells them apart.

    Args:
      num_classes: groups of maps, C; it divides the channels before and after.

    Returns:
      A function of key, shape `[kh, kw, C_in, C_out]` and dtype, as Flax expects it.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Dtype = np.float32) -> Array:
        height, width, incoming, outgoing = shape
        classes_in = np.arange(incoming) * num_classes // incoming
        classes_out = np.arange(outgoing) * num_classes // outgoing
        same = classes_in[:, None] == classes_out[None, :]
        centre = np.zeros(shape[:2], bool)
        centre[height // 2, width // 2] = True
        taps = centre[:, :, None, None] & same[None, None]
        multiple = outgoing // num_classes
        elsewhere: Array | float = 0.0
        if incoming != num_classes or outgoing != num_classes:
            variance = (NOISE / multiple) ** 2
            elsewhere = he_normal(fan_in=round(2 / variance))(key, shape, dtype)
        return jnp.where(taps, num_classes / outgoing, elsewhere).astype(dtype)

    return init


class Context(nn.Module):
    """3x3 convolutions whose dilation grows, so that distant scores see each other.

    Attributes:
      num_classes: channels before and after, C.
      width: "basic" or "large", a key of `WIDTHS`.
      dilations: of the 3x3 convolutions; (1, 1, 2, 4, 8, 16, 1) is table 1.
      padding: "each" pads every layer by its dilation, "first" all of it at once before
        the first layer, as the release does for PASCAL VOC.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    width: str = "basic"
    dilations: tuple[int, ...] = (1, 1, 2, 4, 8, 16, 1)
    padding: str = "each"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps scores `[B, h, w, C]` to scores of the same shape."""
        *inner, last = self.layers()
        for layer, multiple in zip(inner, self._multiples(), strict=True):
            x = nn.relu(self._conv(multiple * self.num_classes, layer)(x))
        return self._conv(self.num_classes, last)(x)

    def _multiples(self) -> tuple[int, ...]:
        """Widths of the 3x3 layers; a layer too many or too few is one of the middle."""
        *first, last = WIDTHS[self.width]
        missing = len(self.dilations) - 1 - len(first)
        kept = first[: len(first) + min(0, missing)]
        return (*kept, *[first[-1]] * missing, last)

    def _conv(self, features: int, layer: Layer) -> Conv:
        return Conv(
            features,
            (layer.kernel, layer.kernel),
            padding=layer.pads[0],
            dilation=layer.dilation,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=identity(self.num_classes),
            name=layer.name,
        )

    def layers(self) -> tuple[Layer, ...]:
        """The convolutions, one after the other."""
        paddings = list(self.dilations)
        if self.padding == "first":
            paddings = [sum(paddings)] + [0] * (len(paddings) - 1)
        atrous = (
            Layer(f"conv{i}", kernel=3, padding=padding, dilation=dilation)
            for i, (padding, dilation) in enumerate(
                zip(paddings, self.dilations, strict=True), 1
            )
        )
        return (*atrous, Layer(f"conv{len(paddings) + 1}"))


class DilatedNet(nn.Module):
    """The front end, a context module, and bilinear upsampling by 8.

    The published networks, on
    `VGG(padding=0, first_padding=0, output_stride=8, fully_convolutional=True)`:

        front end, PASCAL VOC      num_classes=21                           134,346,581
        Dilation8, PASCAL VOC      context="large", context_padding="first" 141,149,720
        Dilation8, CamVid          num_classes=11, context="basic"          134,313,443
        Dilation7, KITTI           without the dilation 16                  134,312,343
        Dilation10, Cityscapes     num_classes=19, dilations=(1, 1, 2, 4, 8,
                                   16, 32, 64, 1), upsampling="learned"     134,373,043

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps, of which "fc7" is used.
      context: width of the context module, "basic" or "large"; None for none.
      dilations: of its 3x3 convolutions.
      context_padding: "each" or "first", see `Context`.
      upsampling: "fixed", bilinear, or "learned": a transposed convolution of each class
        by itself that begins as the bilinear one.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    context: str | None = None
    dilations: tuple[int, ...] = (1, 1, 2, 4, 8, 16, 1)
    context_padding: str = "each"
    upsampling: str = "fixed"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes, dilations=self.dilations)
        for name, allowed in (
            ("context", (None, *WIDTHS)),
            ("context_padding", PADDINGS),
            ("upsampling", UPSAMPLING),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is one of {', '.join(map(str, allowed))}, got "
                    f"{getattr(self, name)!r}"
                )
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H - 372, W - 372, K]`.

        Raises:
          ValueError: if H or W is not an accepted side; the nearest accepted ones are named.
        """
        self.geometry.check_image_shape(image.shape)
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = self.backbone(image, train=train)["fc7"]
        score = Conv(
            self.num_classes, (1, 1), kernel_init=SCORE_INIT, **types, name="scores"
        )
        x = score(x)
        if self.context is not None:
            x = self._context(name="context")(x)
        x = x.astype(jnp.float32)
        factor = self.backbone.output_stride
        if self.upsampling == "learned":
            taps = 2 * factor
            kernel = self.param(
                "upsample",
                lambda key: bilinear_kernel(
                    taps, channels=self.num_classes, groups=self.num_classes
                ).astype(self.param_dtype),
            )
            x = conv_transpose(
                x,
                kernel.astype(jnp.float32),
                stride=factor,
                padding=factor // 2,
                groups=self.num_classes,
            )
        else:
            x = resize_bilinear(x, size=(factor * x.shape[1], factor * x.shape[2]))
        return {"logits": x}

    def _context(self, **parent: Any) -> Context:
        assert self.context is not None
        return Context(
            self.num_classes,
            self.context,
            self.dilations,
            self.context_padding,
            self.dtype,
            self.param_dtype,
            **parent,
        )

    def layers(self) -> tuple[Layer, ...]:
        """The whole network, up to the logits at the image's scale."""
        path = (*prefixed("backbone", self.backbone.layers("fc7")), Layer("scores"))
        if self.context is not None:
            path += prefixed("context", self._context(parent=None).layers())
        factor = self.backbone.output_stride
        resize = Layer(
            "resize",
            kernel=2 * factor,
            stride=factor,
            padding=factor // 2,
            transposed=True,
        )
        return (*path, resize)

    @property
    def geometry(self) -> Geometry:
        """Sides whose pooled maps are even; the margin is what the front end loses."""
        return _geometry(self.layers(), self.backbone.output_stride)


@functools.cache
def _geometry(layers: tuple[Layer, ...], stride: int) -> Geometry:
    """Searched for once per network: a model asks each time that it is traced."""
    minimum = next(n for n in range(1, 4096) if _is_accepted(layers, n))
    margin = (minimum - output_size(layers, minimum)) // 2
    first, last = input_window(layers, 0, stride)
    reach = max(-first, last - stride - 2 * margin)
    halo = max(0, -(-reach // stride) * stride)
    return Geometry(stride, margin, halo, minimum, offset=minimum % stride)


def _is_accepted(layers: tuple[Layer, ...], side: int) -> bool:
    """Whether any of the image remains, and every pooled size is even."""
    for layer in layers:
        if layer.operation == "pool" and side % 2:
            return False
        try:
            side = output_size((layer,), side)
        except ValueError:
            return False
    return True
