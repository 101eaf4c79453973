"""Mask R-CNN: boxes, masks and keypoints of each object, one framework for all three.

He, Gkioxari, Dollar, Girshick, ICCV 2017, arXiv 1703.06870, on a feature pyramid (Lin et
al., CVPR 2017, arXiv 1612.03144). Every shape is static: whatever varies in number
stands in a fixed number of slots, and `valid` says which are taken.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.geometry.fields import Layer, receptive_field
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.paths import prefixed
from segjax.layers.attributes import check_dtypes, check_stage
from segjax.layers.conv_norm import norm_options
from segjax.layers.fpn import FPN
from segjax.layers.norm import KINDS, Norm, check_norm
from segjax.models.mask_rcnn.attributes import (
    RPN,
    PostProcessing,
    RoIHeads,
    RoIPooling,
    check_attributes,
)
from segjax.models.mask_rcnn.detections import detect
from segjax.models.mask_rcnn.framing import MEAN, STD, normalize_and_pad
from segjax.models.mask_rcnn.heads import BoxHead, KeypointHead, MaskHead, on_valid
from segjax.models.mask_rcnn.pooling import Pool, pool_regions
from segjax.models.mask_rcnn.rpn import Proposals, RPNHead, propose
from segjax.models.mask_rcnn.targets import (
    anchor_targets,
    check_targets,
    keypoint_targets,
    mask_targets,
    sample_regions,
)
from segjax.ops.regions.anchors import pyramid_anchors
from segjax.ops.regions.keypoints import locate_keypoints
from segjax.types import Array, Dtype, Outputs


class MaskRCNN(nn.Module):
    """A pyramid, region proposals, and heads on each region.

    The defaults are the paper's with a pyramid, with the geometry of Detectron2
    (`aligned`). torchvision's `maskrcnn_resnet50_fpn` has `RoIPooling(aligned=False)`;
    its second version also `norm=Norm()`, `RPN(depth=2)` and
    `RoIHeads(box_conv_features=(256,) * 4, box_features=(1024,))`. Faster R-CNN is
    `RoIHeads(masks=False)`; Keypoint R-CNN is `RoIHeads(masks=False, keypoints=17)`.

    Attributes:
      num_classes: K, of which 0 is the background.
      backbone: image -> named maps.
      levels: the maps that the pyramid is made of, fine to coarse.
      fpn_features: channels of the pyramid.
      rpn: anchors and region proposals.
      roi_pooling: how regions are brought to one size.
      roi_heads: the predictions for each region: class and box, mask, keypoints.
      post_processing: which regions are detections.
      norm: what follows the convolutions of pyramid, box head and mask head, not of the
        backbone; None for nothing.
      mean: of the images, by channel; subtracted.
      std: of the images, by channel; divided by.
      dtype: dtype of the computation; boxes, scores and logits are float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    levels: tuple[str, ...] = ("stage2", "stage3", "stage4", "stage5")
    fpn_features: int = 256
    rpn: RPN = RPN()
    roi_pooling: RoIPooling = RoIPooling()
    roi_heads: RoIHeads = RoIHeads()
    post_processing: PostProcessing = PostProcessing()
    norm: Norm | None = None
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        check_norm(self.norm, (*KINDS, None))
        check_attributes(self)
        for level in self.levels:
            check_stage("levels", level, self.backbone)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        image: Array,
        sizes: Array | None = None,
        *,
        train: bool,
        targets: Mapping[str, Array] | None = None,
    ) -> Outputs:
        """Finds the objects of images, or prepares the inputs of the loss.

        Args:
          image: `[B, H, W, C]` in 0 to 1, not normalised.
          sizes: height and width of each image, `[B, 2]`; what is beyond is padding.
          train: whether losses are wanted; samples with the stream "sampling".
          targets: in training, a batch with `boxes` `[B, G, 4]`, `classes` (0 is an
            empty slot) and `crowd` `[B, G]`, with masks also `masks` `[B, G, m, m]`,
            each cropped to its box, with keypoints also `keypoints` `[B, G, P, 3]`.

        Returns:
          `boxes` `[B, R, 4]` in pixels, (y0, x0, y1, x1), `scores`, `classes` and
          `valid` `[B, R]`, best first; with masks `masks` `[B, R, 28, 28]`,
          probabilities for the class that was found; with keypoints
          `keypoints` `[B, R, P, 3]`, (y, x) in pixels and the logit there, and the maps
          that they come from, `keypoint_logits` `[B, R, 56, 56, P]`. In training what
          `losses.instance.mask_rcnn_loss` reads.

        Raises:
          ValueError: if a shape is another one, or the targets lack something.
        """
        image, sizes = normalize_and_pad(image, sizes, mean=self.mean, std=self.std)
        stages = self.backbone(image.astype(self.dtype), train=train)
        self.sow("intermediates", "stages", tuple(stages[x] for x in self.levels))
        fpn = FPN(
            self.fpn_features,
            len(self.rpn.anchor_sizes) > len(self.levels),
            **norm_options(self),
            name="fpn",
        )
        pyramid = fpn([stages[level] for level in self.levels], train=train)
        head = RPNHead(
            len(self.rpn.anchor_ratios),
            self.rpn.depth,
            self.dtype,
            self.param_dtype,
            name="rpn",
        )
        logits, deltas = head(pyramid)
        extent = (image.shape[1], image.shape[2])
        grids = [(x.shape[1], x.shape[2]) for x in pyramid]
        anchors = pyramid_anchors(
            grids, extent, self.rpn.anchor_sizes, self.rpn.anchor_ratios
        )
        for name, maps in {"pyramid": pyramid, "proposed": (logits, deltas)}.items():
            self.sow("intermediates", name, maps)
        mode = 0 if train else 1
        proposals = propose(
            logits,
            deltas,
            anchors,
            sizes,
            candidates=self.rpn.pre_nms_top_n[mode],
            count=self.rpn.post_nms_top_n[mode],
            iou_threshold=self.rpn.nms_thresh,
        )
        if not train:
            return self._found(pyramid, extent, proposals, sizes)
        if targets is None:
            raise ValueError(
                "targets is None; allowed in training is a batch of objects"
            )
        check_targets(targets, masks=self.masks, keypoints=self.keypoints)
        outputs = {
            "rpn_logits": jnp.concatenate(logits, 1),
            "rpn_deltas": jnp.concatenate(deltas, 1),
            **anchor_targets(
                jnp.concatenate(anchors),
                targets,
                self.make_rng("sampling"),
                iou=(self.rpn.bg_iou_thresh, self.rpn.fg_iou_thresh),
                count=self.rpn.batch_size_per_image,
                positive_fraction=self.rpn.positive_fraction,
            ),
        }
        return outputs | self._trained(pyramid, extent, proposals, targets)

    def _pool(self, pyramid: tuple[Array, ...], extent: tuple[int, int]) -> Pool:
        """The pooling of boxes; the additional level of the pyramid is left out."""
        return functools.partial(
            pool_regions,
            pyramid[: len(self.levels)],
            image_size=extent,
            **dataclasses.asdict(self.roi_pooling),
        )

    def _found(
        self,
        pyramid: tuple[Array, ...],
        extent: tuple[int, int],
        proposals: Proposals,
        sizes: Array,
    ) -> Outputs:
        """Detections, with the outputs of the other heads for each."""
        pool = self._pool(pyramid, extent)
        logits, deltas = self._boxes(
            pool(proposals.boxes, self.roi_heads.box_size), train=False
        )
        found = detect(
            logits,
            deltas,
            proposals.boxes,
            proposals.valid,
            sizes,
            weights=self.roi_heads.bbox_reg_weights,
            score_threshold=self.post_processing.score_thresh,
            iou_threshold=self.post_processing.nms_thresh,
            candidates=self.post_processing.pre_nms_top_n,
            count=self.post_processing.detections_per_image,
        )
        outputs: Outputs = found._asdict()
        if not (self.masks or self.keypoints):
            return outputs
        regions = pool(found.boxes, self.roi_heads.mask_size)
        if self.masks:
            masks = self._masks(regions, found.classes, found.valid, train=False)
            outputs["masks"] = jax.nn.sigmoid(masks)
        if self.keypoints:
            heatmaps = self._points(regions, found.valid)
            outputs["keypoint_logits"] = heatmaps
            outputs["keypoints"] = jax.vmap(locate_keypoints)(heatmaps, found.boxes)
        return outputs

    def _trained(
        self,
        pyramid: tuple[Array, ...],
        extent: tuple[int, int],
        proposals: Proposals,
        batch: Mapping[str, Array],
    ) -> Outputs:
        """Outputs of the heads for sampled regions, and their targets."""
        pool, heads = self._pool(pyramid, extent), self.roi_heads
        regions = sample_regions(
            proposals.boxes,
            proposals.valid,
            batch,
            self.make_rng("sampling"),
            iou=heads.fg_iou_thresh,
            count=heads.batch_size_per_image,
            positive_fraction=heads.positive_fraction,
            weights=heads.bbox_reg_weights,
        )
        logits, deltas = self._boxes(pool(regions.boxes, heads.box_size), train=True)
        outputs: Outputs = {
            "class_logits": logits,
            "box_deltas": deltas,
            "class_targets": regions.classes,
            "box_targets": regions.targets,
            "box_weights": regions.weights,
        }
        if not (self.masks or self.keypoints):
            return outputs
        # Objects stand in the first slots, so that the heads need no others.
        slots = max(int(heads.batch_size_per_image * heads.positive_fraction), 1)
        regions = jax.tree.map(lambda x: x[:, :slots], regions)
        maps = pool(regions.boxes, heads.mask_size)
        valid = regions.classes > 0
        if self.masks:
            outputs |= {
                "mask_logits": self._masks(maps, regions.classes, valid, train=True),
                "mask_targets": mask_targets(regions, batch, size=2 * heads.mask_size),
                "mask_weights": valid.astype(jnp.float32),
            }
        if self.keypoints:
            cells, labelled = keypoint_targets(regions, batch, size=4 * heads.mask_size)
            outputs |= {
                "keypoint_logits": self._points(maps, valid),
                "keypoint_cells": cells,
                "keypoint_valid": labelled,
            }
        return outputs

    def _boxes(self, regions: Array, *, train: bool) -> tuple[Array, Array]:
        head = BoxHead(
            self.num_classes,
            self.roi_heads.box_conv_features,
            self.roi_heads.box_features,
            **norm_options(self),
            name="box_head",
        )
        return head(regions, train=train)

    def _masks(
        self, regions: Array, classes: Array, valid: Array, *, train: bool
    ) -> Array:
        number = 1 if self.roi_heads.class_agnostic else self.num_classes
        head = MaskHead(
            number, self.roi_heads.mask_features, **norm_options(self), name="mask_head"
        )
        return on_valid(head, valid, regions, classes, train=train)

    def _points(self, regions: Array, valid: Array) -> Array:
        types = (self.dtype, self.param_dtype)
        features = self.roi_heads.keypoint_features
        number = self.keypoints or 0
        head = KeypointHead(number, features, *types, name="keypoint_head")
        return on_valid(head, valid, regions)

    @property
    def masks(self) -> bool:
        """Whether masks are found."""
        return self.roi_heads.masks

    @property
    def keypoints(self) -> int | None:
        """How many keypoints each object has, P; None where none are predicted."""
        return self.roi_heads.keypoints

    @property
    def geometry(self) -> Geometry:
        """Every size is accepted; proposals compete over the whole image."""
        stride = int(receptive_field(self.layers()).stride)
        return Geometry(stride=stride, halo=None, offset=None)

    def layers(self) -> tuple[Layer, ...]:
        """The longest path of convolutions to the coarsest map of the pyramid."""
        last = self.levels[-1]
        number = len(self.levels) + 1
        return (
            *prefixed("backbone", self.backbone.layers(last)),
            Layer(f"fpn/lateral{number}/conv"),
            Layer(f"fpn/output{number}/conv", kernel=3, padding=1),
        )
