"""Makes --workdir of weights that others have trained (--source): a file, or --download."""

from __future__ import annotations

from typing import Literal

from absl import flags

from segjax.commands.results import print_result
from segjax.commands.shared_flags import (
    Flags,
    define_overwrite,
    define_workdir,
    height_and_width,
    required,
    workdir_of,
)
from segjax.errors import UserError

THINGS = ("source", "weights", "workdir")


def define(values: Flags) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "source",
        None,
        "Whose weights, such as torchvision/deeplabv3_resnet50.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "weights",
        None,
        "The file of weights, ending in .safetensors, .npz, .tflite, .pth or .bin, or the folder "
        "that segmentation_models.pytorch or Hugging Face saves.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "input_size",
        None,
        "Squeezes images to this height and width for prediction, such as 513,513; 0 leaves "
        "them as they are; default: as the file of weights says.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "download",
        False,
        "Fetches the published file of the source, and keeps it for the next time.",
        flag_values=values,
    )
    define_workdir(values)
    define_overwrite(values)


def run(values: Flags) -> None:
    """Imports, and prints JSON."""
    from segjax.runs.imported import import_weights

    source = required(values, "source", "such as torchvision/deeplabv3_resnet50")
    file = values.weights
    if not values.download:
        what = (
            "a file ending in .safetensors, .npz, .tflite or .pth; or give --download"
        )
        file = required(values, "weights", what)
    found = import_weights(
        source,
        file,
        workdir_of(values),
        download=values.download,
        input_size=_size(values.input_size),
        overwrite=values.overwrite,
    )
    print_result(found)


def _size(given: list[str] | None) -> tuple[int, int] | Literal["file"] | None:
    """Reads height and width; None for images as they are."""
    if given is None:
        return "file"
    if given == ["0"]:
        return None
    if (size := height_and_width(given)) is not None:
        return size
    raise UserError(
        f"--input_size={','.join(given)} is neither a height and a width in pixels, such as "
        "513,513, nor 0, which leaves images as they are."
    )
