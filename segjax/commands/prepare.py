"""Builds the data set of --config ahead of time, and writes it as images on demand."""

from __future__ import annotations

from absl import flags

from segjax import ending
from segjax.commands.shared_flags import (
    Flags,
    config_of,
    define_config,
    define_data,
    define_overwrite,
    define_split,
    path_of,
    required,
)

THINGS = ("config",)


def define(values: Flags) -> None:
    """Defines the flags."""
    define_config(values)
    define_data(values)
    flags.DEFINE_string(
        "write_images",
        None,
        "A folder; writes images/ and labels/ of a split there.",
        flag_values=values,
    )
    define_split(values, "train")
    define_overwrite(values)


def run(values: Flags) -> None:
    """Prepares, describes, and exports."""
    from segjax.tasks.table import make_task
    from segjax.training.preflight import describe_dataset

    task = make_task(config_of(values))
    source, folder = path_of(values, "data_root"), None
    if values.write_images is not None:
        folder = required(values, "write_images", "the folder to write to")
    dataset = task.open_dataset(path_of(values, "cache_dir"), source)
    ending.say(describe_dataset(dataset))
    if folder:
        split, overwrite = values.split or "train", values.overwrite
        files = task.export(dataset, split, folder, source=source, overwrite=overwrite)
        ending.say(f"Exported   {len(files)} images of {split} to {folder}")
