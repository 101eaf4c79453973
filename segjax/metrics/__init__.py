"""Numbers to report: of pixels, of boundaries, of neurons, and of objects."""

from segjax.metrics.average_precision import AveragePrecision
from segjax.metrics.boundary import (
    boundary_counts,
    boundary_metrics,
    trimap_counts,
    trimap_metrics,
)
from segjax.metrics.boundary_iou import boundary_iou_counts, boundary_iou_metrics
from segjax.metrics.calibration import calibration_counts, calibration_metrics
from segjax.metrics.confusion import confusion_counts, semantic_metrics, without_nan
from segjax.metrics.em import EM_COLUMNS, em_metrics, pixel_error, summarize
from segjax.metrics.matching_f1 import matching_counts, matching_metrics
from segjax.metrics.rand import (
    THRESHOLDS,
    adapted_rand_error,
    connected_cells,
    rand_error_over_thresholds,
)
from segjax.metrics.surface import surface_counts, surface_metrics
from segjax.metrics.warping import warp, warping_error

__all__ = [
    "EM_COLUMNS",
    "THRESHOLDS",
    "AveragePrecision",
    "adapted_rand_error",
    "boundary_counts",
    "boundary_iou_counts",
    "boundary_iou_metrics",
    "boundary_metrics",
    "calibration_counts",
    "calibration_metrics",
    "confusion_counts",
    "connected_cells",
    "em_metrics",
    "matching_counts",
    "matching_metrics",
    "pixel_error",
    "rand_error_over_thresholds",
    "semantic_metrics",
    "summarize",
    "surface_counts",
    "surface_metrics",
    "trimap_counts",
    "trimap_metrics",
    "warp",
    "warping_error",
    "without_nan",
]
