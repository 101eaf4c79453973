"""Exporting a trained network as a package of bioimage.io, which Fiji, ilastik and QuPath read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax.data.files.channels import with_channels
from segjax.data.files.images import read_pages
from segjax.errors import UserError
from segjax.export.functions import PixelFunction
from segjax.export.onnx import bioimage
from segjax.export.onnx.write import describe, require_onnx
from segjax.runs.exports.found import Exported, find_exported
from segjax.runs.exports.onnx import converted

LARGEST_EXAMPLE = 512
"""Pixels along an axis of the image in a package, where the network takes any size."""

_USE = (
    "    bioimageio test PACKAGE.bioimageio.zip",
    "",
    "Its weights are a graph of ONNX; `rdf.yaml` says what goes in and what comes out.",
)


def export_bioimageio(
    run: str | Path,
    output: str | Path,
    *,
    example: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    authors: Sequence[str] = (),
    license: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes a trained network as a package of bioimage.io, with weights in ONNX.

    Args:
      run: the folder of the run, a model file, or the name of a model that comes with segjax.
      output: the file, ending in .bioimageio.zip.
      example: an image; a part of it, and what the network answers for that, go along.
      image_size: height and width of the images; None: all sizes that the network takes,
        where it can be traced for them.
      authors: names.
      license: of the weights, by SPDX, such as "CC-BY-4.0".
      **options: those of `segjax.runs.exports.found.find_exported`.

    Returns:
      `file`, `bytes` and `sha256` of it, `step`, `kind`, `image` and `opset`.

    Raises:
      UserError: for anything that the user can put right; nothing was written then.
    """
    require_onnx("bioimageio")
    if example is None:
        raise UserError(
            "--format=bioimageio needs an image that goes along, as its test and on its cover: "
            "give --example=FILE, such as one of the validation images."
        )
    found = find_exported(
        *(run, output, bioimage.SUFFIX),
        format_name="bioimageio",
        image_size=image_size,
        **options,
    )
    image = _image(Path(example), found)
    pixels, model = converted(found, image_size, [bioimage.OUTPUT])
    image = _part(image, pixels, Path(example))
    weights = list(pixels.weights.values())
    answers = jax.jit(pixels.of_list)(weights, image[None])
    describe(model, pixels, found.about, found.card(_USE))
    opset = model.opset_import[0].version
    margin = (image.shape[0] - answers["labels"].shape[1]) // 2
    seen = image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]
    colors = found.trained.label_spec.value_colors
    files = {
        bioimage.WEIGHTS: model.SerializeToString(deterministic=True),
        bioimage.CARD: found.card(_USE).encode(),
        bioimage.TEST_INPUT: bioimage.npy(image[None]),
        bioimage.TEST_OUTPUT: bioimage.npy(np.asarray(answers[bioimage.OUTPUT])),
        bioimage.COVER: _png(
            bioimage.cover(seen, np.asarray(answers["labels"])[0], colors)
        ),
    }
    package = bioimage.Package(
        name=found.path.name.removesuffix(bioimage.SUFFIX),
        description=found.description or "Labels the pixels of images.",
        classes=found.trained.label_spec.names,
        channels=found.trained.channels,
        dtype=found.dtype,
        authors=authors,
        license=license,
    )
    found.outputs.make_folder()
    with found.outputs.file(found.path.name) as written:
        stated = package.describe(pixels, files, opset)
        bioimage.write_package(written, stated, files)
    return found.written(pixels) | {"opset": opset}


def _image(path: Path, found: Exported) -> np.ndarray:
    """The first page of an image, as the network takes it."""
    image = next(read_pages(path))
    channels = found.trained.channels
    wanted = with_channels(image, channels)
    if wanted is None:
        raise UserError(
            f"--example={path} has {image.shape[-1]} channels, but the network takes "
            f"{channels}: give one of the images that it is for."
        )
    if found.dtype == np.float32:
        return wanted.astype(np.float32)
    if wanted.dtype != found.dtype:
        raise UserError(
            f"--example={path} is {wanted.dtype}, but the model is for {found.dtype}: give "
            "another image, or --dtype."
        )
    return wanted


def _part(image: np.ndarray, pixels: PixelFunction, path: Path) -> np.ndarray:
    """The middle of an image, of a size that is taken."""
    places = []
    for axis, size in enumerate(pixels.image_size):
        whole = image.shape[axis]
        if isinstance(size, int):
            wanted = size
        else:
            sizes = pixels.about["sizes"]
            most = max(min(whole, LARGEST_EXAMPLE), sizes["minimum"])
            wanted = most - (most - sizes["remainder"]) % sizes["stride"]
        if wanted > whole:
            name = ("height", "width")[axis]
            raise UserError(
                f"--example={path} has a {name} of {whole} pixels, but the network takes "
                f"{wanted} at least: give a larger image."
            )
        start = (whole - wanted) // 2
        places.append(slice(start, start + wanted))
    return np.ascontiguousarray(image[tuple(places)])


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
