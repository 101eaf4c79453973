"""Labels the images of --input into --output with a checkpoint of --workdir."""

from __future__ import annotations

import re

from absl import flags

from segjax import ending
from segjax.commands.shared_flags import (
    Flags,
    checkpoint_of,
    define_allow_code,
    define_checkpoint,
    define_crf,
    define_ensemble,
    define_model,
    define_overwrite,
    define_tile,
    define_workdir,
    required,
    run_of,
)
from segjax.errors import UserError

THINGS = ("workdir",)
MORE = "ensemble"

_MOST_PAGES = 1 << 20


def define(values: Flags) -> None:
    """Defines the flags."""
    define_workdir(values)
    define_model(values)
    flags.DEFINE_string(
        "input", None, "An image, a stack, or a folder of them.", flag_values=values
    )
    flags.DEFINE_string("output", None, "The folder to write to.", flag_values=values)
    define_overwrite(values)
    define_checkpoint(values)
    define_tile(values)
    flags.DEFINE_list(
        "channels",
        None,
        "Takes these channels of the images, by name or by number from 0, such as DAPI,GFP; "
        "default: as in training.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "pages",
        None,
        "Predicts these pages of each file, counted from 1, such as 1,5,9-12; default: all.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "downscale",
        None,
        "Makes images smaller by this factor; default: as in training.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "rescale",
        False,
        "Brings images to the size of pixels of the training images, where both state theirs.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "probabilities", False, "Writes probabilities, too.", flag_values=values
    )
    flags.DEFINE_bool("overlay", False, "Writes overlays, too.", flag_values=values)
    flags.DEFINE_bool(
        "instances",
        False,
        "Finds objects in the pixels: numbers them in label files of their own, and lists "
        "them in objects.csv.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "link",
        False,
        "With --instances: objects of neighbouring pages that overlap are one.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "outlines",
        None,
        ["imagej", "geojson"],
        "With --instances: writes outlines, too, for ImageJ's ROI manager or QuPath.",
        flag_values=values,
    )
    define_crf(values)
    define_ensemble(values)
    define_allow_code(values)


def run(values: Flags) -> None:
    """Predicts, and says what was written."""
    from segjax.runs.predict import page_progress, predict_run

    output = required(values, "output", "the folder to write to")
    given = required(values, "input", "an image, a stack, or a folder of them")
    files = predict_run(
        run_of(values),
        given,
        output,
        **checkpoint_of(values),
        tile=values.tile,
        channels=values.channels,
        pages=_numbers(values.pages) if values.pages else (),
        downscale=values.downscale,
        rescale=values.rescale,
        probabilities=values.probabilities,
        overlay=values.overlay,
        crf=values.crf,
        instances=values.instances,
        link=values.link,
        outlines=values.outlines,
        overwrite=values.overwrite,
        allow_code=values.allow_code,
        ensemble=values.ensemble,
        progress=page_progress(),
    )
    many = "" if len(files) == 1 else "s"
    kinds = [f"label file{many}"]
    kinds += [f"file{many} of probabilities"] * values.probabilities
    kinds += [f"overlay{many}"] * values.overlay
    kinds += [f"file{many} of instances"] * values.instances
    kinds += [f"file{many} of outlines"] * bool(values.outlines)
    ending.say(f"Wrote {', '.join(f'{len(files)} {x}' for x in kinds)} to {output}")
    if values.instances:
        ending.say(f"The objects are listed in {output}/objects.csv")


def _numbers(text: str) -> list[int]:
    """Reads numbers and ranges of them, in their order, each once."""
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(
            r"\s*([1-9]\d{0,8})(?:-([1-9]\d{0,8}))?\s*", part, re.ASCII
        )
        first, last = (found[1], found[2] or found[1]) if found else ("1", "0")
        if not int(first) <= int(last) < int(first) + _MOST_PAGES:
            raise UserError(
                f"--pages={text} is no list of pages. Give numbers from 1 and ranges of "
                "them, such as --pages=1,5,9-12."
            )
        numbers += range(int(first), int(last) + 1)
    return list(dict.fromkeys(numbers))
