"""Measures a checkpoint of --workdir on a split; the last line is JSON."""

from __future__ import annotations

from absl import flags

from segjax import ending
from segjax.commands.process_flags import define_processes
from segjax.commands.results import metric_lines, print_result
from segjax.commands.shared_flags import (
    Flags,
    checkpoint_of,
    define_allow_code,
    define_checkpoint,
    define_crf,
    define_data,
    define_ensemble,
    define_measure,
    define_model,
    define_overwrite,
    define_pages,
    define_split,
    define_tile,
    define_workdir,
    pages_of,
    path_of,
    run_of,
)

THINGS = ("workdir",)
MORE = "ensemble"
REMOTE = ("workdir", "model", "ensemble", "input", "output", "data_root")


def define(values: Flags) -> None:
    """Defines the flags."""
    define_workdir(values)
    define_model(values)
    define_data(values)
    flags.DEFINE_string(
        "input",
        None,
        "A labelled folder, all images of which are measured instead of a split.",
        flag_values=values,
    )
    define_pages(values, "Measures")
    flags.DEFINE_string(
        "data",
        None,
        "Another data set than that of the run: its name, such as camvid, or a config that "
        "names it, such as configs/unet_camvid.py.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "A folder for per_image.csv, the worst image first, and pictures of the worst.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "save_predictions",
        False,
        "With --output: writes what is predicted of each image, too, into predictions/.",
        flag_values=values,
    )
    define_overwrite(values)
    define_split(values, "the one that is evaluated during training")
    define_checkpoint(values)
    flags.DEFINE_bool(
        "baseline",
        None,
        "Measures what needs no network, too: Otsu's threshold, a watershed, or the "
        "commonest class at each place; default: for cells in grey images.",
        flag_values=values,
    )
    define_measure(values)
    define_tile(values)
    define_crf(values)
    define_ensemble(values)
    define_allow_code(values)
    define_processes(values)


def run(values: Flags) -> None:
    """Measures, and prints a table and JSON."""
    from segjax.runs.evaluate import evaluate_run

    result = evaluate_run(
        run_of(values),
        split=values.split,
        input=path_of(values, "input"),
        channels=values.channels,
        pages=pages_of(values),
        data=path_of(values, "data"),
        output=path_of(values, "output"),
        save_predictions=values.save_predictions,
        overwrite=values.overwrite,
        **checkpoint_of(values),
        measure=values.measure,
        tile=values.tile,
        baseline=values.baseline,
        crf=values.crf,
        allow_code=values.allow_code,
        ensemble=values.ensemble,
        cache_dir=path_of(values, "cache_dir"),
        data_root=path_of(values, "data_root"),
    )
    for line in metric_lines(result):
        ending.say(line)
    print_result(result)
