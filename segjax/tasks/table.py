"""The kinds of experiments, and the choice between them: `config.task`."""

from __future__ import annotations

import ml_collections

from segjax.errors import shown, suggestion
from segjax.tasks.instance.task import InstanceTask
from segjax.tasks.semantic.task import SemanticTask
from segjax.types import UserError

Task = SemanticTask | InstanceTask

TASKS: dict[str, type[SemanticTask] | type[InstanceTask]] = {
    "semantic": SemanticTask,
    "instance": InstanceTask,
}
"""By the value of `config.task`; "semantic" where there is no such key."""


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
    try:
        return TASKS[name](config)
    except (TypeError, ValueError, OverflowError) as error:
        # Of values that no check foresaw, such as a network of 300 levels.
        reason = str(error).rstrip(".")
        raise UserError(f"The config cannot be built: {reason}.") from error


def semantic(task: Task, what: str) -> SemanticTask:
    """The task, where something is for labels of pixels alone.

    Args:
      task: an experiment.
      what: what is for them, as "--crf".

    Returns:
      The same task.

    Raises:
      UserError: if it is an experiment with objects.
    """
    if isinstance(task, SemanticTask):
        return task
    raise UserError(
        f"{what} is for networks that label pixels, but this run finds objects "
        f"({task.config.model.name})."
    )
