"""Exporting a trained network as a program, which runs without segjax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.export.functions import tile_functions
from segjax.export.stablehlo import PLATFORMS, SUFFIX, lower_first, write_stablehlo
from segjax.runs.exports.found import find_exported

_USE = (
    "    import loader  # segjax/export/loader.py, which needs JAX and NumPy alone",
    '    program = loader.load("PROGRAM.stablehlo.zip")',
    "    labels = program(image)  # as it is stored",
)


def export_stablehlo(
    run: str | Path,
    output: str | Path,
    *,
    tile: int | None = None,
    image_size: tuple[int, int] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes what a trained network answers as one program in StableHLO.

    It takes images as they are stored, and gives labels, logits and probabilities as
    `predict` does: normalisation, temperature, averaged passes and the CRF are in it. Of a
    network that finds objects it gives what `segjax.export.objects` says.

    Args:
      run: the folder of the run, a model file, or the name of a model that comes with segjax.
      output: the file, ending in .stablehlo.zip.
      tile: output side of a tile in pixels; None chooses one.
      image_size: height and width of the images, for a program of whole images; None: one of
        tiles, which takes images of any size from a tile on.
      **options: those of `find_exported`: `best`, `step`, `dtype`, `crf`, `description`,
        `overwrite`, `allow_code`.

    Returns:
      `file`, `bytes` and `sha256` of it, `step`, `kind`, `image` and `platforms`.

    Raises:
      UserError: for anything that the user can put right; nothing was written then.
    """
    if image_size and tile is not None:
        raise UserError(
            "--tile and --image_size are given, but a program is either for tiles or for "
            "whole images: leave one of them out."
        )
    found = find_exported(
        *(run, output, SUFFIX),
        format_name="stablehlo",
        image_size=image_size,
        objects=True,
        **options,
    )
    of_tiles = lambda network, dtype: tile_functions(network, tile, dtype)
    functions = found.functions(image_size, of_tiles)
    pixels, lowered = lower_first(functions, found.trained.channels, found.dtype)
    found.outputs.make_folder()
    with found.outputs.file(found.path.name) as written:
        write_stablehlo(written, pixels, lowered, found.about, found.card(_USE))
    return found.written(pixels) | {"platforms": list(PLATFORMS)}
