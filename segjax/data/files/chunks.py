"""Whether the chunks of an OME-Zarr are there."""

from __future__ import annotations

import logging
from pathlib import Path

from segjax.data.files.decoders import opened
from segjax.data.files.zarr import ZarrPages, is_zarr
from segjax.errors import UserError

log = logging.getLogger("segjax")


def check_chunks(path: Path, *, is_label: bool = False) -> None:
    """Looks whether the chunks of an OME-Zarr are there; other files are passed over.

    Programs leave out chunks of nothing but the fill value, and so does a copy that was
    broken off: the log says how many.

    Args:
      path: the file.
      is_label: whether it may be that no chunk is there, as in a label without objects.

    Raises:
      UserError: none is there, and it is not a label.
    """
    if not is_zarr(path):
        return
    with opened(path, scan=False) as pages:
        assert isinstance(pages, ZarrPages)
        stored, count = pages.count_chunks()
        fill_value = pages.fill_value
    if not stored and not is_label:
        raise UserError(
            f"{path} has no pixels: none of its {count} chunks is there. Copy it again, or "
            "remove it."
        )
    if stored < count:
        log.warning(
            "%s lacks %d of its %d chunks, where it is read as %g. Programs leave out chunks "
            "that hold nothing else; if it was copied, see whether all of it was.",
            *(path, count - stored, count, fill_value),
        )
