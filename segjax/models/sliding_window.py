"""Each pixel classified by the patch around it: patch by patch, or all in one pass.

Ciresan, Giusti, Gambardella, Schmidhuber, NIPS 2012, "Deep neural networks segment
neuronal membranes in electron microscopy images". Run patch by patch, the network
computes over and over again what neighbouring patches share. Where each pooling keeps
its window but moves by one pixel, and everything behind it is dilated by the strides
that were taken away, one pass over the image gives the very same numbers.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry
from segjax.layers.attributes import check_counts, check_dtypes
from segjax.layers.conv import Conv
from segjax.layers.norm import BATCH, Norm, check_norm, normalize
from segjax.ops.pooling.windowed import max_pool
from segjax.types import Array, Dtype, Outputs

FORMS = ("dense", "patches")

AT_ONCE = 256
"""The most patches that are one batch; more are done row by row."""


class PatchClassifier(nn.Module):
    """Convolutions with ReLU, each with 2x2 pooling, and two fully connected layers.

    Attributes:
      num_classes: channels of the logits, K.
      kernels: side of the kernel of each convolution.
      features: channels of each convolution.
      fc_features: channels of the first fully connected layer.
      window: side of the map that it sees.
      norm: what follows each pooling but the last, of the kind "batch"; None for
        nothing.
      dense: whether the poolings move by one pixel, and what follows is dilated.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    kernels: tuple[int, ...]
    features: int
    fc_features: int
    window: int
    norm: Norm | None
    dense: bool
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps patches `[N, P, P, C]` to `[N, 1, 1, K]`, or images to maps of logits."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        dilation = 1
        for i, side in enumerate(self.kernels, 1):
            kernel = (side, side)
            x = Conv(
                self.features, kernel, dilation=dilation, **types, name=f"conv{i}"
            )(x)
            x = nn.relu(x)
            if self.dense:
                x = _moving_maximum(x, dilation)
                dilation *= 2
            else:
                x = max_pool(x, window=2)
            if self.norm is not None and i < len(self.kernels):
                named = {"param_dtype": self.param_dtype, "name": f"norm{i}"}
                x = normalize(x, self.norm, train=train, **named)
        kernel = (self.window, self.window)
        x = Conv(self.fc_features, kernel, dilation=dilation, **types, name="fc")(x)
        return Conv(self.num_classes, (1, 1), **types, name="logits")(nn.relu(x))


def _moving_maximum(x: Array, dilation: int) -> Array:
    """Maximum of each pixel and those `dilation` below, beside, and both."""
    x = jnp.maximum(x[:, :-dilation], x[:, dilation:])
    return jnp.maximum(x[:, :, :-dilation], x[:, :, dilation:])


class SlidingWindow(nn.Module):
    """Gives each pixel the class of the patch whose middle it is.

    Ciresan's N4, as far as it is known: `SlidingWindow(num_classes=2)`, 219,290
    parameters for one input channel. N3, after the re-implementation of
    mjpekala/bio-segmentation: `SlidingWindow(2, kernels=(5, 5, 5), patch=65,
    norm=Norm(momentum=0.95))`. The activations are ReLUs in both. The patches are not
    padded: prediction mirrors the image at its border.

    Attributes:
      num_classes: channels of the logits, K.
      kernels: side of the kernel of each convolution; 2x2 pooling follows each.
      features: channels of each convolution.
      fc_features: channels of the fully connected layer before the logits.
      patch: side of a patch in pixels, odd.
      norm: what follows each pooling but the last, of the kind "batch"; None for
        nothing.
      form: "dense" (one pass over the image) or "patches" (patch by patch). Both take
        the same parameters and give the same logits.
      dtype: dtype of the computation; the logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    kernels: tuple[int, ...] = (4, 5, 4, 4)
    features: int = 48
    fc_features: int = 200
    patch: int = 95
    norm: Norm | None = None
    form: str = "dense"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(
            num_classes=self.num_classes,
            kernels=self.kernels,
            features=self.features,
            fc_features=self.fc_features,
            patch=self.patch,
        )
        check_norm(self.norm, (*BATCH, None))
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        if self.form not in FORMS:
            raise ValueError(f'form is "dense" or "patches", got {self.form!r}')
        if self.patch % 2 == 0 or min(self._sides()) < 1:
            raise ValueError(
                f"patch is an odd number of pixels of which the convolutions and "
                f"poolings of kernels {self.kernels} leave at least one, got {self.patch}"
            )
        super().__post_init__()

    def _sides(self) -> list[int]:
        """Sides of the map of one patch behind each pooling, pixels."""
        sides = [self.patch]
        for kernel in self.kernels:
            sides.append((sides[-1] - kernel + 1) // 2)
        return sides[1:]

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps `[B, H, W, C]` to logits `[B, H - patch + 1, W - patch + 1, K]`.

        Raises:
          ValueError: if H or W is smaller than a patch.
        """
        self.geometry.check_image_shape(image.shape)
        dense = self.form == "dense"
        classifier = PatchClassifier(
            self.num_classes,
            self.kernels,
            self.features,
            self.fc_features,
            self._sides()[-1],
            self.norm,
            dense,
            self.dtype,
            self.param_dtype,
            name="classifier",
        )
        batch, height, width, _ = image.shape
        height, width = height - self.patch + 1, width - self.patch + 1
        if dense:
            logits = classifier(image, train=train)[:, :height, :width]
        elif train or self.is_initializing() or height * width <= AT_ONCE:
            patches = self._patches(image)
            logits = classifier(patches, train=train)
        else:
            logits = self._row_by_row(classifier, image)
        logits = logits.reshape(batch, height, width, self.num_classes)
        return {"logits": logits.astype(jnp.float32)}

    def _patches(self, image: Array) -> Array:
        """All patches of an image, `[B * h * w, patch, patch, C]`, row by row."""
        side, channels = self.patch, image.shape[-1]
        rows, columns = (
            np.arange(size - side + 1)[:, None] + np.arange(side)[None]
            for size in image.shape[1:3]
        )
        patches = image[:, rows][:, :, :, columns]
        return patches.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side, side, channels)

    def _row_by_row(self, classifier: PatchClassifier, image: Array) -> Array:
        """Classifies the patches of one row of pixels after the other."""
        rows = np.arange(image.shape[1] - self.patch + 1)
        strips = jnp.stack([image[:, row : row + self.patch] for row in rows])

        def classify(
            network: PatchClassifier, carry: tuple[()], strip: Array
        ) -> tuple[tuple[()], Array]:
            logits = network(self._patches(strip), train=False)
            return carry, logits.reshape(strip.shape[0], -1, self.num_classes)

        scan = nn.scan(
            classify,
            variable_broadcast=("params", "batch_stats"),
            split_rngs={"params": False},
        )
        _, logits = scan(classifier, (), strips)
        return logits.transpose(1, 0, 2, 3)

    def layers(self) -> tuple[Layer, ...]:
        """The path of the dense form; that of a patch sees the same pixels."""
        path, dilation, used = [], 1, 1
        for i, kernel in enumerate(self.kernels, 1):
            path += [
                Layer(f"classifier/conv{i}", kernel, dilation=dilation),
                Layer(f"classifier/pool{i}", 2, dilation=dilation, operation="pool"),
            ]
            used += kernel * dilation
            dilation *= 2
        window = self._sides()[-1]
        used += (window - 1) * dilation
        path.append(Layer("classifier/fc", window, dilation=dilation))
        path.append(Layer("classifier/logits"))
        if rest := self.patch - used:
            # Pixels of a patch that no pooling window covers.
            path.append(Layer("crop", padding=(0, -rest)))
        return tuple(path)

    @property
    def geometry(self) -> Geometry:
        """Which input sides are accepted, and what tiles must know."""
        return Geometry(stride=1, margin=self.patch // 2, minimum=self.patch)

    def multiply_adds(self, side: int, channels: int = 1) -> int:
        """Counts the multiply-adds of its convolutions that `side * side` logits cost.

        Example:
          >>> net = SlidingWindow(2)
          >>> net.clone(form="patches").multiply_adds(512) // net.multiply_adds(512)
          475
        """
        dense = self.form == "dense"
        size, dilation = (side if dense else 1) + self.patch - 1, 1
        total = 0
        for kernel in self.kernels:
            size -= (kernel - 1) * dilation
            total += size * size * kernel * kernel * channels * self.features
            size = size - dilation if dense else size // 2
            dilation *= 2 if dense else 1
            channels = self.features
        window = self._sides()[-1]
        size -= (window - 1) * dilation
        last = window * window * channels + self.num_classes
        total += size * size * last * self.fc_features
        return total if dense else total * side * side
