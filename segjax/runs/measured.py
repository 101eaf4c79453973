"""Figures of finished runs, for comparing them: those of the log, and those of single images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.metrics import without_nan
from segjax.output.files import whole_file
from segjax.runs.load import load_trained
from segjax.text_files import parse_json, read_bytes
from segjax.training.about import about_run, check_data
from segjax.training.checkpoints.checkpoint_files import abouts_on_disk
from segjax.training.run_files.workdir import LOG, read_config, writing
from segjax.training.run_files.writer import read_rows

PER_IMAGE = "per_image"
"""The folder in that of a run which holds `SPLIT.json` for each split."""

SETTINGS = ("evaluation", "calibration", "objects")
"""Groups of the config that say how a network is measured."""

_STEP = ("step", "split")


@dataclasses.dataclass(frozen=True)
class MeasuredRun:
    """What is known of a run without loading its network.

    Attributes:
      workdir: its folder.
      config: the experiment.
      about: JSON beside its newest checkpoint.
      split: what was measured.
      step: of the network that was measured.
      metrics: by name; NaN where one is undefined.
      images: figures of single images by their names; empty where they were not measured.
    """

    workdir: Path
    config: ml_collections.ConfigDict
    about: Mapping[str, Any]
    split: str
    step: int
    metrics: Mapping[str, float]
    images: Mapping[str, Mapping[str, float]]


def last_evaluation(workdir: Path, split: str | None = None) -> dict[str, Any]:
    """The last evaluation that the log of a run reports.

    Args:
      workdir: folder of the run.
      split: of the evaluation; None for that which is evaluated during training.

    Returns:
      `step`, `split` and the metrics, NaN where one is undefined; empty where there is none.
    """
    rows = read_rows(workdir / LOG)
    found = [
        row
        for row in rows
        if (row["split"] != "train" if split is None else row["split"] == split)
    ]
    if not found:
        return {}
    return {k: math.nan if v is None else v for k, v in found[-1].items()}


def read_run(workdir: Path, split: str | None = None) -> MeasuredRun:
    """Reads config, log and figures of a run.

    Args:
      workdir: its folder.
      split: what is asked for; None for that which is evaluated during training.

    Returns:
      What is known of it.

    Raises:
      UserError: if it is not a run, has no checkpoint, or that split was not measured.
    """
    config = read_config(workdir)
    about = next(abouts_on_disk(workdir), None)
    if about is None:
        raise UserError(f"{workdir} has no checkpoint yet: train it first.")
    logged = last_evaluation(workdir, split)
    split = logged.get("split", split)
    if split is None:
        raise UserError(f"{workdir} was not evaluated yet: train it to the end first.")
    kept = read_images(workdir, split, hashes_of(config, about["parameters_sha256"]))
    metrics = kept.get("metrics") or {k: v for k, v in logged.items() if k not in _STEP}
    if not metrics:
        raise UserError(
            f'{workdir} was not measured on the split "{split}": add --images, which measures '
            "it image by image."
        )
    step = kept["step"] if kept else logged["step"]
    images = {row["name"]: row["metrics"] for row in kept.get("images", ())}
    return MeasuredRun(workdir, config, about, split, step, metrics, images)


def hashes_of(
    config: ml_collections.ConfigDict, parameters_sha256: str
) -> dict[str, str]:
    """What figures of images depend on: the network, and how it is measured.

    Args:
      config: of the run; of it `SETTINGS` count.
      parameters_sha256: of the network.

    Returns:
      `parameters_sha256` and `settings_sha256`.
    """
    groups = {key: config[key] for key in SETTINGS if key in config}
    settings = config_lib.to_json(ml_collections.ConfigDict(groups))
    digest = hashlib.sha256(settings.encode()).hexdigest()
    return {"parameters_sha256": parameters_sha256, "settings_sha256": digest}


def read_images(workdir: Path, split: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Reads what `measure_images` wrote.

    Args:
      workdir: folder of the run.
      split: of the images.
      hashes: those of `hashes_of`; figures of other ones do not count.

    Returns:
      Its content, with NaN where a metric is undefined; empty where there is none.

    Raises:
      UserError: if the file is damaged.
    """
    path = workdir / PER_IMAGE / f"{split}.json"
    if not path.exists():
        return {}
    found = parse_json(read_bytes(path), path)
    try:
        kept = {"settings_sha256": None, **found}
        if any(kept[name] != digest for name, digest in hashes.items()):
            return {}
        metrics = _with_nan(found["metrics"])
        images = [
            {"name": row["name"], "metrics": _with_nan(row["metrics"])}
            for row in found["images"]
        ]
        return {"step": int(found["step"]), "metrics": metrics, "images": images}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} does not hold figures of images: remove it, and add --images."
        ) from error


def measure_images(
    workdir: Path,
    split: str | None,
    *,
    cache_dir: str | None = None,
    data_root: str | None = None,
    allow_code: Collection[str] = (),
) -> None:
    """Measures the newest checkpoint of a run image by image, unless that was done.

    The figures are kept in the folder of the run, as `per_image/SPLIT.json`.

    Args:
      workdir: its folder.
      split: of the images; None for that which is evaluated during training.
      cache_dir: where prepared data sets lie.
      data_root: where the user's own files lie.
      allow_code: packages whose code may be imported where the config of the run names it.

    Raises:
      UserError: if the run cannot be loaded, its data are missing or have changed, or the
        folder cannot be written.
    """
    about, config = next(abouts_on_disk(workdir), None), read_config(workdir)
    asked = split or last_evaluation(workdir).get("split")
    if about and asked:
        hashes = hashes_of(config, about["parameters_sha256"])
        if read_images(workdir, asked, hashes):
            return
    trained = load_trained(workdir, allow_code=allow_code).single("compare")
    task, variables = trained.task, trained.variables
    dataset = task.open_dataset(cache_dir, data_root)
    split = task.evaluation.split if split is None else split
    records = task.records(dataset, split)
    check_data(trained.about, about_run(task.config, dataset), [split])
    if "per_image" in task.capabilities:
        table = task.per_image(dataset, split)
        report = task.evaluate(variables, dataset, split, per_image=table)
        rows = [(str(row.pop("name")), row) for row in map(dict, table.rows())]
    else:
        report = task.evaluate(variables, dataset, split)
        places = range(len(records))
        found = task.image_rows(variables, dataset, split, places, with_panels=0)
        rows = [(row.name, dict(row.metrics)) for row in found.rows]
    kept = {
        "step": trained.step,
        "split": split,
        **hashes_of(config, trained.parameters_sha256),
        "metrics": without_nan(report.metrics),
        "images": [{"name": name, "metrics": without_nan(row)} for name, row in rows],
    }
    with writing(workdir):
        (workdir / PER_IMAGE).mkdir(exist_ok=True)
        with whole_file(workdir / PER_IMAGE / f"{split}.json") as file:
            file.write((json.dumps(kept, indent=1) + "\n").encode())


def _with_nan(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {k: math.nan if v is None else float(v) for k, v in metrics.items()}
