"""Makes --workdir of the file in --weights that others have trained (--source)."""

from __future__ import annotations

from absl import flags

from segjax.commands.results import print_result
from segjax.commands.shared_flags import (
    Flags,
    define_overwrite,
    define_workdir,
    required,
    workdir_of,
)

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
        "The file of weights, ending in .safetensors, .npz, .tflite or .pth.",
        flag_values=values,
    )
    define_workdir(values)
    define_overwrite(values)


def run(values: Flags) -> None:
    """Imports, and prints JSON."""
    from segjax.runs.imported import import_weights

    source = required(values, "source", "such as torchvision/deeplabv3_resnet50")
    file = required(
        values, "weights", "a file ending in .safetensors, .npz, .tflite or .pth"
    )
    workdir, overwrite = workdir_of(values), values.overwrite
    print_result(import_weights(source, file, workdir, overwrite=overwrite))
