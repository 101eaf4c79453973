"""Labels the images of --input into --output with a checkpoint of --workdir."""

from __future__ import annotations

from absl import flags

from segjax import ending
from segjax.commands.process_flags import define_processes
from segjax.commands.shared_flags import (
    Flags,
    WordsParser,
    checkpoint_of,
    define_allow_code,
    define_checkpoint,
    define_crf,
    define_ensemble,
    define_model,
    define_overwrite,
    define_pages,
    define_tile,
    define_workdir,
    pages_of,
    required,
    run_of,
)

THINGS = ("workdir",)
MORE = "ensemble"
REMOTE = ("workdir", "model", "ensemble", "input", "output")


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
    flags.DEFINE_integer(
        "tiles_per_device",
        None,
        "Tiles at a time for each device; default: one.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "devices_per_image",
        1,
        "Devices that share the rows of each image, or tile, where one has too little memory.",
        lower_bound=1,
        flag_values=values,
    )
    define_pages(values, "Predicts")
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
    flags.DEFINE(
        WordsParser(["imagej", "geojson"]),
        "outlines",
        None,
        "With --instances: writes outlines, too, for ImageJ's ROI manager (imagej), QuPath "
        "(geojson), or both (imagej,geojson).",
        flag_values=values,
    )
    define_crf(values)
    define_ensemble(values)
    define_allow_code(values)
    define_processes(values)


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
        tiles_per_device=values.tiles_per_device,
        devices_per_image=values.devices_per_image,
        channels=values.channels,
        pages=pages_of(values),
        downscale=values.downscale,
        rescale=values.rescale,
        probabilities=values.probabilities,
        overlay=values.overlay,
        crf=values.crf,
        instances=values.instances,
        link=values.link,
        outlines=values.outlines or (),
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
    kinds += [f"file{many} of outlines ({x})" for x in values.outlines or ()]
    ending.say(f"Wrote {', '.join(f'{len(files)} {x}' for x in kinds)} to {output}")
    if values.instances:
        ending.say(f"The objects are listed in {output}/objects.csv")
