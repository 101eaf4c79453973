"""The kinds of experiments, and the choice between them: `config.task`."""

from __future__ import annotations

import importlib

import ml_collections

from segjax.errors import UserError, shown, suggestion
from segjax.training.task import Task

TASKS = {
    "semantic": "segjax.tasks.semantic.task:SemanticTask",
    "instance": "segjax.tasks.instance.task:InstanceTask",
}
"""By the value of `config.task`; "semantic" where there is no such key. What is not used is
not imported."""


def make_task(config: ml_collections.ConfigDict) -> Task:
    """Builds an experiment from its config.

    Raises:
      UserError: naming the key that is wrong, its value, and what is allowed.
    """
    name = str(config.task) if "task" in config else "semantic"
    if name not in TASKS:
        raise UserError(
            f"config.task is {shown(name)}, which segjax does not know."
            f"{suggestion(name, TASKS)}"
        )
    module, _, made_by = TASKS[name].partition(":")
    made = getattr(importlib.import_module(module), made_by)
    try:
        return made(config)
    except (TypeError, ValueError, OverflowError) as error:
        # Of values that no check foresaw, such as a network of 300 levels.
        reason = str(error).rstrip(".")
        raise UserError(f"The config cannot be built: {reason}.") from error
