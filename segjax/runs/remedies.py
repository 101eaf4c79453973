"""Remedies where a machine or its accelerator does not have enough memory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import ml_collections

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.runs.model_file import config_of
from segjax.tasks.table import make_task
from segjax.training import sharding
from segjax.training.layout import layout_of


def for_training(config: ml_collections.ConfigDict) -> str:
    """Names the keys of a config that reduce the memory of a training step.

    Example:
      >>> for_training(ml_collections.ConfigDict({
      ...     "batch_size": 16, "model": {"dtype": "float32"}, "pipeline": {}}))
      'Train in another --workdir with --config.batch_size=8 or --config.model.dtype=bfloat16.'
    """
    half = config.batch_size // 2
    half -= half % max(sharding.device_count() // layout_of(config).rows, 1)
    ways = [f"--config.batch_size={half}"] if half else []
    if config.model.get("dtype") == "float32":
        ways.append("--config.model.dtype=bfloat16")
    if "input_size" in config.pipeline:
        ways.append("a smaller --config.pipeline.input_size")
    if "evaluation" in config and config.evaluation.get("loss", "task" not in config):
        ways.append("--config.evaluation.loss=False")
    if not ways:
        return "Train on a machine with more of it."
    first, last = ", ".join(ways[:-1]), ways[-1]
    return f"Train in another --workdir with {first}{' or ' if first else ''}{last}."


def for_images(
    run: str | Path, verb: str, tile: int | None, allow_code: Collection[str] = ()
) -> str:
    """Names the flags that reduce how much is evaluated or predicted at once.

    Args:
      run: the folder of the run, or a model file.
      verb: such as "predict".
      tile: side of the tiles that were too large; None where one was chosen.
      allow_code: packages whose code may be imported where the config of the run names it.

    Returns:
      A sentence.
    """
    try:
        config = config_lib.with_leave(config_of(run), allow_code)
        task = make_task(config, training=False)
    except UserError:
        return "Free some, or use a machine with more of it."
    ways = task.flags_that_save_memory(verb, tile)
    if not ways:
        return "Free some, or use a machine with more of it."
    return f"Call again with {' or '.join(ways)}."
