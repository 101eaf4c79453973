"""Writes a checkpoint of --workdir as one file, --output: for segjax, as a program, as ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from absl import flags

from segjax import ending
from segjax.commands.results import print_result
from segjax.commands.shared_flags import (
    Flags,
    checkpoint_of,
    define_allow_code,
    define_checkpoint,
    define_crf,
    define_model,
    define_overwrite,
    define_workdir,
    height_and_width,
    required,
    run_of,
)
from segjax.errors import UserError

THINGS = ("workdir", "output")

MODEL = "segjax"
FORMATS = {
    MODEL: "the file to write, ending in .segjax",
    "stablehlo": "the file to write, ending in .stablehlo.zip",
    "onnx": "the file to write, ending in .onnx",
    "bioimageio": "the file to write, ending in .bioimageio.zip",
}
"""What --output is in each format."""

OF_FORMATS = {
    "stablehlo": ("tile", "image_size", "dtype", "crf"),
    "onnx": ("image_size", "dtype", "crf", "precision"),
    "bioimageio": ("image_size", "dtype", "crf", "example", "authors", "license"),
}
"""Flags that are about some formats alone."""


def define(values: Flags) -> None:
    """Defines the flags."""
    define_workdir(values)
    define_model(values)
    flags.DEFINE_string(
        "output",
        None,
        "The file to write, ending in .segjax, .stablehlo.zip, .onnx or .bioimageio.zip.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "format",
        MODEL,
        [*FORMATS],
        "segjax: a model file; stablehlo: a program that runs with JAX and NumPy alone; onnx: "
        "a graph for onnxruntime and others; bioimageio: a package of bioimage.io.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "image_size",
        None,
        "A program for whole images of this height and width, such as 360,480; default: for "
        "tiles, of which images of any size are made, and with --format=onnx for whole images "
        "of the sizes that the network takes.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "tile",
        None,
        "Output side in pixels of the tiles of a program.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dtype",
        None,
        ["uint8", "uint16", "float32"],
        "Type of the images of a program; default: that of the training images.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "precision",
        None,
        ["float32", "float16", "int8"],
        "How the weights of --format=onnx are stored; default: float32.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "example",
        None,
        "An image that goes along with --format=bioimageio, as its test and on its cover.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "authors",
        None,
        "Names of those who made the model, for --format=bioimageio.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "license",
        None,
        "Licence of the weights by SPDX, such as CC-BY-4.0, for --format=bioimageio.",
        flag_values=values,
    )
    define_crf(values)
    define_checkpoint(values, "best")
    flags.DEFINE_string(
        "description",
        "",
        "What the card in the file says first, such as what the images show.",
        flag_values=values,
    )
    define_overwrite(values)
    define_allow_code(values)


def run(values: Flags) -> None:
    """Exports, and prints JSON."""
    output = required(values, "output", FORMATS[values.format])
    options: dict[str, Any] = {
        **checkpoint_of(values),
        "description": values.description,
        "overwrite": values.overwrite,
        "allow_code": values.allow_code,
    }
    of_format = OF_FORMATS.get(values.format, ())
    for name in dict.fromkeys(name for names in OF_FORMATS.values() for name in names):
        if values[name].value and name not in of_format:
            others = (x for x, names in OF_FORMATS.items() if name in names)
            raise UserError(
                f"--{name} is not about --format={values.format}: leave it out, or give "
                + " or ".join(f"--format={other}" for other in others)
                + "."
            )
    if values.format == MODEL:
        from segjax.runs.exports.model import export_run

        result = export_run(run_of(values), output, **options)
    else:
        given = {name: values[name].value for name in of_format}
        options |= {name: value for name, value in given.items() if value is not None}
        options["image_size"] = _size(values.image_size)
        result = _exporter(values.format)(run_of(values), output, **options)
    ending.say(f"Wrote {output}, {result['bytes'] / 1e6:.1f} MB")
    print_result(result)


def _exporter(name: str) -> Callable[..., dict[str, Any]]:
    """The function that exports to a format other than segjax's own."""
    if name == "bioimageio":
        from segjax.runs.exports.bioimageio import export_bioimageio

        return export_bioimageio
    if name == "onnx":
        from segjax.runs.exports.onnx import export_onnx

        return export_onnx
    from segjax.runs.exports.stablehlo import export_stablehlo

    return export_stablehlo


def _size(given: list[str] | None) -> tuple[int, int] | None:
    """Reads height and width."""
    if given is None:
        return None
    if (size := height_and_width(given)) is not None:
        return size
    raise UserError(
        f"--image_size={','.join(given)} is not a height and a width in pixels, such as "
        "360,480."
    )
