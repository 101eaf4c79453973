"""Losses that leave their range, and the checkpoint from before that."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.training.leaves import local_values, path_name, whole_value

FACTOR = 3.0
"""How far above the median of all losses before it a loss may be.

The median of a run that learns lies far above its newest losses, so the noise of single
batches stays below three times that; where it does not, an earlier checkpoint is named,
which costs steps and nothing else. A loss that grows by a half from line to line, which is
slow for one that ends in infinity, is out of this range within six lines.
"""


class LossRange:
    """The losses of a run so far, and the range in which the next is expected.

    Example:
      >>> losses = LossRange([0.75, 0.5, 0.25])
      >>> losses.add(0.9)
      {'mean': 0.9, 'limit': 1.5}
      >>> is_in_range(losses.add(40.0)), is_in_range(losses.add(0.4))
      (False, True)
    """

    def __init__(self, losses: Iterable[float] = ()):
        self._losses = list(losses)

    @classmethod
    def of_log(cls, rows: Iterable[Mapping[str, Any]], last_step: int) -> LossRange:
        """Takes them from the rows of a log, up to a step."""
        return cls(
            row["loss"]
            for row in rows
            if row["split"] == "train"
            and row["step"] <= last_step
            and isinstance(row.get("loss"), int | float)
        )

    def add(self, loss: float) -> dict[str, float]:
        """Notes the mean loss since the line of the log before.

        Returns:
          The loss, and the most that it could be within the range of those before it;
          JSON, kept beside a checkpoint.
        """
        limit = FACTOR * statistics.median(self._losses or [loss])
        self._losses.append(loss)
        return {"mean": loss, "limit": limit}


def is_in_range(loss: Mapping[str, float] | None) -> bool:
    """Whether a loss is known and was in the range of those before it."""
    return loss is not None and loss["mean"] <= loss["limit"]


def all_finite(tree: Any) -> bool:
    """Whether every number of a state is finite, of the parts that this process has.

    All cores look at them, as a run waits for it.
    """
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    finite = lambda x: all(bool(np.isfinite(part).all()) for part in local_values(x))
    with ThreadPoolExecutor() as threads:
        return all(threads.map(finite, leaves))


def not_finite(tree: Any) -> Iterator[str]:
    """Names the arrays of a state that hold NaN or infinite values, as "params/conv/bias"."""
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        is_inexact = jnp.issubdtype(x.dtype, jnp.inexact)
        if is_inexact and not np.isfinite(whole_value(x)).all():
            yield path_name(path)


def sentence(
    step: int, metrics: Mapping[str, float], names: Sequence[str], good: Path | None
) -> str:
    """Says that a run ends at numbers that are not finite, and what to do.

    Args:
      step: the step.
      metrics: what was measured in it.
      names: the records that it saw.
      good: folder of the newest checkpoint from before, if there is one.

    Returns:
      A few sentences.
    """
    values = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
    is_loss = not all(math.isfinite(value) for value in metrics.values())
    what = "Step {} is" if is_loss else "The parameters after step {} are"
    begin = (
        "No checkpoint is from before the loss left its range, so begin anew."
        if good is None
        else f"The new run can begin with the checkpoint of step {good.name}, from before "
        "the loss left its range: in its config, set config.initialization = "
        f'dict(source="segjax/run", input="{good}").'
    )
    return (
        f"{what.format(step)} not finite ({values}), on the records {', '.join(names)}. "
        "Look at these images, and train in another --workdir with a lower "
        "config.schedule.learning_rate, or with config.optimizer.clip_norm; resumed, this run ends "
        f"here again. {begin}"
    )
