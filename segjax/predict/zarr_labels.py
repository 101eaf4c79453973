"""Labels of OME-Zarr images: the group `labels`, as it lies beside the levels of an image.

Every chunk is a file of its own that appears when it is whole; what makes a Zarr of them
comes last, so that one that was not finished is none.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from segjax.data.files.layout import Layout
from segjax.output.folder import Outputs
from segjax.predict.inputs import Source

_CHUNK = 1024
"""Side of a chunk in pixels; from two of them on there is a level of half the size."""

_LABELS = "/labels/"
_TYPES = {"t": "time", "z": "space", "y": "space", "x": "space"}


def zarr_name(image: str, kind: str) -> str:
    """The name of a label image within the result of an image.

    Example:
      >>> zarr_name("plate1/a.ome.zarr", "classes")
      'plate1/a.ome.zarr/labels/classes'
    """
    return f"{image}{_LABELS}{kind}"


def is_label_of_zarr(name: str) -> bool:
    """Whether a result is a label image within an OME-Zarr, by its name.

    Example:
      >>> is_label_of_zarr("a.ome.zarr/labels/classes"), is_label_of_zarr("a.tif")
      (True, False)
    """
    return f".zarr{_LABELS}" in name


def zarr_files(names: Sequence[str], source: Source) -> list[str]:
    """Lists the files of the label images of an image.

    Args:
      names: of the label images (`zarr_name`).
      source: the image.

    Returns:
      Names within the folder of the results.
    """
    files = [f"{name}/{key}" for name in names for key in _keys_of_image(source)]
    return files + list(_group_files(names, source))


@contextlib.contextmanager
def zarr_labels(
    outputs: Outputs,
    name: str,
    source: Source,
    dtype: DTypeLike,
    colors: Sequence[tuple[int, int, int]] = (),
    class_names: Sequence[str] = (),
) -> Iterator[Any]:
    """Writes a label image; the function that this yields takes its pages, in order.

    It has the format of the image (OME-Zarr 0.4 for zarr 2, 0.5 for zarr 3), its axes but
    the channels, its physical sizes, and levels of every second pixel, every fourth, ...

    Args:
      outputs: where the files belong.
      name: of the label image (`zarr_name`).
      source: the image.
      dtype: type of the labels, unsigned.
      colors: of the labels 0, 1, ..., where they have any.
      class_names: of these labels.
    """
    levels = [
        _Level(outputs, f"{name}/{i}", source, size, dtype)
        for i, size in enumerate(_sizes(source))
    ]
    places = np.ndindex(*source.layout.sizes)

    def write(page: np.ndarray) -> None:
        place = next(places)
        for level in levels:
            level.write(place, page)
            page = page[::2, ::2]

    yield write
    for level in levels:
        level.finish()
    about = _multiscales(source.layout, len(levels))
    about["image-label"] = _image_label(source, colors, class_names)
    for key, content in _group(about, source).items():
        _write_json(outputs, f"{name}/{key}", content)


def finish_zarr(outputs: Outputs, names: Sequence[str], source: Source) -> None:
    """Writes the groups that label images lie in, once these are whole.

    Args:
      outputs: where the files belong.
      names: of all label images of an image.
      source: the image.
    """
    for name, content in _group_files(names, source).items():
        _write_json(outputs, name, content)


class _Level:
    """An array of labels, encoded by tensorstore in memory, chunk by chunk."""

    def __init__(
        self,
        outputs: Outputs,
        name: str,
        source: Source,
        size: tuple[int, int],
        dtype: DTypeLike,
    ) -> None:
        import tensorstore

        self._outputs, self._name = outputs, name
        self._size, self._is_new = size, _is_new(source)
        place = {"driver": "memory", "path": f"{name}/"}
        context = tensorstore.Context()
        metadata: dict[str, Any] = {"chunks": _chunks(source)} | {
            "dimension_separator": "/",
            "compressor": {"id": "zlib", "level": 5},
        }
        if self._is_new:
            grid = {"chunk_shape": _chunks(source)}
            metadata = {
                "chunk_grid": {"name": "regular", "configuration": grid},
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "gzip", "configuration": {"level": 5}},
                ],
                "dimension_names": list(source.layout.axes.lower() + "yx"),
            }
        self._array = tensorstore.open(
            {
                "driver": "zarr3" if self._is_new else "zarr",
                "kvstore": place,
                "metadata": metadata,
                "store_data_equal_to_fill_value": True,
            },
            context=context,
            create=True,
            dtype=np.dtype(dtype),
            shape=(*source.layout.sizes, *size),
            fill_value=0,
        ).result()
        self._encoded = tensorstore.KvStore.open(place, context=context).result()

    def write(self, place: tuple[int, ...], page: np.ndarray) -> None:
        self._array[place].write(page).result()
        for key in _keys(place, self._size, self._is_new):
            self._move(key)

    def finish(self) -> None:
        self._move("zarr.json" if self._is_new else ".zarray")

    def _move(self, key: str) -> None:
        content = self._encoded.read(key).result().value
        with self._outputs.file(f"{self._name}/{key}") as file:
            file.write(content)
        self._encoded.write(key, None).result()


def _is_new(source: Source) -> bool:
    """Whether an image is of zarr 3."""
    return source.layout.zarr_format == 3


def _sizes(source: Source) -> list[tuple[int, int]]:
    """Height and width of each level."""
    sizes = [(source.height, source.width)]
    while max(sizes[-1]) >= 2 * _CHUNK:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def _chunks(source: Source) -> list[int]:
    return [*(1 for _ in source.layout.sizes), _CHUNK, _CHUNK]


def _keys(place: tuple[int, ...], size: tuple[int, int], is_new: bool) -> Iterator[str]:
    """Keys of the chunks of a page in an array."""
    counts = (range(-(-side // _CHUNK)) for side in size)
    for chunk in itertools.product(*counts):
        yield "/".join([*["c"] * is_new, *map(str, (*place, *chunk))])


def _keys_of_image(source: Source) -> Iterator[str]:
    """Files of a label image within its folder."""
    is_new = _is_new(source)
    for level, size in enumerate(_sizes(source)):
        for place in np.ndindex(*source.layout.sizes):
            yield from (f"{level}/{key}" for key in _keys(place, size, is_new))
        yield f"{level}/{'zarr.json' if is_new else '.zarray'}"
    yield from _group({}, source)


def _group_files(names: Sequence[str], source: Source) -> dict[str, Any]:
    """The files of the group `labels` and of the one that it lies in, the outer last."""
    if not names:
        return {}
    root = names[0].rpartition(_LABELS)[0]
    kinds = [name.rpartition(_LABELS)[2] for name in names]
    inner = _group({"labels": kinds}, source)
    files = {f"{root}{_LABELS}{key}": content for key, content in inner.items()}
    return files | {
        f"{root}/{key}": content for key, content in _group({}, source).items()
    }


def _group(attributes: dict[str, Any], source: Source) -> dict[str, Any]:
    """The files that make a folder a group with attributes of OME-Zarr."""
    if _is_new(source):
        ome = {"version": "0.5", **attributes}
        about = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
        return {"zarr.json": about}
    return {".zattrs": attributes, ".zgroup": {"zarr_format": 2}}


def _multiscales(layout: Layout, levels: int) -> dict[str, Any]:
    """What OME-Zarr says of the axes and sizes of the levels."""
    names = layout.axes.lower() + "yx"
    calibration = layout.calibration
    height, width = calibration.pixel_size or (None, None)
    sizes = {"t": calibration.frame_interval, "z": calibration.z_spacing}
    sizes |= {"y": height, "x": width}
    axes = []
    for name in names:
        axis = {"name": name}
        if name in _TYPES:
            axis["type"] = _TYPES[name]
            if sizes[name] is not None:
                axis["unit"] = "second" if name == "t" else "micrometer"
        axes.append(axis)
    datasets = []
    for level in range(levels):
        scale = [
            (sizes.get(name) or 1.0) * (2**level if name in "yx" else 1)
            for name in names
        ]
        scales = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": scales})
    multiscale: dict[str, Any] = {"axes": axes, "datasets": datasets, "name": "labels"}
    if layout.zarr_format != 3:
        multiscale["version"] = "0.4"
    return {"multiscales": [multiscale]}


def _image_label(
    source: Source, colors: Sequence[tuple[int, int, int]], class_names: Sequence[str]
) -> dict[str, Any]:
    about: dict[str, Any] = {"source": {"image": "../../"}}
    if not _is_new(source):
        about["version"] = "0.4"
    if colors:
        about["colors"] = [
            {"label-value": value, "rgba": [*map(int, color), 255]}
            for value, color in enumerate(colors)
        ]
    if class_names:
        about["properties"] = [
            {"label-value": value, "class": name}
            for value, name in enumerate(class_names)
        ]
    return about


def _write_json(outputs: Outputs, name: str, content: dict[str, Any]) -> None:
    with outputs.file(name) as file:
        file.write(json.dumps(content, indent=2).encode())
