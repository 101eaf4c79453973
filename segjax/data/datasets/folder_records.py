"""A page of a folder as a record; where files allow that, its arrays are read by windows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.data.dataset import LazyPage, LazyRecord
from segjax.data.datasets.label_files import read_raw
from segjax.data.datasets.label_meanings import ColorLabels, Meaning
from segjax.data.datasets.pairing import Page
from segjax.data.files.channels import Channels, choose
from segjax.data.files.images import read_label, read_layout, read_page, window_size
from segjax.data.files.plane import Window, with_margin
from segjax.data.instance_labels import InstanceLabels
from segjax.errors import UserError
from segjax.types import Record


def read_record(
    pages: Sequence[Page], meaning: Meaning, channels: Channels, index: int
) -> Record:
    """Reads a page of a folder, image and label.

    Args:
      pages: of the split.
      meaning: what label values mean.
      channels: how many, or which.
      index: of the page.

    Returns:
      The record. What lies in an OME-Zarr is a `LazyPage` of it, so that a crop costs the
      chunks that it touches.

    Raises:
      UserError: a file cannot be read, or is another one than when it was checked.
    """
    page = pages[index]
    path, label = page.pair.image, page.pair.label
    read_image = functools.partial(_read_image, page, channels)
    size = window_size(path)
    image = read_image() if size is None else LazyPage(size, read_image)
    record: dict[str, Any] = {"image": image, "name": page.name}
    if page.count > 1:
        record["stack"] = str(path)
    if label is None:
        return LazyRecord(record)
    size = None if isinstance(meaning, ColorLabels) else window_size(label)
    if size is None:
        cells: Any = read_raw(page.pair, page.index, image.shape[:2], meaning)
        record["label"] = meaning.to_ids(cells, page.where(label))
    else:
        read_ids = functools.partial(_read_ids, page, meaning, size)
        record["label"] = LazyPage(size, read_ids)
        cells = LazyPage(size, functools.partial(read_label, label, page.index))
    if isinstance(meaning, InstanceLabels):
        record["cells"] = cells
    return LazyRecord(record)


def _read_image(
    page: Page, channels: Channels, window: Window | None = None
) -> np.ndarray:
    path = page.pair.image
    names = () if isinstance(channels, int) else read_layout(path).channel_names
    stored = read_page(path, page.index, window)
    image = choose(stored, channels, names, page.where(path))
    if image is None:
        raise UserError(
            f"{page.where(path)} has other channels than when it was checked. "
            "Let nothing write to it, and start again."
        )
    return image


def _read_ids(
    page: Page, meaning: Meaning, size: tuple[int, int], window: Window | None
) -> np.ndarray:
    """Reads class ids; those of a window are those that the page has there."""
    label = page.pair.label
    assert label is not None
    where = page.where(label)
    if window is None:
        return meaning.to_ids(read_label(label, page.index), where)
    # Whether a pixel is on the border of an object depends on those around it.
    margin = meaning.border_width if isinstance(meaning, InstanceLabels) else 0
    around, within = with_margin(window, margin, size)
    return meaning.to_ids(read_label(label, page.index, around), where)[within]
