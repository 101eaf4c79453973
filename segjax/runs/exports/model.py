"""Exporting a run: one file that others can predict with, evaluate and train on from."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections

import segjax
from segjax.data import UNLABELED
from segjax.data.files.calibration import size_in_words
from segjax.errors import UserError
from segjax.output.folder import Outputs
from segjax.pretrained.archive import SUFFIX
from segjax.pretrained.files import file_sha256
from segjax.runs.load import TrainedModel, load_trained
from segjax.runs.model_file import (
    find_model_file,
    shipped_parameters,
    write_model_file,
)
from segjax.runs.run_config import OF_ONE_RUN, without
from segjax.runs.run_weights import RUN
from segjax.training.about import LICENCE
from segjax.training.loop import INITIALIZATION

log = logging.getLogger("segjax")

OF_THE_RUN = ("about_sha256", "config", "loss", "records", "state_sha256")
"""Facts beside a checkpoint that mean nothing without the run."""

OF_A_MODEL = ("    segjax predict MODEL.segjax --input=FILES --output=FOLDER",)
"""How a model file is used, for its card."""


def export_run(
    workdir: str | Path,
    output: str | Path,
    *,
    best: bool = True,
    step: int | None = None,
    description: str = "",
    overwrite: bool = False,
    allow_code: Collection[str] = (),
) -> dict[str, Any]:
    """Writes a checkpoint of a run as one file.

    It holds the weights, the config, the classes, what predicting needs to know about the
    training images, the metrics of the evaluation at that step, a card for people, and
    digests. It names no folder of the machine that it was trained on.

    Args:
      workdir: the folder of the run.
      output: the file, ending in .segjax.
      best: whether the best checkpoint is written instead of the newest.
      step: the step of the checkpoint, if neither of those.
      description: what the card says first, for instance what the images show.
      overwrite: whether a file of the user is replaced.
      allow_code: packages whose code may be imported where the config of the run names it.

    Returns:
      `file`, `bytes` and `sha256` of it, `step`, `parameters`, `parameters_sha256` and
      `metrics`.

    Raises:
      UserError: for anything that the user can put right; nothing was written then.
    """
    workdir, output = Path(workdir), Path(output).expanduser()
    if output.suffix != SUFFIX:
        raise UserError(
            f"--output={output} does not end in {SUFFIX}, as model files do: give, for "
            f"example, {suggested(output, SUFFIX)}."
        )
    if (given := find_model_file(workdir)) is not None:
        raise UserError(f"{given} is a model file already: copy it.")
    trained = load_trained(workdir, best=best, step=step, allow_code=allow_code).single(
        "export"
    )
    config = portable_config(trained.task.config)
    outputs = Outputs(
        output.parent, [(output.name, workdir)], inputs=[workdir], overwrite=overwrite
    )
    outputs.make_folder()
    about = portable(trained.about)
    with outputs.file(output.name) as file:
        text = card(trained, config, about, description)
        write_model_file(file, config, trained.variables, about, text)
    log.info("Predict with it: segjax predict %s --input=FILES --output=FOLDER", output)
    return {
        "file": str(output),
        "bytes": output.stat().st_size,
        "sha256": file_sha256(output),
        "step": trained.step,
        "parameters": _parameters(trained),
        "parameters_sha256": trained.parameters_sha256,
        "metrics": about.get("metrics"),
    }


def suggested(output: Path, suffix: str) -> Path:
    """A file to write, where the one that is asked for has another suffix."""
    if not output.name:
        return output / f"model{suffix}"
    return output.with_suffix("").with_suffix(suffix)


def portable_config(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A config without what is not elsewhere, and without the step that reads such images."""
    config = without(config, *OF_ONE_RUN)
    if config.data.get(UNLABELED) is not None:
        del config.data[UNLABELED]
        del config.step
    return config


def portable(about: Mapping[str, Any]) -> dict[str, Any]:
    """The facts beside a checkpoint that mean something elsewhere, without paths."""
    kept = {key: value for key, value in about.items() if key not in OF_THE_RUN}
    records = about.get("records") or {}
    if records or "images" not in kept:  # a model file knows how many, not which
        kept["images"] = {split: facts["count"] for split, facts in records.items()}
    if INITIALIZATION in kept:
        kept[INITIALIZATION] = {
            key: value for key, value in kept[INITIALIZATION].items() if key != "input"
        }
    return kept


def _parameters(trained: TrainedModel) -> int:
    return sum(x.size for x in jax.tree.leaves(trained.variables["params"]))


def card(
    trained: TrainedModel,
    config: ml_collections.ConfigDict,
    about: Mapping[str, Any],
    description: str,
    use: Sequence[str] = OF_A_MODEL,
) -> str:
    """Writes for people what a model is, in Markdown.

    Args:
      trained: the model.
      config: its experiment.
      about: the facts that go with it.
      description: the user's own words, or none.
      use: lines on how it is used.

    Returns:
      The text.
    """
    task = trained.task
    images = ", ".join(
        f"{count} in {split}" for split, count in about["images"].items()
    )
    depth = "" if trained.max_intensity is None else f", up to {trained.max_intensity}"
    many = "s" if trained.channels > 1 else ""
    size = trained.pixel_size
    pixels = f", pixels of {size_in_words(size)}" if size else ""
    begun = about.get(INITIALIZATION) or {}
    fold = config.get("fold")
    part = f", fold_{fold.index} of {fold.count} folds" if fold else ""
    facts = {
        "network": f"{config.model.name}, {_parameters(trained):,} parameters; {task.answers}",
        "classes": ", ".join(trained.label_spec.names),
        "images": f"{trained.channels} channel{many}{depth}{pixels}",
        "trained on": f"data set {config.data.name}{part}, images: {images or 'unknown'}",
        "begun with": _parent(begun),
        "licence of what it began with": begun.get(LICENCE, ""),
        "training": f"{trained.step} of {config.num_steps} steps, batches of {config.batch_size}",
        "parameters (SHA-256)": trained.parameters_sha256,
        "written by": f"segjax {segjax.__version__}",
    }
    lines = ["# A model of segjax", ""]
    lines += [description.strip(), ""] if description.strip() else []
    lines += _table("", "", {name: text for name, text in facts.items() if text})
    metrics = about.get("metrics")
    if metrics:
        lines += [f"## Measured on the split {task.evaluation.split}", ""]
        figures = {
            name: "undefined" if value is None else f"{value:.4f}"
            for name, value in metrics.items()
        }
        lines += _table("metric", "value", figures)
    lines += [
        "## Use",
        "",
        *use,
        "",
        "`sha256sum --check SHA256SUMS` compares the unpacked members with their digests.",
        "",
    ]
    return "\n".join(lines)


def _parent(initialization: Mapping[str, Any]) -> str:
    """Says with which weights the training began; nothing where they were random."""
    if not initialization:
        return ""
    source, digest = initialization["source"], initialization.get("sha256")
    if source != RUN:
        return f"weights of {source}" + (f", file (SHA-256) {digest}" if digest else "")
    names = (name for name, own in shipped_parameters().items() if own == digest)
    which = next((f"the model {name} of segjax" for name in names), "another model")
    return which + (f", parameters (SHA-256) {digest}" if digest else "")


def _table(left: str, right: str, rows: Mapping[str, str]) -> list[str]:
    cells = [f"| {name} | {text} |".replace("\n", " ") for name, text in rows.items()]
    return [f"| {left} | {right} |", "| --- | --- |", *cells, ""]
