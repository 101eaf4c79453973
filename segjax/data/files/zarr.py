"""OME-Zarr (0.1 to 0.5), page by page, through tensorstore.

What is read of a volume are the chunks that a page, or a window of it, touches; those of the
newest pages are kept, so that neighbours that share chunks do not read them again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.files.calibration import Calibration, micrometres, seconds
from segjax.data.files.layout import Layout
from segjax.data.files.plane import (
    SMALL_BYTES,
    Stored,
    Window,
    free_bytes,
    pixel,
    require_room,
)
from segjax.data.files.stated import Stated
from segjax.errors import UserError
from segjax.text_files import parse_json, read_bytes

SUFFIX = ".zarr"

METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
"""Files one of which makes a folder a Zarr."""

_CHUNK_KEY = re.compile(rb"(?:c[./])?(\d{1,18}(?:[./]\d{1,18})*)")
_CACHE_BYTES = 1 << 25
"""Of decoded chunks of an array that stay in memory: neighbouring windows read some twice."""
_MOST_TEXT = 1 << 25
_OLD_AXES = "tczyx"
"""Of OME-Zarr before 0.3, which did not name them."""


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA)


class ZarrPages:
    """The pages of an OME-Zarr image in full size; time and depth are pages.

    A group without an image, but with one label image, stands for that.

    Attributes:
      size: height and width of a page.
      layout: what the image states of its axes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        group, zarr_format, multiscale = _image_in(path)
        axes = _axes(multiscale)
        names = [axis["name"].lower() for axis in axes]
        if len(set(names)) < len(names) or not {"y", "x"} <= set(names):
            raise ValueError(f"its axes are {names}")
        dataset = multiscale["datasets"][0]
        self._array = _opened(group, str(dataset["path"]))
        if self._array.rank != len(axes):
            raise ValueError(f"{self._array.rank} dimensions where it names {names}")
        sizes = dict(zip(names, self._array.shape, strict=True))
        if 0 in sizes.values():
            raise UserError(
                f"{path} is empty: its sizes are {sizes}. Write it again, with pixels."
            )
        self._names = names
        self.size = sizes["y"], sizes["x"]
        planes = {_letter(name): n for name, n in sizes.items() if name not in "yx"}
        if len(planes) < len(names) - 2:
            raise ValueError(f"its axes are {names}")
        channels = planes.get("C", 1)
        stated = Stated(
            "OME-Zarr",
            axes="".join(planes),
            sizes=tuple(planes.values()),
            channel_names=_channel_names(group, channels),
            calibration=_calibration(axes, multiscale, dataset),
        )
        self._pages = stated.page_axes
        self._sizes = tuple(planes[axis] for axis in self._pages)
        self.layout = Layout(
            stated.program,
            self._pages,
            self._sizes,
            stated.channel_names,
            stated.calibration,
            zarr_format,
        )
        self._channels = channels
        self._require_memory()

    def __len__(self) -> int:
        return math.prod(self._sizes)

    def page(self, index: int, window: Window | None = None) -> Stored:
        """Reads the chunks of a page, or of a window of it, with all its channels."""
        places = np.unravel_index(index, self._sizes) if self._sizes else ()
        at = dict(zip(self._pages, places, strict=True))
        part = dict(zip("yx", window or (), strict=False))
        key = tuple(
            part.get(name, slice(None)) if name in "yxc" else int(at[_letter(name)])
            for name in self._names
        )
        values = self._array[key].read().result()
        kept = [name for name in self._names if name in "yxc"]
        wanted = [name for name in "yxc" if name in kept]
        values = values.transpose([kept.index(name) for name in wanted])
        if self._channels == 1:
            return Stored(values.reshape(values.shape[:2]), "grey")
        return Stored(np.ascontiguousarray(values), "channels")

    def head(self, index: int) -> Stored:
        """Returns one pixel that stands for a page; all are alike."""
        dtype = self._array.dtype.numpy_dtype
        if self._channels == 1:
            return Stored(pixel((1, 1), dtype), "grey")
        return Stored(pixel((1, 1, self._channels), dtype), "channels")

    def count_chunks(self) -> tuple[int, int]:
        """Counts the chunks, or shards, that are stored, and those that there would be."""
        array = self._array
        grid = [
            -(-size // part)
            for size, part in zip(
                array.shape, array.chunk_layout.write_chunk.shape, strict=True
            )
        ]
        stored = 0
        for key in array.kvstore.list().result():
            found = _CHUNK_KEY.fullmatch(key)
            place = re.split(rb"[./]", found[1]) if found else ()
            stored += len(place) == len(grid) and all(
                int(i) < count for i, count in zip(place, grid, strict=True)
            )
        return stored, math.prod(grid)

    @property
    def fill_value(self) -> float:
        """Returns what is read where a chunk is not stored."""
        value = self._array.fill_value
        return 0 if value is None else value.item()

    def loss(self, index: int) -> str:
        """Nothing: the codecs of Zarr that are read keep values."""
        return ""

    def _require_memory(self) -> None:
        """Checks that a page, and a chunk, fit into memory."""
        itemsize = self._array.dtype.numpy_dtype.itemsize
        height, width = self.size
        require_room(self._path, width, height, self._channels * itemsize)
        chunk = math.prod(self._array.chunk_layout.read_chunk.shape) * itemsize
        free = free_bytes()
        if chunk > SMALL_BYTES and free is not None and chunk > free:
            raise UserError(
                f"{self._path} has chunks of {chunk >> 20} MiB, where {free >> 20} MiB of "
                "memory are free. Write it with smaller chunks."
            )


def _image_in(path: Path) -> tuple[Path, int, Mapping[str, Any]]:
    """Finds the group of an image: its folder, its format of Zarr, its multiscale."""
    attributes, zarr_format = attributes_of(path)
    if found := attributes.get("multiscales"):
        return path, zarr_format, found[0]
    labels = attributes_of(path / "labels")[0].get("labels", [])
    if len(labels) == 1:
        return _image_in(_within(path / "labels", str(labels[0])))
    if labels:
        raise UserError(
            f"{path} holds the labels {', '.join(map(str, labels))} and no image. Give one "
            f"of them, such as {path / 'labels' / str(labels[0])}."
        )
    remedy = "Write it as OME-Zarr, with multiscales."
    images = sorted(
        entry.name
        for entry in path.iterdir()
        if entry.is_dir() and attributes_of(entry)[0].get("multiscales")
    )
    if images:
        remedy = f"Give one of its images, such as {path / images[0]}."
    raise UserError(
        f"{path} is a Zarr without multiscales, the list of the sizes of an image, so that "
        f"it is not known what its axes are. {remedy}"
    )


def attributes_of(path: Path) -> tuple[Mapping[str, Any], int]:
    """Reads what OME-Zarr says of a group, nothing without; and its format of Zarr."""
    whole = _json(path / "zarr.json")
    ome = whole.get("attributes", {}).get("ome")
    if ome is not None:
        return ome, 3
    return _json(path / ".zattrs"), 2


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > _MOST_TEXT:
        raise ValueError(f"{path.name} is too long")
    found = parse_json(read_bytes(path), path)
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no dictionary")
    return found


def _axes(multiscale: Mapping[str, Any]) -> list[dict[str, str]]:
    axes = multiscale.get("axes", list(_OLD_AXES))
    return [{"name": axis} if isinstance(axis, str) else axis for axis in axes]


def _letter(name: str) -> str:
    return name[:1].upper()


def _within(root: Path, name: str) -> Path:
    """The path of a part of a group; parts that lie elsewhere are never opened."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise ValueError(f"the path of a part is {name!r}")
    return root.joinpath(*parts)


def _opened(group: Path, name: str) -> Any:
    """Opens an array of a group."""
    import tensorstore

    path = _within(group, name)
    is_new = (path / "zarr.json").is_file()
    # tensorstore crashes on JSON that is nested too deeply, of which `_json` says so.
    if not _json(path / ("zarr.json" if is_new else ".zarray")):
        raise ValueError(f"the array {name!r} is missing")
    return tensorstore.open(
        {
            "driver": "zarr3" if is_new else "zarr",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "context": {"cache_pool": {"total_bytes_limit": _CACHE_BYTES}},
        },
        open=True,
        read=True,
    ).result()


def _channel_names(group: Path, channels: int) -> tuple[str, ...]:
    found = attributes_of(group)[0].get("omero", {}).get("channels", [])
    names = tuple(str(channel.get("label", "")) for channel in found)
    return names if len({*names} - {""}) == len(names) == channels else ()


def _calibration(
    axes: Sequence[Mapping[str, str]],
    multiscale: Mapping[str, Any],
    dataset: Mapping[str, Any],
) -> Calibration:
    scales = np.ones(len(axes))
    for part in (multiscale, dataset):
        for transformation in part.get("coordinateTransformations", ()):
            if transformation.get("type") == "scale" and "scale" in transformation:
                scales = scales * np.asarray(transformation["scale"], np.float64)
    size = {
        axis["name"].lower(): (float(scale), str(axis.get("unit", "")))
        for axis, scale in zip(axes, scales, strict=True)
    }
    height, width = micrometres(*size["y"]), micrometres(*size["x"])
    return Calibration(
        (height, width) if height and width else None,
        micrometres(*size.get("z", (0.0, ""))),
        seconds(*size.get("t", (0.0, ""))),
    )
