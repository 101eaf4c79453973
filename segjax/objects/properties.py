"""The table of objects: sizes, places, shapes and intensities, one row for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_REGION = (
    "label",
    "area",
    "centroid",
    "bbox",
    "perimeter",
    "eccentricity",
)
"""Properties of scikit-image's `regionprops_table` that every image has."""


def columns(channel_names: Sequence[str]) -> list[str]:
    """The columns of the table, for images with these channels.

    Example:
      >>> columns(["DAPI"])[-2:]
      ['eccentricity', 'mean_intensity_DAPI']
    """
    return [
        "file",
        "page",
        "id",
        "class",
        "area_pixels",
        "area_um2",
        "centroid_y",
        "centroid_x",
        "top",
        "left",
        "bottom",
        "right",
        "perimeter",
        "eccentricity",
        *(f"mean_intensity_{name}" for name in channel_names),
    ]


def object_rows(
    numbers: np.ndarray,
    image: np.ndarray,
    classes: np.ndarray,
    *,
    file: str,
    page: int,
    class_names: Sequence[str],
    pixel_area: float | None = None,
) -> list[tuple[Any, ...]]:
    """Measures the objects of a page.

    Args:
      numbers: of the objects, `[H, W]` integers, 0 is none.
      image: the page as it is stored, `[H, W, C]`.
      classes: class of each pixel, `[H, W]`; an object's is its commonest but 0.
      file: name of its file.
      page: its number, from 1.
      class_names: by class id.
      pixel_area: of a pixel, square micrometres; None where it is not known, and the
        column `area_um2` is empty.

    Returns:
      A row of `columns` for each object, in the order of their numbers. Positions are
      pixels, the middle of the first one at 0; boxes exclude their bottom and right.
      The perimeter and the eccentricity are those of scikit-image: a line through the
      middles of border pixels, and the ellipse of the same second moments.
    """
    from skimage.measure import regionprops_table

    table = regionprops_table(
        numbers, image, properties=(*_REGION, "intensity_mean"), cache=False
    )
    labels = table["label"]
    if not len(labels):
        return []
    votes = _votes(numbers, classes, labels, len(class_names))
    means = [table[f"intensity_mean-{c}"] for c in range(image.shape[-1])]
    rows = []
    for i, number in enumerate(labels.tolist()):
        area = int(table["area"][i])
        physical = "" if pixel_area is None else f"{area * pixel_area:.6g}"
        rows.append(
            (
                file,
                page,
                number,
                class_names[votes[i]],
                area,
                physical,
                *(f"{table[f'centroid-{axis}'][i]:.2f}" for axis in (0, 1)),
                *(int(table[f"bbox-{side}"][i]) for side in range(4)),
                f"{table['perimeter'][i]:.2f}",
                f"{table['eccentricity'][i]:.4f}",
                *(f"{mean[i]:.6g}" for mean in means),
            )
        )
    return rows


def _votes(
    numbers: np.ndarray, classes: np.ndarray, labels: np.ndarray, num_classes: int
) -> np.ndarray:
    """The commonest class of each object but the background."""
    place = np.searchsorted(labels, numbers[numbers > 0])
    pairs = place * num_classes + classes[numbers > 0]
    counts = np.bincount(pairs, minlength=len(labels) * num_classes)
    counts = counts.reshape(len(labels), num_classes)
    return 1 + counts[:, 1:].argmax(1)
