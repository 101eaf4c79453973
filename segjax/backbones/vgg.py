"""VGG: stacks of 3x3 convolutions between five poolings.

Simonyan & Zisserman, ICLR 2015, arXiv 1409.1556, table 1, configurations A, B, D and E.
The two large layers behind them, fc6 and fc7, are kept as convolutions, so that the
same weights classify one image or score every position of a larger one.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.layers.norm import BATCH, Norm, check_norm, normalize
from segjax.ops.pooling.adaptive import adaptive_avg_pool
from segjax.ops.pooling.windowed import max_pool
from segjax.types import Array, Dtype

CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions of each of the five stacks, by the number of layers with weights."""

OUTPUT_STRIDES = (8, 16, 32)
POOL_WINDOWS = (2, 3)
STAGES = tuple(f"{name}{i}" for i in range(1, 6) for name in ("conv", "stage"))
FC6_WINDOW = 7
"""Side of the map that the classifier sees, a 32nd of the 224 pixels of its images."""


class VGG(nn.Module):
    """Five stacks of convolutions, each followed by a pooling.

    The stages are the outputs of the poolings, at strides 2, 4, 8, 16 and 32; `conv1` to
    `conv5` are the maps before them, at strides 1, 2, 4, 8 and 16. With a
    smaller output stride the last poolings do not shrink, and what follows is dilated:
    a pooling of 2x2 is then left out, as by Yu & Koltun (2016, arXiv 1511.07122); one
    of 3x3 goes on at stride 1, as in DeepLab (Chen et al. 2015, arXiv 1412.7062).

    The convolutions are named conv1_1 to conv5_3, fc6, fc7 and fc8, as in Caffe's
    release; their norms, if any, norm1_1 to norm5_3.

    Attributes:
      depth: layers with weights: 11, 13, 16 or 19.
      num_classes: classes of the classifier fc8; None leaves it away.
      features: channels of each stack.
      norm: what follows each 3x3 convolution, of the kind "batch" (torchvision's
        `vgg16_bn` has `Norm()`); None for nothing.
      output_stride: input pixels per output pixel of the last stage: 32, 16 or 8.
      first_padding: rows of zeros that conv1_1 adds on each side; FCN takes 100.
      padding: the same of all other 3x3 convolutions, 1 or 0; they add as many times
        their dilation.
      pool_window: side of the pooling windows, 2 or 3 (with a padding of 1).
      ceil_mode: whether a last pooling window may hang over the end, as in Caffe.
      fully_convolutional: whether fc6 and fc7 run over the whole map; the stage `fc7`
        holds what they give.
      last_stage: "stage5", or the map behind which the network ends, as "conv4".
      fc_features: channels of fc6 and fc7.
      dropout_rate: fraction of activations dropped behind fc6 and fc7.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    depth: int = 16
    num_classes: int | None = None
    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    norm: Norm | None = None
    output_stride: int = 32
    first_padding: int = 1
    padding: int = 1
    pool_window: int = 2
    ceil_mode: bool = False
    fully_convolutional: bool = False
    last_stage: str = "stage5"
    fc_features: int = 4096
    dropout_rate: float = 0.5
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        for name, allowed in (
            ("depth", tuple(CONVOLUTIONS)),
            ("output_stride", OUTPUT_STRIDES),
            ("pool_window", POOL_WINDOWS),
            ("padding", (0, 1)),
            ("last_stage", STAGES),
        ):
            if getattr(self, name) not in allowed:
                listed = ", ".join(map(str, allowed))
                raise ValueError(
                    f"{name} of VGG is one of {listed}, got {getattr(self, name)!r}"
                )
        check_counts(features=self.features, fc_features=self.fc_features)
        has_more = self.num_classes is not None or self.fully_convolutional
        if has_more and self.last_stage != "stage5":
            raise ValueError(
                f'last_stage of VGG is "stage5" where fc6 follows, got {self.last_stage!r}'
            )
        if len(self.features) != 5:
            raise ValueError(
                f"features of VGG holds one entry a stack, five, got {self.features}"
            )
        if self.first_padding < 0:
            raise ValueError(f"first_padding is at least 0, got {self.first_padding}")
        if self.num_classes is not None:
            check_counts(num_classes=self.num_classes)
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, (*BATCH, None))
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `conv1` to `conv5` and `stage1` to `stage5`, up to the last stage; `fc7` if the network is fully convolutional; `logits` if
          it has classes: `[B, K]`, or `[B, h, w, K]`, one for each position of the
          224 x 224 window, if it is fully convolutional.
        """
        stages, x = {}, image
        for i, convs in enumerate(self._stacks(), 1):
            x = stages[f"conv{i}"] = self._stack(x, i, convs, train)
            if self.last_stage == f"conv{i}":
                break
            if (stride := self._pool_stride(i)) is not None:
                x = max_pool(
                    x,
                    window=self.pool_window,
                    stride=stride,
                    padding=self.pool_window // 2 if self.pool_window == 3 else 0,
                    ceil_mode=self.ceil_mode,
                )
            stages[f"stage{i}"] = x
            if self.last_stage == f"stage{i}":
                break
        if self.num_classes is None and not self.fully_convolutional:
            return stages
        if not self.fully_convolutional:
            x = adaptive_avg_pool(x, size=(FC6_WINDOW, FC6_WINDOW))
        for i, layer in zip((6, 7), self._fc_layers(), strict=True):
            x = self._conv(x, layer, self.fc_features, train)
            x = nn.Dropout(
                self.dropout_rate, deterministic=not train, name=f"dropout{i}"
            )(x)
        if self.fully_convolutional:
            stages["fc7"] = x
        if self.num_classes is not None:
            x = Conv(
                self.num_classes,
                (1, 1),
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name="fc8",
            )(x).astype(jnp.float32)
            stages["logits"] = x if self.fully_convolutional else x[:, 0, 0]
        return stages

    def layers(self, stage: str = "stage5") -> tuple[Layer, ...]:
        """The path from the image to a map: `conv1` to `stage5`, or `fc7`."""
        known = [*STAGES[: STAGES.index(self.last_stage) + 1], "fc7"]
        if stage not in known:
            raise ValueError(f"stage of VGG is one of {', '.join(known)}, got {stage}")
        path: list[Layer] = []
        for i, convs in enumerate(self._stacks(), 1):
            path += convs
            if stage == f"conv{i}":
                return tuple(path)
            if (stride := self._pool_stride(i)) is not None:
                window = self.pool_window
                path.append(
                    Layer(
                        f"pool{i}",
                        window,
                        stride,
                        padding=1 if window == 3 else 0,
                        ceil_mode=self.ceil_mode,
                        operation="pool",
                    )
                )
            if stage == f"stage{i}":
                return tuple(path)
        return (*path, *self._fc_layers())

    def _stacks(self) -> list[list[Layer]]:
        """The 3x3 convolutions, stack by stack."""
        stacks = []
        for i, count in enumerate(CONVOLUTIONS[self.depth], 1):
            dilation = self._dilation(i)
            stacks.append(
                [
                    Layer(
                        f"conv{i}_{k}",
                        kernel=3,
                        padding=self.first_padding
                        if (i, k) == (1, 1)
                        else self.padding * dilation,
                        dilation=dilation,
                    )
                    for k in range(1, count + 1)
                ]
            )
        return stacks

    def _fc_layers(self) -> tuple[Layer, Layer]:
        dilation = self._dilation(6) if self.fully_convolutional else 1
        return Layer("fc6", kernel=FC6_WINDOW, dilation=dilation), Layer("fc7")

    def _dilation(self, stack: int) -> int:
        """How much finer the map before a stack (6: fc6) is than in the original."""
        return max(1, 2 ** (stack - 1) // self.output_stride)

    def _pool_stride(self, i: int) -> int | None:
        """The stride of pooling i; None where it is left out."""
        if 2**i <= self.output_stride:
            return 2
        return 1 if self.pool_window == 3 else None

    def _stack(self, x: Array, i: int, convs: list[Layer], train: bool) -> Array:
        """The convolutions before pooling i."""
        for k, layer in enumerate(convs, 1):
            norm = f"norm{i}_{k}" if self.norm is not None else None
            x = self._conv(x, layer, self.features[i - 1], train, norm)
        return x

    def _conv(
        self,
        x: Array,
        layer: Layer,
        features: int,
        train: bool,
        norm_name: str | None = None,
    ) -> Array:
        """A convolution, the normalisation of this name where there is one, and ReLU."""
        before, _ = layer.pads
        x = Conv(
            features,
            (layer.kernel, layer.kernel),
            padding=before,
            dilation=layer.dilation,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=layer.name,
        )(x)
        if self.norm is not None and norm_name is not None:
            types = {"param_dtype": self.param_dtype, "name": norm_name}
            x = normalize(x, self.norm, train=train, **types)
        return nn.relu(x)


def convolutionalize(dense: Array, *, window: tuple[int, int], channels: int) -> Array:
    """Turns the weights of a dense layer on a flattened map into a convolution's.

    The dense layer sees the map flattened as PyTorch and Caffe do it: channel by
    channel, each row by row.

    Args:
      dense: weights `[C * h * w, F]`, that is, PyTorch's `Linear.weight` transposed.
      window: height and width of the map, `(h, w)`.
      channels: channels of the map, C.

    Returns:
      The kernel `[h, w, C, F]` of an unpadded convolution that gives, at each position
      of a larger map, what the dense layer gives on that window.

    Raises:
      ValueError: if `dense` is no `[C * h * w, F]`.

    Example:
      >>> import jax.numpy as jnp
      >>> convolutionalize(jnp.zeros((25088, 4)), window=(7, 7), channels=512).shape
      (7, 7, 512, 4)
    """
    height, width = window
    if dense.ndim != 2 or dense.shape[0] != channels * height * width:
        hint = ""
        if dense.ndim == 2 and dense.shape[1] == channels * height * width:
            hint = "; it looks transposed"
        raise ValueError(
            f"dense is {dense.shape}, but a map of {channels} channels and "
            f"{height} x {width} pixels needs [{channels * height * width}, F]{hint}"
        )
    kernel = dense.reshape(channels, height, width, dense.shape[1])
    return kernel.transpose(1, 2, 0, 3)
