"""The region proposal network's head, and the proposals that are made from its outputs.

Ren, He, Girshick, Sun, NIPS 2015, arXiv 1506.01497, section 3; one head for all levels of
a pyramid is Lin et al., CVPR 2017, arXiv 1612.03144, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from segjax.layers.conv import Conv
from segjax.layers.initializers import normal
from segjax.ops.regions.boxes import clip, decode, is_large
from segjax.ops.regions.suppression import nms
from segjax.types import Array, Dtype

SMALLEST_PROPOSAL = 1e-3
"""The least side of a proposal, in pixels."""


class RPNHead(nn.Module):
    """3x3 convolutions, then scores and deltas of each anchor; the same at all levels.

    Attributes:
      num_anchors: anchors of a cell, A.
      depth: 3x3 convolutions; 1 is the paper's, 2 torchvision's second version.
      dtype: dtype of the computation; scores and deltas are float32.
      param_dtype: dtype in which parameters are stored.
    """

    num_anchors: int
    depth: int = 1
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, pyramid: Sequence[Array]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Maps each `[B, h, w, C]` to logits `[B, h w A]` and deltas `[B, h w A, 4]`."""
        channels = pyramid[0].shape[-1]
        convs = [self._conv(channels, 3, f"conv{i + 1}") for i in range(self.depth)]
        scores = self._conv(self.num_anchors, 1, "logits")
        deltas = self._conv(4 * self.num_anchors, 1, "deltas")
        all_logits, all_deltas = [], []
        for x in pyramid:
            for conv in convs:
                x = nn.relu(conv(x))
            batch = x.shape[0]
            found = scores(x).astype(jnp.float32), deltas(x).astype(jnp.float32)
            all_logits.append(found[0].reshape(batch, -1))
            all_deltas.append(found[1].reshape(batch, -1, 4))
        return tuple(all_logits), tuple(all_deltas)

    def _conv(self, features: int, kernel: int, name: str) -> Conv:
        return Conv(
            features,
            (kernel, kernel),
            padding=kernel // 2,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=normal(0.01),
            name=name,
        )


class Proposals(NamedTuple):
    """Regions that may hold objects, best first.

    Attributes:
      boxes: `[B, R, 4]`, zeros where there is none.
      logits: `[B, R]`, minus infinity where there is none.
      valid: `[B, R]` bool.
    """

    boxes: Array
    logits: Array
    valid: Array


def propose(
    logits: Sequence[Array],
    deltas: Sequence[Array],
    anchors: Sequence[Array],
    sizes: Array,
    *,
    candidates: int,
    count: int,
    iou_threshold: float,
) -> Proposals:
    """Chooses proposals: the best of each level, without duplicates, the best of all.

    Boxes are ranked by their logits, which a sigmoid in float32 would make equal above
    about 17. No gradient flows back.

    Args:
      logits: of each level `[B, n]`.
      deltas: of each level `[B, n, 4]`.
      anchors: of each level `[n, 4]`.
      sizes: height and width of each image without its padding, `[B, 2]`.
      candidates: boxes of each level that are looked at.
      count: proposals of all levels, R; fewer where there are not as many candidates.
      iou_threshold: of boxes of one level that overlap by more, the best stays.

    Returns:
      The proposals.
    """
    chosen = []
    for scores, shifts, boxes in zip(logits, deltas, anchors, strict=True):
        top = min(candidates, scores.shape[1])
        chosen.append(_best_of_level(scores, shifts, boxes, sizes, top))
    longest = max(part.logits.shape[1] for part in chosen)
    stacked = Proposals(
        *(
            jnp.stack([_padded(x, longest) for x in parts], 1)
            for parts in zip(*chosen, strict=True)
        )
    )
    suppress = lambda boxes, scores, valid: nms(
        boxes, scores, iou_threshold=iou_threshold, valid=valid
    )
    kept = jax.vmap(jax.vmap(suppress))(*stacked)
    batch = sizes.shape[0]
    scores = jnp.where(kept, stacked.logits, -jnp.inf).reshape(batch, -1)
    values, index = lax.top_k(scores, min(count, scores.shape[1]))
    valid = values > -jnp.inf
    boxes = jnp.take_along_axis(
        stacked.boxes.reshape(batch, -1, 4), index[..., None], axis=1
    )
    boxes = jnp.where(valid[..., None], boxes, 0)
    return Proposals(boxes, values, valid)


def _best_of_level(
    logits: Array, deltas: Array, anchors: Array, sizes: Array, count: int
) -> Proposals:
    """Decodes the best boxes of a level; those that vanish at the border do not count."""
    logits, deltas = lax.stop_gradient((logits, deltas))
    values, index = lax.top_k(logits, count)
    deltas = jnp.take_along_axis(deltas, index[..., None], axis=1)
    boxes = clip(decode(deltas, anchors[index]), sizes)
    valid = is_large(boxes, SMALLEST_PROPOSAL) & jnp.isfinite(values)
    return Proposals(boxes, jnp.where(jnp.isfinite(values), values, -jnp.inf), valid)


def _padded(x: Array, length: int) -> Array:
    """Adds zeros, or False, at the end of the second axis."""
    rest = length - x.shape[1]
    return jnp.pad(x, [(0, 0), (0, rest)] + [(0, 0)] * (x.ndim - 2))
