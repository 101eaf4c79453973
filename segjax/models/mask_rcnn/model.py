"""Mask R-CNN: boxes, masks and keypoints of each object, one framework for all three.

He, Gkioxari, Dollar, Girshick, ICCV 2017, arXiv 1703.06870, on a feature pyramid (Lin et
al., CVPR 2017, arXiv 1612.03144). Every shape is static: what there may be more or less
of stands in a fixed number of slots, and `valid` tells which are taken.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.geometry.fields import Layer, receptive_field
from segjax.geometry.paths import under
from segjax.geometry.tiles import Geometry
from segjax.layers.attributes import check_dtypes, check_stage
from segjax.layers.conv_norm import check_norm
from segjax.layers.fpn import FPN
from segjax.models.mask_rcnn.attributes import check_attributes
from segjax.models.mask_rcnn.detections import detect
from segjax.models.mask_rcnn.framing import DEVIATION, MEAN, framed
from segjax.models.mask_rcnn.heads import BoxHead, KeypointHead, MaskHead, of_filled
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
    (`aligned`). torchvision's `maskrcnn_resnet50_fpn` has `aligned=False`; its second
    version besides `norm="batch"`, `rpn_depth=2`, `box_conv_features=(256,) * 4` and
    `box_features=(1024,)`. Faster R-CNN is `masks=False`; R-CNN of keypoints is
    `masks=False, keypoints=17`.

    Attributes:
      num_classes: K, of which 0 is the background.
      backbone: image -> named maps.
      levels: the maps that the pyramid is made of, fine to coarse.
      fpn_features: channels of the pyramid.
      anchor_sizes: side of the anchors of each level, pixels, and one for an additional
        level of half the size.
      anchor_ratios: heights over widths of the anchors.
      rpn_depth: 3x3 convolutions of the head of proposals.
      rpn_iou: overlaps below which an anchor is background, from which on an object.
      rpn_samples: anchors of each image that are trained.
      rpn_positive_share: largest share of objects among them.
      candidates: boxes of each level that compete, in training and in inference.
      proposals: those of them that stay, of all levels, in training and in inference.
      proposal_iou: of proposals that overlap by more, the best stays.
      region_iou: overlap from which on a region answers for an object.
      region_samples: regions of each image that are trained.
      region_positive_share: largest share of objects among them.
      roi_method: "align" or "pool".
      aligned: whether pixel centres lie at halves when regions are aligned.
      sampling_ratio: samples of a bin along each axis; 0 adapts them to the region.
      canonical_size: side of a region, pixels, that is read from `canonical_level`.
      canonical_level: 4 is the third map.
      box_size: bins along each side of a region for its class and box.
      box_conv_features: channels of 3x3 convolutions before the dense layers.
      box_features: channels of the dense layers.
      box_weights: factors of dy, dx, dh, dw.
      score_threshold: least probability of a detection.
      detection_iou: of detections of one class that overlap by more, the best stays.
      detection_candidates: pairs of region and class that compete, the best by score.
      detections: slots of the result, R.
      masks: whether there is a head of masks.
      class_agnostic: whether all classes share one mask.
      mask_size: bins along each side of a region for masks and keypoints; masks have
        twice, maps of keypoints four times as many.
      mask_features: channels of the head of masks.
      keypoints: P, where there is a head of keypoints.
      keypoint_features: channels of the head of keypoints.
      norm: what follows convolutions of pyramid, box head and mask head: None, "batch"
        or "group".
      norm_groups: groups of channels where they are normalised in groups.
      norm_momentum: share of the old running statistics that each step keeps.
      norm_epsilon: added to the variance, in the backbone, too; None leaves the
        backbone's, and is 1e-5 elsewhere.
      mean: of the images, by channel; subtracted.
      deviation: of the images, by channel; divided by.
      dtype: dtype of the computation; boxes, scores and logits are float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_classes: int
    backbone: nn.Module
    levels: tuple[str, ...] = ("stage2", "stage3", "stage4", "stage5")
    fpn_features: int = 256
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_depth: int = 1
    rpn_iou: tuple[float, float] = (0.3, 0.7)
    rpn_samples: int = 256
    rpn_positive_share: float = 0.5
    candidates: tuple[int, int] = (2000, 1000)
    proposals: tuple[int, int] = (2000, 1000)
    proposal_iou: float = 0.7
    region_iou: float = 0.5
    region_samples: int = 512
    region_positive_share: float = 0.25
    roi_method: str = "align"
    aligned: bool = True
    sampling_ratio: int = 2
    canonical_size: float = 224.0
    canonical_level: int = 4
    box_size: int = 7
    box_conv_features: tuple[int, ...] = ()
    box_features: tuple[int, ...] = (1024, 1024)
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    score_threshold: float = 0.05
    detection_iou: float = 0.5
    detection_candidates: int = 1000
    detections: int = 100
    masks: bool = True
    class_agnostic: bool = False
    mask_size: int = 14
    mask_features: tuple[int, ...] = (256, 256, 256, 256)
    keypoints: int | None = None
    keypoint_features: tuple[int, ...] = (512,) * 8
    norm: str | None = None
    norm_groups: int = 32
    norm_momentum: float = 0.9
    norm_epsilon: float | None = None
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Checks the attributes when the network is made, before anything is traced."""
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        check_norm(self.norm)
        check_attributes(self)
        for level in self.levels:
            check_stage("levels", level, self.backbone)
        epsilon = self.norm_epsilon
        if epsilon is not None and self.backbone.norm_epsilon != epsilon:
            self.backbone = self.backbone.clone(norm_epsilon=epsilon)
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
        """Finds the objects of images, or prepares what the loss is made of.

        Args:
          image: `[B, H, W, C]` in 0 to 1, not normalised.
          sizes: height and width of each image, `[B, 2]`; what is beyond is padding.
          train: whether losses are wanted; draws from the stream "sampling".
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
        image, sizes = framed(image, sizes, mean=self.mean, deviation=self.deviation)
        stages = self.backbone(image.astype(self.dtype), train=train)
        self.sow("intermediates", "stages", tuple(stages[x] for x in self.levels))
        fpn = FPN(
            self.fpn_features,
            len(self.anchor_sizes) > len(self.levels),
            **self._options,
            name="fpn",
        )
        pyramid = fpn([stages[level] for level in self.levels], train=train)
        head = RPNHead(
            len(self.anchor_ratios),
            self.rpn_depth,
            self.dtype,
            self.param_dtype,
            name="rpn",
        )
        logits, deltas = head(pyramid)
        extent = (image.shape[1], image.shape[2])
        grids = [(x.shape[1], x.shape[2]) for x in pyramid]
        anchors = pyramid_anchors(grids, extent, self.anchor_sizes, self.anchor_ratios)
        for name, maps in {"pyramid": pyramid, "proposed": (logits, deltas)}.items():
            self.sow("intermediates", name, maps)
        mode = 0 if train else 1
        proposals = propose(
            logits,
            deltas,
            anchors,
            sizes,
            candidates=self.candidates[mode],
            count=self.proposals[mode],
            iou_threshold=self.proposal_iou,
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
                iou=self.rpn_iou,
                count=self.rpn_samples,
                positive_share=self.rpn_positive_share,
            ),
        }
        return outputs | self._trained(pyramid, extent, proposals, targets)

    def _pool(self, pyramid: tuple[Array, ...], extent: tuple[int, int]) -> Pool:
        """What pools boxes; the additional level of the pyramid is left out."""
        return functools.partial(
            pool_regions,
            pyramid[: len(self.levels)],
            image_size=extent,
            method=self.roi_method,
            aligned=self.aligned,
            sampling_ratio=self.sampling_ratio,
            canonical_size=self.canonical_size,
            canonical_level=self.canonical_level,
        )

    def _found(
        self,
        pyramid: tuple[Array, ...],
        extent: tuple[int, int],
        proposals: Proposals,
        sizes: Array,
    ) -> Outputs:
        """Detections, and what the other heads say of each."""
        pool = self._pool(pyramid, extent)
        logits, deltas = self._boxes(pool(proposals.boxes, self.box_size), train=False)
        found = detect(
            logits,
            deltas,
            proposals.boxes,
            proposals.valid,
            sizes,
            weights=self.box_weights,
            score_threshold=self.score_threshold,
            iou_threshold=self.detection_iou,
            candidates=self.detection_candidates,
            count=self.detections,
        )
        outputs: Outputs = found._asdict()
        if not (self.masks or self.keypoints):
            return outputs
        regions = pool(found.boxes, self.mask_size)
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
        """What the heads say of regions that are drawn, and what they ought to say."""
        pool = self._pool(pyramid, extent)
        regions = sample_regions(
            proposals.boxes,
            proposals.valid,
            batch,
            self.make_rng("sampling"),
            iou=self.region_iou,
            count=self.region_samples,
            positive_share=self.region_positive_share,
            weights=self.box_weights,
        )
        logits, deltas = self._boxes(pool(regions.boxes, self.box_size), train=True)
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
        slots = max(int(self.region_samples * self.region_positive_share), 1)
        regions = jax.tree.map(lambda x: x[:, :slots], regions)
        maps = pool(regions.boxes, self.mask_size)
        filled = regions.classes > 0
        if self.masks:
            outputs |= {
                "mask_logits": self._masks(maps, regions.classes, filled, train=True),
                "mask_targets": mask_targets(regions, batch, size=2 * self.mask_size),
                "mask_weights": filled.astype(jnp.float32),
            }
        if self.keypoints:
            cells, valid = keypoint_targets(regions, batch, size=4 * self.mask_size)
            outputs |= {
                "keypoint_logits": self._points(maps, filled),
                "keypoint_cells": cells,
                "keypoint_valid": valid,
            }
        return outputs

    def _boxes(self, regions: Array, *, train: bool) -> tuple[Array, Array]:
        head = BoxHead(
            self.num_classes,
            self.box_conv_features,
            self.box_features,
            **self._options,
            name="box_head",
        )
        return head(regions, train=train)

    def _masks(
        self, regions: Array, classes: Array, filled: Array, *, train: bool
    ) -> Array:
        number = 1 if self.class_agnostic else self.num_classes
        head = MaskHead(number, self.mask_features, **self._options, name="mask_head")
        return of_filled(head, filled, regions, classes, train=train)

    def _points(self, regions: Array, filled: Array) -> Array:
        types = (self.dtype, self.param_dtype)
        features = self.keypoint_features
        number = self.keypoints or 0
        head = KeypointHead(number, features, *types, name="keypoint_head")
        return of_filled(head, filled, regions)

    @property
    def _options(self) -> dict[str, Any]:
        """What pyramid and heads have of the network."""
        epsilon = 1e-5 if self.norm_epsilon is None else self.norm_epsilon
        return {
            "norm": self.norm,
            "norm_groups": self.norm_groups,
            "norm_momentum": self.norm_momentum,
            "norm_epsilon": epsilon,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }

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
            *under("backbone", self.backbone.layers(last)),
            Layer(f"fpn/lateral{number}/conv"),
            Layer(f"fpn/output{number}/conv", kernel=3, padding=1),
        )
