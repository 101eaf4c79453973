"""Result files of predictions: their names, PNG and TIFF."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import DTypeLike
from PIL import Image

from segjax.data.files.layout import UNSTATED
from segjax.data.files.listing import has_ome_ending, name_of
from segjax.data.files.zarr import is_zarr
from segjax.errors import UserError
from segjax.output.folder import Outputs
from segjax.predict.descriptions import describe, resolution
from segjax.predict.inputs import Source, zarr_source
from segjax.predict.zarr_labels import (
    finish_zarr,
    is_label_of_zarr,
    zarr_files,
    zarr_labels,
    zarr_name,
)
from segjax.viz import palette

Write = Callable[..., None]
"""Adds one page; its other arguments are documented by the function that makes it."""

Colors = Sequence[tuple[int, int, int]]

CLASSIC_TIFF_BYTES = 1 << 31
"""Uncompressed bytes from which a TIFF gets 64-bit offsets (BigTIFF)."""

_TIFF_SUFFIXES = (".tif", ".tiff")


PYRAMID_SIDE = 4096
"""Pixels of a side from which a TIFF has tiles and smaller copies of its pages."""

_DESCRIBED = ("ImageJ", "OME", "OME-Zarr")
"""Forms of layouts whose TIFFs are described."""

_SMALLEST_LEVEL = 1024
_TILE = (512, 512)


def result_suffix(path: Path) -> str:
    """Ending of what is written for an input: that of a TIFF or OME-Zarr, or ".png".

    Example:
      >>> result_suffix(Path("a.TIFF")), result_suffix(Path("a.ome.tif"))
      ('.tif', '.ome.tif')
    """
    if is_zarr(path):
        return ".ome.zarr" if has_ome_ending(path) else ".zarr"
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        return ".png"
    return ".ome.tif" if has_ome_ending(path) else ".tif"


def kind_name(path: Path, root: Path, kind: str) -> str:
    """The name of one kind of result: "a.tif" for labels, "a_overlay.tif" for overlays.

    Args:
      path: the input.
      root: the folder that was asked for, or the input itself.
      kind: "labels", "instances", "probabilities" or "overlay".

    Returns:
      Its path within the folder of results. That of labels and instances of an OME-Zarr
      is a folder, see `zarr_labels`.
    """
    name, suffix = name_of(path, root), result_suffix(path)
    if is_zarr(path):
        if kind in ("labels", "instances"):
            image = "classes" if kind == "labels" else kind
            return zarr_name(f"{name}{suffix}", image)
        suffix = ".ome.tif"
    if kind == "labels":
        return f"{name}{suffix}"
    suffix = ".tif" if kind == "probabilities" and suffix == ".png" else suffix
    return f"{name}_{kind}{suffix}"


def planned_files(
    path: Path, names: Collection[str], chosen: tuple[int, ...] = ()
) -> list[str]:
    """Lists the files of the results of an input, which are several of an OME-Zarr.

    Args:
      path: the input.
      names: of the results (`kind_name`).
      chosen: places of the pages that are predicted, from 0; empty for all.

    Returns:
      Their paths within the folder of results.

    Raises:
      UserError: the input is an OME-Zarr, and damaged.
    """
    of_zarr = [name for name in names if is_label_of_zarr(name)]
    files = [name for name in names if name not in of_zarr]
    if of_zarr:
        files += zarr_files(of_zarr, zarr_source(path).only(chosen))
    return files


def finish(outputs: Outputs, names: Iterable[str], source: Source) -> None:
    """Writes what several results of an input have in common, when these are whole."""
    finish_zarr(outputs, [name for name in names if is_label_of_zarr(name)], source)


def page_file(
    outputs: Outputs,
    name: str,
    source: Source,
    dtype: DTypeLike,
    *,
    values_per_pixel: int = 1,
    colors: Colors | None = None,
    class_names: Sequence[str] = (),
    are_channels: bool = False,
) -> contextlib.AbstractContextManager[Write]:
    """Writes the pages of a result, in the format that its name says.

    Args:
      outputs: where it belongs.
      name: of the result (`kind_name`).
      source: the input.
      dtype: of the pages.
      values_per_pixel: of all pages that a page of the input gives.
      colors: one per class where the pages are class ids.
      class_names: of the classes, where the pages are of classes.
      are_channels: whether each page of the input gives a page for each class.

    Returns:
      A context, which yields the function that takes a page.
    """
    if name.endswith(".png"):
        return png_file(outputs, name, colors=colors)
    if is_label_of_zarr(name):
        return zarr_labels(outputs, name, source, dtype, colors or (), class_names)
    pixels = source.pages * source.height * source.width * values_per_pixel
    return tiff_file(
        outputs,
        name,
        expected_bytes=pixels * np.dtype(dtype).itemsize,
        colors=colors,
        source=source,
        channel_names=class_names if are_channels else (),
    )


def number_type(
    largest: int, path: Path, name: str
) -> type[np.uint16] | type[np.uint32]:
    """The type of pages that number objects: 16 bits, or 32 where there are more objects.

    Args:
      largest: the largest number.
      path: the input.
      name: of the result (`kind_name`).

    Returns:
      The type.

    Raises:
      UserError: there are more, and the result is a PNG, which has 16 bits.
    """
    most = np.iinfo(np.uint16).max
    if largest <= most:
        return np.uint16
    if name.endswith(".png"):
        raise UserError(
            f"{path} has {largest} objects, but results of it are PNGs, which number "
            f"{most}. Save it as TIFF, or cut it."
        )
    return np.uint32


def plan_outputs(
    names: Mapping[Path, Iterable[str]],
    output: Path,
    *,
    also: Iterable[str] = (),
    overwrite: bool = False,
) -> Outputs:
    """Plans all files of a prediction; nothing is written yet.

    Args:
      names: of each input, the files that it gives.
      output: the folder to write to.
      also: files that all inputs give together.
      overwrite: whether files of the user are replaced.

    Returns:
      The writer of these files.

    Raises:
      UserError: two inputs of one folder have one stem, the folder is that of an input or cannot be
        written to, two results have one name, or one would replace an input or a file
        that belongs to the user.
    """
    stems: dict[Path, Path] = {}
    for path in names:
        other = stems.setdefault(path.with_name(path.stem), path)
        if other is not path:
            raise UserError(
                f"{other} and {path.name} have the same stem, so their results would "
                "have the same name. Rename one, or put them into different folders."
            )
    folders = {os.path.realpath(path.parent) for path in names}
    folders |= {os.path.dirname(os.path.realpath(path)) for path in names}
    if os.path.realpath(output) in folders:
        raise UserError(
            f"--output={output} is the folder of the input, whose files would be "
            "overwritten. Give another folder."
        )
    planned: list[tuple[str, object]] = [
        (name, path) for path, own in names.items() for name in own
    ]
    planned += [(name, "all images") for name in also]
    return Outputs(output, planned, inputs=names, overwrite=overwrite)


@contextlib.contextmanager
def telling_what_stands(total: int) -> Iterator[Callable[[], None]]:
    """Has an error that comes late say how many inputs have their results.

    Args:
      total: number of inputs.

    Yields:
      The function that is called when the results of an input are whole.

    Raises:
      UserError: the error, with a sentence more.
    """
    done = 0

    def complete() -> None:
        nonlocal done
        done += 1

    try:
        yield complete
    except UserError as error:
        stand = "No results were written"
        if done:
            stand = f"The results of {done} of {total} files are complete and stay"
        raise UserError(f"{error} {stand}.") from error


@contextlib.contextmanager
def png_file(
    outputs: Outputs, name: str, *, colors: Colors | None = None
) -> Iterator[Write]:
    """Writes a PNG, whose one page is given to the function that this yields.

    Args:
      outputs: where the file belongs.
      name: of the file.
      colors: one per class where the page is class ids `[H, W]` uint8; the file is then
        a palette picture with 8 bits per pixel, whose stored values are the ids.
        Otherwise the page is `[H, W, 3]` uint8.
    """
    with outputs.file(name) as file:

        def write(page: np.ndarray) -> None:
            image = Image.fromarray(page)
            if colors is not None:
                image.putpalette(palette(colors).tobytes())
            image.save(file, format="PNG")

        yield write


@contextlib.contextmanager
def tiff_file(
    outputs: Outputs,
    name: str,
    *,
    expected_bytes: int,
    colors: Colors | None = None,
    source: Source | None = None,
    channel_names: Sequence[str] = (),
) -> Iterator[Write]:
    """Writes a TIFF page by page, compressed without loss (deflate).

    It states the axes and sizes that its source states, as ImageJ or OME do. From
    `PYRAMID_SIDE` on, pages have tiles and smaller copies of themselves (every second pixel,
    every fourth, ...), for viewers of large images, and OME's description; but not where
    the source is ImageJ's, which reads no tiles.

    The function that this yields takes a page, `[H, W]` or `[H, W, 3]`, and `title`, a
    description that is stored with it.

    Args:
      outputs: where the file belongs.
      name: of the file.
      expected_bytes: of all pages, uncompressed; decides about BigTIFF.
      colors: one per class where the pages are class ids uint8; they are stored beside
        the ids, as a palette.
      source: the image that the pages are of.
      channel_names: where each page of the source gives several, what these are.
    """
    # TIFF wants 16 bits a colour: 257 * 255 = 65535.
    table = None if colors is None else palette(colors).astype(np.uint16).T * 257
    large = expected_bytes > CLASSIC_TIFF_BYTES
    layout = UNSTATED if source is None else source.layout
    is_first = True
    with (
        outputs.file(name) as whole,
        tifffile.TiffWriter(whole, bigtiff=large, ome=False) as file,
    ):

        def write(page: np.ndarray, title: str = "") -> None:
            nonlocal is_first
            tiled = layout.form != "ImageJ" and max(page.shape[:2]) >= PYRAMID_SIDE
            if is_first and source is not None and (tiled or layout.form in _DESCRIBED):
                title = describe(layout, page, source.pages, channel_names)
            is_first = False
            kind = "rgb" if page.ndim == 3 else "minisblack"
            levels = _levels(page) if tiled else [page]
            for level, values in enumerate(levels):
                # Without metadata, pages of one size are one series for those who read it.
                file.write(
                    values,
                    photometric=kind if table is None else "palette",
                    colormap=table,
                    compression="zlib",
                    metadata=None,
                    description=None if level else title.encode() or None,
                    resolution=None if level else resolution(layout),
                    resolutionunit="NONE",
                    tile=_TILE if tiled else None,
                    subifds=0 if level else len(levels) - 1,
                    subfiletype=1 if level else 0,
                )

        yield write


def _levels(page: np.ndarray) -> list[np.ndarray]:
    """A page and its smaller copies, each of half the side of the one before."""
    levels = [page]
    while max(levels[-1].shape[:2]) > _SMALLEST_LEVEL:
        levels.append(np.ascontiguousarray(levels[-1][::2, ::2]))
    return levels
