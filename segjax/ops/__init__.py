"""Pure functions on arrays: no parameters, static shapes, the same under `jit` and `vmap`."""

from segjax.lazy import exports

TYPE_CHECKING = False  # for type checkers it is True; importing `typing` takes time
if TYPE_CHECKING:
    from segjax.ops.attention import dot_product_attention as dot_product_attention
    from segjax.ops.convolution.convolve import conv as conv
    from segjax.ops.convolution.toeplitz import conv_matrix as conv_matrix
    from segjax.ops.convolution.toeplitz import (
        conv_transpose_matrix as conv_transpose_matrix,
    )
    from segjax.ops.convolution.transposed import conv_transpose as conv_transpose
    from segjax.ops.crf.dense import dense_crf as dense_crf
    from segjax.ops.crf.energies import all_labellings as all_labellings
    from segjax.ops.crf.energies import energy as energy
    from segjax.ops.crf.energies import minimize_energy as minimize_energy
    from segjax.ops.crf.filters import crf_filters as crf_filters
    from segjax.ops.crf.inference import free_energy as free_energy
    from segjax.ops.crf.inference import make_kernel as make_kernel
    from segjax.ops.crf.inference import mean_field as mean_field
    from segjax.ops.crf.permutohedral import (
        permutohedral_lattice as permutohedral_lattice,
    )
    from segjax.ops.crf.unary import logits_from_labels as logits_from_labels
    from segjax.ops.crf.unary import (
        logits_from_probabilities as logits_from_probabilities,
    )
    from segjax.ops.normalization.channels import batch_norm as batch_norm
    from segjax.ops.normalization.channels import group_norm as group_norm
    from segjax.ops.normalization.channels import normalize_by as normalize_by
    from segjax.ops.normalization.local_response import (
        local_response_norm as local_response_norm,
    )
    from segjax.ops.normalization.local_response import (
        local_response_norm_within as local_response_norm_within,
    )
    from segjax.ops.pooling.adaptive import adaptive_avg_pool as adaptive_avg_pool
    from segjax.ops.pooling.adaptive import adaptive_max_pool as adaptive_max_pool
    from segjax.ops.pooling.spatial_pyramid import (
        spatial_pyramid_pool as spatial_pyramid_pool,
    )
    from segjax.ops.pooling.spatial_pyramid_boxes import box_to_cells as box_to_cells
    from segjax.ops.pooling.spatial_pyramid_boxes import (
        pyramid_pool_cells as pyramid_pool_cells,
    )
    from segjax.ops.pooling.windowed import avg_pool as avg_pool
    from segjax.ops.pooling.windowed import max_pool as max_pool
    from segjax.ops.pooling.windowed import (
        max_pool_with_indices as max_pool_with_indices,
    )
    from segjax.ops.pooling.windowed import max_unpool as max_unpool
    from segjax.ops.regions.alignment import pyramid_roi_align as pyramid_roi_align
    from segjax.ops.regions.alignment import roi_align as roi_align
    from segjax.ops.regions.anchors import base_anchors as base_anchors
    from segjax.ops.regions.anchors import grid_anchors as grid_anchors
    from segjax.ops.regions.anchors import pyramid_anchors as pyramid_anchors
    from segjax.ops.regions.boxes import area as area
    from segjax.ops.regions.boxes import clip as clip
    from segjax.ops.regions.boxes import decode as decode
    from segjax.ops.regions.boxes import encode as encode
    from segjax.ops.regions.boxes import pairwise_intersection as pairwise_intersection
    from segjax.ops.regions.boxes import pairwise_iou as pairwise_iou
    from segjax.ops.regions.keypoints import decode_keypoints as decode_keypoints
    from segjax.ops.regions.keypoints import encode_keypoints as encode_keypoints
    from segjax.ops.regions.keypoints import locate_keypoints as locate_keypoints
    from segjax.ops.regions.masks import boxes_from_masks as boxes_from_masks
    from segjax.ops.regions.masks import crop_and_resize_masks as crop_and_resize_masks
    from segjax.ops.regions.masks import paste_masks as paste_masks
    from segjax.ops.regions.matching import match as match
    from segjax.ops.regions.matching import sample as sample
    from segjax.ops.regions.matching import sample_weights as sample_weights
    from segjax.ops.regions.pooling import pyramid_roi_pool as pyramid_roi_pool
    from segjax.ops.regions.pooling import roi_pool as roi_pool
    from segjax.ops.regions.suppression import class_nms as class_nms
    from segjax.ops.regions.suppression import nms as nms
    from segjax.ops.resizing.resize import bed_of_nails as bed_of_nails
    from segjax.ops.resizing.resize import bilinear_kernel as bilinear_kernel
    from segjax.ops.resizing.resize import center_crop as center_crop
    from segjax.ops.resizing.resize import crop as crop
    from segjax.ops.resizing.resize import resize_bilinear as resize_bilinear
    from segjax.ops.resizing.resize import resize_nearest as resize_nearest
    from segjax.ops.resizing.resize import upsample_nearest as upsample_nearest
    from segjax.ops.resizing.upsample import upsample_bilinear as upsample_bilinear
    from segjax.ops.resizing.upsample import upsample_conv as upsample_conv

__getattr__, __dir__ = exports(__name__)
