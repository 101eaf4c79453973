"""Exporting a trained network as a program, which runs without segjax."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from segjax.errors import UserError
from segjax.export.functions import image_function, tile_functions
from segjax.export.stablehlo import PLATFORMS, SUFFIX, lower_first, write_stablehlo
from segjax.output.folder import Outputs
from segjax.pretrained.files import file_sha256
from segjax.runs.export import card, portable, portable_config
from segjax.runs.load import TrainedModel, load_trained
from segjax.runs.model_file import find_model_file
from segjax.training.about import IMAGE_DTYPES
from segjax.training.task import require

log = logging.getLogger("segjax")

DTYPES = ("uint8", "uint16", "float32")
"""Types of images that programs are made for."""

_USE = (
    "    import loader  # segjax/export/loader.py, which needs JAX and NumPy alone",
    '    program = loader.load("PROGRAM.stablehlo.zip")',
    "    labels = program(image)  # as it is stored",
)


def export_stablehlo(
    run: str | Path,
    output: str | Path,
    *,
    best: bool = True,
    step: int | None = None,
    tile: int | None = None,
    image_size: tuple[int, int] | None = None,
    dtype: str | None = None,
    crf: bool = False,
    description: str = "",
    overwrite: bool = False,
    allow_code: Collection[str] = (),
) -> dict[str, Any]:
    """Writes what a trained network answers as one program in StableHLO.

    It takes images as they are stored, and gives labels, logits and probabilities as
    `predict` does: normalisation, temperature, averaged passes and the CRF are in it.

    Args:
      run: the folder of the run, a model file, or the name of a model that comes with segjax.
      output: the file, ending in .stablehlo.zip.
      best: whether the best checkpoint of a run is written instead of the newest.
      step: the step of the checkpoint, if neither of those.
      tile: output side of a tile in pixels; None chooses one.
      image_size: height and width of the images, for a program of whole images; None: one of
        tiles, which takes images of any size from a tile on.
      dtype: of the images, one of `DTYPES`; None: that of the training images.
      crf: whether `config.crf` of the run refines the answers.
      description: what the card says first.
      overwrite: whether a file of the user is replaced.
      allow_code: packages whose code may be imported where the config of the run names it.

    Returns:
      `file`, `bytes` and `sha256` of it, `step`, `kind`, `image` and `platforms`.

    Raises:
      UserError: for anything that the user can put right; nothing was written then.
    """
    output = Path(output).expanduser()
    if not output.name.endswith(SUFFIX):
        raise UserError(
            f"--output={output} does not end in {SUFFIX}, as programs do: give, for example, "
            f"{output.with_suffix('').with_suffix(SUFFIX)}."
        )
    if image_size and tile is not None:
        raise UserError(
            "--tile and --image_size are given, but a program is either for tiles or for "
            "whole images: leave one of them out."
        )
    file = find_model_file(run)
    best = best and file is None
    trained = load_trained(run, best=best, step=step, allow_code=allow_code)
    task = require(trained.task, "labels", "--format=stablehlo")
    stored = np.dtype(_dtype(trained, dtype))
    refinement = _refinement(trained, stored, image_size) if crf else None
    network = task.pixel_network(trained.variables, trained.channels, refinement)
    made_of = file or Path(run)
    outputs = Outputs(
        output.parent, [(output.name, made_of)], inputs=[made_of], overwrite=overwrite
    )
    functions = (
        [image_function(network, image_size, stored)]
        if image_size
        else tile_functions(network, tile, stored)
    )
    pixels, lowered = lower_first(functions, trained.channels, stored)
    outputs.make_folder()
    about = {
        "classes": list(trained.label_spec.names),
        "colors": [list(color) for color in trained.label_spec.colors],
        "classes_overlap": task.head.overlaps,
        "step": trained.step,
        "parameters_sha256": trained.parameters_sha256,
    }
    with outputs.file(output.name) as written:
        config = portable_config(task.config)
        text = card(trained, config, portable(trained.about), description, _USE)
        write_stablehlo(written, pixels, lowered, about, text)
    return {
        "file": str(output),
        "bytes": output.stat().st_size,
        "sha256": file_sha256(output),
        "step": trained.step,
        "kind": pixels.about["kind"],
        "image": [*pixels.image_size, trained.channels, str(stored)],
        "platforms": list(PLATFORMS),
    }


def _dtype(trained: TrainedModel, given: str | None) -> str:
    """The type of images: that which is asked for, or that of the training images."""
    if given is not None:
        return given
    known = trained.about.get(IMAGE_DTYPES)
    if not isinstance(known, list):  # a run from before it was kept
        known = [] if trained.max_intensity is None else ["uint16"]
    if len(known) == 1 and known[0] in DTYPES:
        log.info("The program is for images of %s, as in training.", known[0])
        return known[0]
    if known:
        why = f"was trained on images of {' and '.join(map(str, known))}"
    else:
        why = "does not state the type of its training images"
    raise UserError(
        f"The network {why}, and a program is for images of one of {', '.join(DTYPES)}: give "
        "--dtype=uint8, or what your images are."
    )


def _refinement(
    trained: TrainedModel, dtype: np.dtype, image_size: tuple[int, int] | None
) -> Any:
    """The CRF of `--crf`, where a program can hold it."""
    refinement = trained.refinement()
    if image_size is None:
        raise UserError(
            "--crf relates all pixels of an image, so a program that has it is for images of "
            "one size: give --image_size=HEIGHT,WIDTH, too."
        )
    if dtype == np.float32:
        raise UserError(
            "--crf compares colours as they are stored, which images of float32 do not have: "
            "give --dtype=uint8 or --dtype=uint16."
        )
    if dtype == np.uint16 and refinement.max_intensity is None:
        raise UserError(
            "--crf of images of 16 bits needs to know their largest value, which the run does "
            "not: put config.crf.max_intensity, such as 4095, into its config.json."
        )
    return refinement
