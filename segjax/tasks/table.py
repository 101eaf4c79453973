"""The kinds of experiments, and the choice between them: `config.task`."""

from __future__ import annotations

import ml_collections

from segjax import parts
from segjax.errors import UserError
from segjax.training.task import Task

TASKS = {
    "semantic": "segjax.tasks.semantic.task:SemanticTask",
    "instance": "segjax.tasks.instance.task:InstanceTask",
}
"""By the value of `config.task`; "semantic" where there is no such key. What is not used is
not imported."""


_EVALUATIONS = {
    "semantic": "segjax.tasks.semantic.evaluate:Evaluation",
    "instance": "segjax.tasks.instance.evaluate:InstanceEvaluation",
}
"""The settings of evaluation of each, with their defaults."""


def default_metric(config: ml_collections.ConfigDict) -> str:
    """The metric that marks the best checkpoint of an experiment; nothing is built."""
    name = task_name(config)
    if name in _EVALUATIONS:
        settings = parts.load(_EVALUATIONS[name], "config.evaluation")
        return parts.argument(settings, config.evaluation, "best_metric")
    if "best_metric" in config.evaluation:
        return config.evaluation.best_metric
    return make_task(config, training=False).evaluation.best_metric


def task_name(config: ml_collections.ConfigDict) -> str:
    """The kind of an experiment, "semantic" where its config states none."""
    return config.task if "task" in config else "semantic"


def make_task(config: ml_collections.ConfigDict, *, training: bool = True) -> Task:
    """Builds an experiment from its config.

    Args:
      config: the experiment.
      training: whether it will be trained. Otherwise the parts that training alone needs
        are neither built nor imported: loss, optimizer, schedule, augmentations.

    Returns:
      The task.

    Raises:
      UserError: naming the key that is wrong, its value, and what is allowed.
    """
    found = parts.find(TASKS, task_name(config), "config.task")
    made = parts.load(found, "config.task") if isinstance(found, str) else found
    try:
        return made(config, training=training)
    except (TypeError, ValueError, OverflowError) as error:
        # Of values that no check foresaw, such as a network of 300 levels.
        reason = str(error).rstrip(".")
        raise UserError(f"The config cannot be built: {reason}.") from error
