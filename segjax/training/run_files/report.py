"""The report of a run: its facts, gathered for `segjax.viz.report`."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import segjax
from segjax import config as config_lib
from segjax.data.dataset import Dataset
from segjax.data.label_spec import LabelSpec
from segjax.output.folder import Outputs
from segjax.training.preflight import RECORDS_READ
from segjax.training.run_files.workdir import LOG
from segjax.training.run_files.writer import read_rows
from segjax.training.sharding import Devices
from segjax.training.task import Report, Task
from segjax.types import IGNORE_LABEL, Record
from segjax.viz.pictures import IGNORE_COLOR
from segjax.viz.report import render_report
from segjax.viz.report_values import ReportContent, Table

REPORT = "report.html"

WITH_PICTURES = 50
"""How many images are shown, the worst."""

IMAGES_AFTER_TRAINING = 20
"""How many images the report at the end of a run measures one by one."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def plan_report(workdir: Path) -> Outputs:
    """Checks that `report.html` can be written into the folder of a run.

    Raises:
      UserError: the folder cannot be written to, or the file there belongs to the user.
    """
    return Outputs(workdir, [(REPORT, "the run")], flag=None)


def write_run_report(
    workdir: Path,
    task: Task,
    variables: Mapping[str, Any],
    dataset: Dataset,
    report: Report,
    step: int,
) -> Path:
    """Writes `report.html` at the end of a run, with some images one by one.

    Args:
      workdir: folder of the run; its log is read.
      task: the experiment.
      variables: collections of the trained model.
      dataset: its data.
      report: of the last evaluation.
      step: of the model.

    Returns:
      The file.

    Raises:
      UserError: as `plan_report` does.
    """
    outputs = plan_report(workdir)
    outputs.make_folder()
    page = report_page(
        workdir,
        task,
        variables,
        dataset,
        report,
        split=task.evaluation.split,
        step=step,
        most_images=IMAGES_AFTER_TRAINING,
    )
    with outputs.file(REPORT) as file:
        file.write(page.encode())
    return workdir / REPORT


def report_page(
    workdir: Path,
    task: Task,
    variables: Mapping[str, Any],
    dataset: Dataset,
    report: Report,
    *,
    split: str,
    step: int,
    tile: int | None = None,
    most_images: int | None = None,
) -> str:
    """Measures images one by one, and renders the report.

    Args:
      workdir: folder of the run; its log is read.
      task: the experiment.
      variables: collections of the model.
      dataset: its data.
      report: of an evaluation.
      split: that was evaluated.
      step: of the model.
      tile: output side of a tile in pixels; None for that of the config.
      most_images: how many images of the split are measured one by one, evenly spread
        over it; None for all.

    Returns:
      HTML.
    """
    count = len(dataset.splits[split])
    places = _spread(count, count if most_images is None else most_images)
    images = task.image_rows(
        variables, dataset, split, places, tile=tile, with_panels=WITH_PICTURES
    )
    which = f"{len(places)} of {count} images of {split}"
    if len(places) < count:
        which += ", evenly spread; `segjax report` measures all"
    counts = getattr(report, "counts", None)
    parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
    content = ReportContent(
        title=f"{workdir.resolve().name}: {task.config.model.name} on {dataset.name}",
        facts={
            "Network": f"{task.config.model.name}, {parameters:,} parameters",
            "Data": dataset.name,
            "Step": f"{step:,} of {task.config.num_steps:,}",
            f"Measured on {split}": _headline(task, report.metrics),
            "Written": datetime.datetime.now(datetime.UTC).strftime(
                "%Y-%m-%d %H:%M UTC"
            ),
        },
        data=data_tables(dataset),
        log=read_rows(workdir / LOG),
        metrics=report.metrics,
        split=split,
        confusion=None if counts is None else (counts, dataset.label_spec.names),
        calibration=getattr(report, "calibration", None),
        images=images.rows,
        legend=_legend(dataset),
        images_note=f"{which}. {images.sorted_by}",
        objects=images.objects,
        config=json.loads(config_lib.to_json(task.config)),
        environment=environment(),
    )
    return render_report(content)


def _headline(task: Task, metrics: Mapping[str, float]) -> str:
    """The metrics that are printed during training."""
    found = [(name, metrics.get(name)) for name in task.headline]
    return ", ".join(
        f"{name} {value:.4f}" for name, value in found if value is not None
    )


def _legend(dataset: Dataset) -> list[tuple[str, Sequence[int]]]:
    """Names and colours of the classes; none where objects have colours of their own."""
    if dataset.instances is not None:
        return []
    spec = dataset.label_spec
    classes = list(zip(spec.names, spec.colors, strict=True))
    return [*classes, ("does not count", IGNORE_COLOR)]


def data_tables(dataset: Dataset) -> tuple[Table, Table]:
    """Tables of the splits and the classes, from up to 64 images of each split."""
    names = dataset.label_spec.names
    rows: list[tuple[str | float, ...]] = []
    header, columns = ["class"], []
    for split, records in dataset.splits.items():
        chosen = (records[i] for i in _spread(len(records), RECORDS_READ))
        sizes, kinds, counts = _read(chosen, dataset.label_spec)
        rows.append((split, len(records), sizes, kinds))
        if counts is not None:
            header.append(split)
            columns.append(counts.tolist())
    first = 1 if dataset.instances else 0  # no object is of the background
    classes: list[tuple[str | float, ...]] = [
        (names[i], *(column[i] for column in columns)) for i in range(first, len(names))
    ]
    what = "Objects" if dataset.instances else "Fraction of the pixels"
    return (
        Table("Splits", ("split", "images", "height x width", "channels, type"), rows),
        Table(
            f"{what}, in up to {RECORDS_READ} images of each split",
            header,
            classes,
            () if dataset.instances else dataset.label_spec.colors,
        ),
    )


def _read(
    records: Iterable[Record], spec: LabelSpec
) -> tuple[str, str, np.ndarray | None]:
    """Reads records, one at a time in memory.

    Returns:
      Their sizes, their channels and types, and of each class the fraction of its pixels or
      the number of its objects; None where nothing is labelled.
    """
    sizes, kinds = set(), set()
    counts = np.zeros(max(spec.num_classes, 256), np.int64)
    is_labelled = of_objects = False
    for record in records:
        height, width, channels = record["image"].shape
        sizes.add((height, width))
        kinds.add(f"{channels} x {record['image'].dtype}")
        found = record.get("label")
        if "classes" in record:
            of_objects = True
            found = record["classes"][~np.asarray(record["crowd"], bool)]
        if found is not None:
            is_labelled = True
            counts += np.bincount(np.ravel(found), minlength=len(counts))
    if not sizes:
        return "-", "-", None
    ends = dict.fromkeys((min(sizes), max(sizes)))
    text = " to ".join(f"{height} x {width}" for height, width in ends)
    described = (text, ", ".join(sorted(kinds)))
    if of_objects or not is_labelled:
        return *described, counts[: spec.num_classes] if is_labelled else None
    whole = counts.sum() - counts[IGNORE_LABEL]
    return *described, spec.class_pixels(counts) / max(int(whole), 1)


def _spread(count: int, most: int) -> list[int]:
    """Places of at most so many records, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def environment() -> dict[str, str]:
    """Versions, devices and command line of this process."""
    devices = Devices.of_this_process()
    return {
        "Command line": shlex.join(sys.orig_argv),
        "segjax": segjax.__version__,
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "System": platform.platform(),
        "Devices": devices.described,
    }
