"""The description of an experiment's network, without training it."""

from __future__ import annotations

from typing import Any

import ml_collections

from segjax.data import channels_of
from segjax.inspect.summary import describe
from segjax.tasks.table import make_task


def summarize(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Describes the network of an experiment; nothing is compiled, no data is read.

    Args:
      config: the experiment.

    Returns:
      JSON: `model`, its name, and the result of `describe` on one crop.
    """
    task = make_task(config)
    size = (*task.input_size, channels_of(config.data))
    return {"model": config.model.name, **describe(task.model, size)}
