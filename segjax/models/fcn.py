"""FCN: classifiers as convolutions, their scores enlarged to the image.

Long, Shelhamer & Darrell, CVPR 2015, arXiv 1411.4038; Shelhamer, Long & Darrell, TPAMI
2017. Offsets of crops and names of layers are those of the authors' release, from which
the crops of other backbones are derived, too (`geometry/alignment.py`).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from segjax.backbones.vgg import VGG
from segjax.geometry.alignment import IMAGE, Path, Step, align, minimum_side
from segjax.geometry.fields import Layer, receptive_field
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.padded import padded_geometry
from segjax.geometry.paths import enlargement, prefixed
from segjax.layers.attributes import check_counts, check_dtypes, check_fractions
from segjax.layers.conv import Conv
from segjax.layers.conv_norm import ConvNorm, norm_options
from segjax.layers.initializers import he_normal, zeros
from segjax.layers.norm import BATCH, Norm, check_norm
from segjax.layers.upsample import Upsample
from segjax.ops.resizing.resize import crop, resize_bilinear
from segjax.types import Array, Dtype, Outputs

UPSAMPLING = ("fixed", "paper", "learned", "resize")
HEADS = ("score", "conv")
IMAGE_NAME = "image"
AUX_DROPOUT = 0.1


class FCN(nn.Module):
    """Scores of a coarse map, joined with those of finer maps, at the image's size.

    The paper's own nets, on `VGG(first_padding=100, ceil_mode=True,
    fully_convolutional=True)` and for 21 classes: FCN-32s has 134,346,581 parameters,
    FCN-16s with `skips=("stage4",)` 134,357,354, FCN-8s with `skips=("stage4",
    "stage3")` 134,362,751. The three share the names of their parameters, so that one
    can initialise the next; score layers start at zero, so that it starts where the other ended.
    FCN-8s trained all at once adds `skip_scales=(0.01, 0.0001)`.

    FCN-AlexNet stands on `AlexNet(first_padding=100, fully_convolutional=True)`,
    FCN-GoogLeNet on `GoogLeNet(first_padding=100)` with a dropout of 0.4; it has no
    average pooling, so it sees 715 pixels and not the 907 of the paper's table.

    torchvision's `fcn_resnet50` stands on `ResNet(depth=50, output_stride=8)` with
    `head="conv"`, `upsampling="resize"`, `dropout_rate=0.1`, and `aux_stage="stage4"`
    where it was trained with the auxiliary loss.

    Attributes:
      num_classes: channels of the logits, K.
      backbone: image -> named maps; the map "fc7" is scored if the backbone is fully
        convolutional, else "stage5".
      skips: finer maps whose scores are added, from coarse to fine.
      skip_scales: factor of each of them before it is scored; empty for 1.
      upsampling: "fixed" is bilinear by transposed convolutions, as released; "paper"
        learns all of them but the last, "learned" all; "resize" interpolates to the
        size that is needed (corners not aligned), as torchvision.
      head: "score" is one 1x1 convolution; "conv" puts a 3x3 one before it, with a
        quarter of the channels, batch normalisation and a ReLU.
      dropout_rate: fraction of activations dropped before the scores. VGG and AlexNet have
        their own dropout behind fc6 and fc7.
      zero_scores: whether score layers start at zero; else as other convolutions do.
      aux_stage: where given, the map that an auxiliary classifier reads in training.
      norm: what follows each convolution, here and not in the backbone.
      dtype: dtype of the computation; the logits, and the last enlargement to them,
        are always float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module = VGG(
        first_padding=100, ceil_mode=True, fully_convolutional=True
    )
    skips: tuple[str, ...] = ()
    skip_scales: tuple[float, ...] = ()
    upsampling: str = "fixed"
    head: str = "score"
    dropout_rate: float = 0.0
    zero_scores: bool = True
    aux_stage: str | None = None
    norm: Norm = Norm()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_counts(num_classes=self.num_classes)
        for name, allowed in (("upsampling", UPSAMPLING), ("head", HEADS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} of FCN is one of {', '.join(allowed)}, got "
                    f"{getattr(self, name)!r}"
                )
        if len(self.skip_scales) not in (0, len(self.skips)):
            raise ValueError(
                f"skip_scales holds one number for each of the skips {self.skips}, or "
                f"none, got {self.skip_scales}"
            )
        check_fractions(dropout_rate=self.dropout_rate)
        check_norm(self.norm, BATCH)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        coarse, targets = self._paths
        minimum_side(coarse, targets, self.upsampling != "resize")
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        """Maps an image `[B, H, W, C]` to logits `[B, H, W, K]`.

        In training there are `aux_logits` of the same shape, too, if `aux_stage` is
        set.

        Raises:
          ValueError: if H or W is smaller than the network takes.
        """
        self.geometry.check_image_shape(image.shape)
        size = (image.shape[1], image.shape[2])
        norms = norm_options(self)
        stages = self.backbone(image, train=train)
        x = stages[self._top]
        if self.head == "conv":
            x = ConvNorm(x.shape[-1] // 4, **norms, name="head")(x, train=train)
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        x = self._score(x, "score")
        scales = self.skip_scales or (1.0,) * len(self.skips)
        for i, (skip, scale) in enumerate(zip(self.skips, scales, strict=True)):
            scores = self._score(scale * stages[skip], f"score_{skip}")
            x = self._join(x, scores, i)
        outputs = {"logits": self._enlarge_to(x, size)}
        if self.aux_stage is not None and (train or self.is_initializing()):
            x = stages[self.aux_stage]
            x = ConvNorm(x.shape[-1] // 4, **norms, name="aux")(x, train=train)
            x = nn.Dropout(AUX_DROPOUT, deterministic=not train, name="aux_dropout")(x)
            x = self._score(x, "aux_logits").astype(jnp.float32)
            outputs["aux_logits"] = resize_bilinear(x, size=size)
        return outputs

    def _score(self, x: Array, name: str) -> Array:
        return Conv(
            self.num_classes,
            (1, 1),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=zeros() if self.zero_scores else he_normal(),
            name=name,
        )(x)

    def _join(self, x: Array, scores: Array, i: int) -> Array:
        """Adds scores of a finer map to the enlarged `x`, unit on unit."""
        if self.upsampling == "resize":
            return resize_bilinear(x, size=(scores.shape[1], scores.shape[2])) + scores
        step = self._steps[i]
        size = (
            step.length(x.shape[1], scores.shape[1]),
            step.length(x.shape[2], scores.shape[2]),
        )
        x = self._upsample(x, step, f"upsample_{self.skips[i]}", last=False)
        x = crop(x, offset=(step.start, step.start), size=size)
        offset = (step.target_start, step.target_start)
        return x + crop(scores, offset=offset, size=size)

    def _enlarge_to(self, x: Array, size: tuple[int, int]) -> Array:
        if self.upsampling == "resize":
            return resize_bilinear(x.astype(jnp.float32), size=size)
        step = self._steps[-1]
        x = self._upsample(x, step, f"upsample{step.factor}", last=True)
        return crop(x, offset=(step.start, step.start), size=size)

    def _upsample(self, x: Array, step: Step, name: str, *, last: bool) -> Array:
        learned = self.upsampling == "learned" or (
            self.upsampling == "paper" and not last
        )
        types = (jnp.float32 if last else self.dtype, self.param_dtype)
        return Upsample(step.factor, step.taps, learned, *types, name=name)(x)

    @property
    def _top(self) -> str:
        convolutional = getattr(self.backbone, "fully_convolutional", False)
        return "fc7" if convolutional else "stage5"

    @property
    def _paths(self) -> tuple[Path, tuple[Path, ...]]:
        """Paths to the coarsest map, and to each of those that it has to meet."""
        stages = tuple(self.backbone.layers(skip) for skip in self.skips)
        return self.backbone.layers(self._top), (*stages, IMAGE)

    @property
    def _steps(self) -> tuple[Step, ...]:
        return align(*self._paths)

    def layers(self) -> tuple[Layer, ...]:
        """The longest path, from the image through the coarsest map to the logits.

        Crops at the end depend on the image and are left out, so that the path ends in
        at least as many pixels as the image has.
        """
        path = [*self.score_layers()]
        if self.upsampling == "resize":
            factor = int(receptive_field(path).stride)
            return (*path, enlargement("resize", factor))
        names = [f"_{skip}" for skip in self.skips] + [str(self._steps[-1].factor)]
        for name, step in zip(names, self._steps, strict=True):
            up = Layer(f"upsample{name}", step.taps, step.factor, transposed=True)
            path += [up, Layer(f"crop{name}", padding=(-step.start, 0))]
        return tuple(path)

    def score_layers(self) -> tuple[Layer, ...]:
        """The path to the scores of the coarsest map, whose field the paper states."""
        path = prefixed("backbone", self.backbone.layers(self._top))
        head = (Layer("head/conv", kernel=3, padding=1),) if self.head == "conv" else ()
        return (*path, *head, Layer("score"))

    @property
    def geometry(self) -> Geometry:
        """Every size of at least the smallest one is accepted."""
        coarse, targets = self._paths
        stride = int(receptive_field(coarse).stride)
        minimum = minimum_side(coarse, targets, self.upsampling != "resize")
        if self.upsampling == "resize":
            return Geometry(stride, halo=None, minimum=minimum, offset=None)
        return padded_geometry(self.layers(), stride, minimum)
