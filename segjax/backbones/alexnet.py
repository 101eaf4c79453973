"""AlexNet in the form of Caffe's release, CaffeNet, and in that of torchvision.

Krizhevsky, Sutskever & Hinton, NIPS 2012; CaffeNet differs in that each pooling comes
before the normalisation. FCN-AlexNet is made of CaffeNet.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.geometry.fields import Layer
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.ops.normalization.local_response import local_response_norm
from segjax.ops.pooling.adaptive import adaptive_avg_pool
from segjax.ops.pooling.windowed import max_pool
from segjax.types import Array, Dtype

STAGES = {"conv1": "stage2", "conv2": "stage3", "conv5": "stage4", "pool5": "stage5"}
"""The layer behind which each stage is taken; the first convolution steps by 4."""

NORMALIZED = ("pool1", "pool2")
FC6_WINDOW = 6
"""Side of the map that the classifier sees, a 32nd of about 224 pixels."""


class AlexNet(nn.Module):
    """Five convolutions, three poolings, and the classifier as convolutions.

    The stages are those from `stage2`, at strides 4, 8, 16 and 32. The defaults are
    CaffeNet; torchvision's `alexnet` is

        AlexNet(num_classes=1000, features=(64, 192, 384, 256, 256),
                groups=(1, 1, 1, 1, 1), lrn=False, first_padding=2, ceil_mode=False)

    but for its dropout, which stands before fc6 and fc7 and not behind them.

    Attributes:
      num_classes: classes of the classifier fc8; None leaves it away.
      features: channels of each convolution.
      groups: groups of channels of each convolution that do not see each other.
      lrn: whether local response normalisation follows the first two poolings.
      output_stride: input pixels per output pixel of the last stage; 32.
      first_padding: rows of zeros that conv1 adds on each side; FCN takes 100.
      ceil_mode: whether a last pooling window may hang over the end, as in Caffe.
      fully_convolutional: whether fc6 and fc7 run over the whole map; the stage `fc7`
        holds what they give.
      fc_features: channels of fc6 and fc7.
      dropout_rate: fraction of activations dropped behind fc6 and fc7.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int | None = None
    features: tuple[int, ...] = (96, 256, 384, 384, 256)
    groups: tuple[int, ...] = (1, 2, 1, 2, 2)
    lrn: bool = True
    output_stride: int = 32
    first_padding: int = 0
    ceil_mode: bool = True
    fully_convolutional: bool = False
    fc_features: int = 4096
    dropout_rate: float = 0.5
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(
            features=self.features, groups=self.groups, fc_features=self.fc_features
        )
        if len(self.features) != 5 or len(self.groups) != 5:
            raise ValueError(
                "features and groups of AlexNet hold one entry a convolution, five, "
                f"got {self.features} and {self.groups}"
            )
        if self.output_stride != 32:
            raise ValueError(
                f"output_stride of AlexNet is 32, got {self.output_stride}"
            )
        if self.first_padding < 0:
            raise ValueError(f"first_padding is at least 0, got {self.first_padding}")
        if self.num_classes is not None:
            check_counts(num_classes=self.num_classes)
        check_fractions(dropout_rate=self.dropout_rate)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage2` to `stage5`; `fc7` if the network is fully convolutional; `logits` if
          it has classes: `[B, K]`, or `[B, h, w, K]`, one for each position of the
          window, if it is fully convolutional.
        """
        stages, x = {}, image
        widths = dict(zip(_convolutions(), self.features, strict=True))
        groups = dict(zip(_convolutions(), self.groups, strict=True))
        for layer in self.layers():
            if layer.name in widths:
                x = self._conv(x, layer, widths[layer.name], groups[layer.name])
            else:
                x = max_pool(
                    x,
                    window=layer.kernel,
                    stride=layer.stride,
                    ceil_mode=layer.ceil_mode,
                )
                if self.lrn and layer.name in NORMALIZED:
                    x = local_response_norm(x)
            if layer.name in STAGES:
                stages[STAGES[layer.name]] = x
        if self.num_classes is None and not self.fully_convolutional:
            return stages
        if not self.fully_convolutional:
            x = adaptive_avg_pool(x, size=(FC6_WINDOW, FC6_WINDOW))
        for i, layer in zip((6, 7), _fc_layers(), strict=True):
            x = self._conv(x, layer, self.fc_features)
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
        """The path from the image to a stage: `stage2` to `stage5`, or `fc7`."""
        known = [*STAGES.values(), "fc7"]
        if stage not in known:
            raise ValueError(
                f"stage of AlexNet is one of {', '.join(known)}, got {stage}"
            )
        path: list[Layer] = []
        for layer in (
            Layer("conv1", kernel=11, stride=4, padding=self.first_padding),
            Layer(
                "pool1", kernel=3, stride=2, ceil_mode=self.ceil_mode, operation="pool"
            ),
            Layer("conv2", kernel=5, padding=2),
            Layer(
                "pool2", kernel=3, stride=2, ceil_mode=self.ceil_mode, operation="pool"
            ),
            Layer("conv3", kernel=3, padding=1),
            Layer("conv4", kernel=3, padding=1),
            Layer("conv5", kernel=3, padding=1),
            Layer(
                "pool5", kernel=3, stride=2, ceil_mode=self.ceil_mode, operation="pool"
            ),
        ):
            path.append(layer)
            if STAGES.get(layer.name) == stage:
                return tuple(path)
        return (*path, *_fc_layers())

    def _conv(self, x: Array, layer: Layer, features: int, groups: int = 1) -> Array:
        before, _ = layer.pads
        x = Conv(
            features,
            (layer.kernel, layer.kernel),
            stride=layer.stride,
            padding=before,
            groups=groups,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=layer.name,
        )(x)
        return nn.relu(x)


def _convolutions() -> list[str]:
    return [f"conv{i}" for i in range(1, 6)]


def _fc_layers() -> tuple[Layer, Layer]:
    return Layer("fc6", kernel=FC6_WINDOW), Layer("fc7")
