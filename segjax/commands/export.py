"""Writes a checkpoint of --workdir as one file, --output: for segjax, or as a program."""

from __future__ import annotations

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
}
"""What --output is in each format."""

OF_PROGRAMS = ("tile", "image_size", "dtype", "crf")
"""Flags that are about programs alone."""


def define(values: Flags) -> None:
    """Defines the flags."""
    define_workdir(values)
    define_model(values)
    flags.DEFINE_string(
        "output",
        None,
        "The file to write, ending in .segjax or .stablehlo.zip.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "format",
        MODEL,
        [*FORMATS],
        "segjax: a model file; stablehlo: a program that runs with JAX and NumPy alone.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "image_size",
        None,
        "A program for whole images of this height and width, such as 360,480; default: for "
        "tiles, of which images of any size are made.",
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
    if values.format == MODEL:
        from segjax.runs.export import export_run

        if given := [name for name in OF_PROGRAMS if values[name].value]:
            raise UserError(
                f"--{given[0]} is about programs: give --format=stablehlo, too."
            )
        result = export_run(run_of(values), output, **options)
    else:
        from segjax.runs.export_program import export_stablehlo

        result = export_stablehlo(
            run_of(values),
            output,
            tile=values.tile,
            image_size=_size(values.image_size),
            dtype=values.dtype,
            crf=values.crf,
            **options,
        )
    ending.say(f"Wrote {output}, {result['bytes'] / 1e6:.1f} MB")
    print_result(result)


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
