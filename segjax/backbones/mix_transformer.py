"""Mix Transformer (MiT), the encoder of SegFormer: a pyramid of maps, as of a ResNet.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo, NeurIPS 2021, arXiv 2105.15203, section 3.1 and
table 6; details that the paper leaves open are those of the authors' release
(NVlabs/SegFormer). There is no encoding of positions: convolutions with padding between the
two layers of each feed-forward network tell where a pixel is, so that images of every size
are taken. Queries are as many as pixels, keys and values are fewer (`reductions`).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from segjax.geometry.fields import Layer
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.layers.initializers import Initializer, he_normal, normal
from segjax.ops.attention import dot_product_attention
from segjax.types import Array, Dtype

STAGES = ("stage2", "stage3", "stage4", "stage5")
KERNELS = (7, 3, 3, 3)
"""Sides of the kernels of the patch mergings, which overlap."""

STRIDES = (4, 2, 2, 2)
OUTPUT_STRIDE = 32

DENSE_INIT = normal(0.02)
"""Initial weights of dense layers. The release cuts off what is beyond 2, which is nothing."""


def layer_norm(
    epsilon: float, dtype: Dtype, param_dtype: Dtype, name: str
) -> nn.LayerNorm:
    """Normalises the channels of each pixel by themselves (Ba et al., arXiv 1607.06450).

    Args:
      epsilon: added to the variance.
      dtype: of the result; statistics are float32.
      param_dtype: dtype in which scale and bias are stored.
      name: of the submodule.

    Returns:
      The module.
    """
    return nn.LayerNorm(
        epsilon,
        dtype=dtype,
        param_dtype=param_dtype,
        use_fast_variance=False,
        name=name,
    )


def fan_out(kernel: int, features: int) -> Initializer:
    """Normal weights of variance 2 / fan_out, the release's of convolutions."""
    return he_normal(kernel * kernel * features)


class PatchMerging(nn.Module):
    """A strided convolution whose patches overlap, and a norm.

    Attributes:
      features: output channels.
      kernel: side of the kernel, odd.
      stride: output pixels are this many input pixels apart.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    kernel: int
    stride: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Conv(
            self.features,
            (self.kernel, self.kernel),
            self.stride,
            self.kernel // 2,
            **types,
            kernel_init=fan_out(self.kernel, self.features),
            name="conv",
        )(x)
        return layer_norm(1e-5, **types, name="norm")(x)


class EfficientAttention(nn.Module):
    """Self-attention of all pixels, whose keys and values are of a smaller map.

    Wang et al. 2021, arXiv 2102.12122, section 3.3, with a convolution whose kernel is as
    wide as its stride. Rows and columns at the end that fill no kernel are left out of keys
    and values.

    Attributes:
      heads: heads, a divisor of the channels.
      reduction: the stride, R in the paper; 1 is none.
      dtype: dtype of the computation; the softmax is float32.
      param_dtype: dtype in which parameters are stored.
    """

    heads: int
    reduction: int = 1
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to the same shape."""
        channels, shape = x.shape[-1], x.shape
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def dense(x: Array, name: str) -> Array:
            return nn.Dense(channels, kernel_init=DENSE_INIT, **types, name=name)(x)

        def in_heads(x: Array) -> Array:
            return x.reshape(shape[0], -1, self.heads, channels // self.heads)

        query, reduced = dense(x, "query"), x
        if self.reduction > 1:
            reduced = Conv(
                channels,
                (self.reduction, self.reduction),
                self.reduction,
                **types,
                kernel_init=fan_out(self.reduction, channels),
                name="reduction",
            )(x)
            reduced = layer_norm(1e-5, **types, name="norm")(reduced)
        key, value = dense(reduced, "key"), dense(reduced, "value")
        x = dot_product_attention(in_heads(query), in_heads(key), in_heads(value))
        return dense(x.reshape(shape), "output")


class MixFFN(nn.Module):
    """Two dense layers, and between them a depthwise convolution that tells positions.

    Attributes:
      expansion: hidden channels for each channel.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    expansion: int = 4
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to the same shape."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        channels, hidden = x.shape[-1], self.expansion * x.shape[-1]
        x = nn.Dense(hidden, kernel_init=DENSE_INIT, **types, name="expand")(x)
        depthwise = Conv(
            hidden,
            (3, 3),
            padding=1,
            groups=hidden,
            **types,
            kernel_init=fan_out(3, 1),
            name="depthwise",
        )
        x = nn.gelu(depthwise(x), approximate=False)
        return nn.Dense(channels, kernel_init=DENSE_INIT, **types, name="project")(x)


class TransformerBlock(nn.Module):
    """Attention and a Mix-FFN, each behind a norm and added to what goes in.

    Attributes:
      heads: heads of the attention.
      reduction: stride of its keys and values.
      expansion: of the Mix-FFN.
      drop_path_rate: fraction of the images of a batch for which a branch is left out in
        training (Huang et al. 2016, arXiv 1603.09382); the others count more for it.
      epsilon: added to the variances of the norms.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    heads: int
    reduction: int
    expansion: int = 4
    drop_path_rate: float = 0.0
    epsilon: float = 1e-6
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to the same shape."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        attention = EfficientAttention(
            self.heads, self.reduction, **types, name="attention"
        )
        mix_ffn = MixFFN(self.expansion, **types, name="mix_ffn")
        for i, branch in enumerate((attention, mix_ffn), 1):
            drop = nn.Dropout(
                self.drop_path_rate,
                broadcast_dims=(1, 2, 3),
                deterministic=not train,
                name=f"drop_path{i}",
            )
            norm = layer_norm(self.epsilon, **types, name=f"norm{i}")
            x = x + drop(branch(norm(x)))
        return x


class Stage(nn.Module):
    """A patch merging, blocks, and a norm.

    Attributes:
      features: channels.
      kernel: side of the kernel of the patch merging.
      stride: of the patch merging.
      heads: heads of each block.
      reduction: stride of keys and values in each block.
      drop_path_rates: of the blocks, one each.
      expansion: of the blocks.
      epsilon: added to the variances of the norms behind the patch merging.
      dtype: dtype of the computation.
      param_dtype: dtype in which parameters are stored.
    """

    features: int
    kernel: int
    stride: int
    heads: int
    reduction: int
    drop_path_rates: tuple[float, ...]
    expansion: int = 4
    epsilon: float = 1e-6
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = PatchMerging(
            self.features, self.kernel, self.stride, **types, name="patch_merging"
        )(x)
        for i, rate in enumerate(self.drop_path_rates, 1):
            x = TransformerBlock(
                self.heads,
                self.reduction,
                self.expansion,
                rate,
                self.epsilon,
                **types,
                name=f"block{i}",
            )(x, train=train)
        return layer_norm(self.epsilon, **types, name="norm")(x)


class MixTransformer(nn.Module):
    """MiT-B0 without, or with, its classifier; other sizes by `features` and `blocks`.

    | | features | blocks | parameters with 1,000 classes |
    | --- | --- | --- | --- |
    | B0 | 32, 64, 160, 256 | 2, 2, 2, 2 | 3,576,392 |
    | B1 | 64, 128, 320, 512 | 2, 2, 2, 2 | 13,664,424 |
    | B2 | 64, 128, 320, 512 | 3, 4, 6, 3 | 24,709,288 |
    | B3 | 64, 128, 320, 512 | 3, 4, 18, 3 | 44,585,128 |
    | B4 | 64, 128, 320, 512 | 3, 8, 27, 3 | 61,355,688 |
    | B5 | 64, 128, 320, 512 | 3, 6, 40, 3 | 81,956,008 |

    Attributes:
      num_classes: channels of the classifier behind the global mean; None is none.
      output_stride: input pixels per output pixel of the last stage; 32.
      features: channels of each of the four stages; multiples of `heads`.
      blocks: blocks of each stage.
      heads: heads of the attention in each stage.
      reductions: in each stage, pixels from one key to the next along a side.
      expansion: hidden channels of a Mix-FFN for each channel.
      drop_path_rate: fraction of the branches that is left out in training in the last
        block; before it grows evenly from 0.
      epsilon: added to the variances of the norms of blocks and stages. The release has
        1e-6, Hugging Face's `transformers` 1e-5. The other norms have 1e-5 in both.
      dtype: dtype of the computation; the classifier's logits are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int | None = None
    output_stride: int = OUTPUT_STRIDE
    features: tuple[int, ...] = (32, 64, 160, 256)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    expansion: int = 4
    drop_path_rate: float = 0.1
    epsilon: float = 1e-6
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        if self.output_stride != OUTPUT_STRIDE:
            raise ValueError(
                f"output_stride of MixTransformer is {OUTPUT_STRIDE}, got "
                f"{self.output_stride!r}"
            )
        if self.num_classes is not None:
            check_counts(num_classes=self.num_classes)
        for name in ("features", "blocks", "heads", "reductions"):
            check_counts(**{name: getattr(self, name)})
            if len(getattr(self, name)) != len(STAGES):
                raise ValueError(
                    f"{name} holds {len(STAGES)} integers, one a stage, got "
                    f"{getattr(self, name)}"
                )
        for features, heads in zip(self.features, self.heads, strict=True):
            if features % heads:
                raise ValueError(
                    f"features are multiples of heads {self.heads}, got {self.features}"
                )
        check_counts(expansion=self.expansion)
        check_fractions(drop_path_rate=self.drop_path_rate)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Maps an image `[B, H, W, C]` to its stages.

        Returns:
          `stage2` to `stage5`: maps at strides 4, 8, 16 and 32, of `H / 4` rows and so on,
          rounded up. With `num_classes` also `logits` `[B, num_classes]`.
        """
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        rates = np.linspace(0.0, self.drop_path_rate, sum(self.blocks)).tolist()
        x = image
        stages: dict[str, Array] = {}
        for i, (name, count) in enumerate(zip(STAGES, self.blocks, strict=True)):
            first = sum(self.blocks[:i])
            x = stages[name] = Stage(
                self.features[i],
                KERNELS[i],
                STRIDES[i],
                self.heads[i],
                self.reductions[i],
                tuple(rates[first : first + count]),
                self.expansion,
                self.epsilon,
                **types,
                name=name,
            )(x, train=train)
        if self.num_classes is not None:
            mean = x.astype(jnp.float32).mean((1, 2)).astype(self.dtype)
            classifier = nn.Dense(
                self.num_classes, kernel_init=DENSE_INIT, **types, name="classifier"
            )
            stages["logits"] = classifier(mean).astype(jnp.float32)
        return stages

    @property
    def minimum(self) -> int:
        """The least side of an image that has a key in every stage, in pixels."""
        strides = np.cumprod(STRIDES).tolist()
        reductions = zip(strides, self.reductions, strict=True)
        return max(stride * (reduction - 1) + 1 for stride, reduction in reductions)

    def layers(self, stage: str = "stage5") -> tuple[Layer, ...]:
        """The longest path of convolutions from the image to a stage.

        The attention, which sees everything, is left out.

        Raises:
          ValueError: if there is no such stage.
        """
        if stage not in STAGES:
            raise ValueError(f"stage is one of stage2 to stage5, got {stage!r}")
        path = []
        for i in range(1 + STAGES.index(stage)):
            name, kernel = STAGES[i], KERNELS[i]
            merging = Layer(
                f"{name}/patch_merging/conv", kernel, STRIDES[i], kernel // 2
            )
            path.append(merging)
            for k in range(1, 1 + self.blocks[i]):
                path.append(Layer(f"{name}/block{k}/mix_ffn/depthwise", 3, padding=1))
        return tuple(path)
