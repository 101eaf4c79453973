"""Optimizers that are evaluated at other parameters than they take gradients at.

Schedule-free ones (Defazio et al. 2024, "The Road Less Scheduled", arXiv 2405.15682) take their
gradients at `y`, between a fast sequence `z` and its average `x`; the network is meant to be used
at `x`, which Optax keeps as `y` and `z` (`optax.contrib.schedule_free_eval_params`).

SAM (Foret et al. 2021, arXiv 2010.01412) takes gradients where the loss is worse, too, some steps
from the parameters that it improves; Optax keeps those in its `cache` meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.training.leaves import is_traced, path_name, placed_like, whole_value

FIELDS = (
    *("b1", "weight_sum", "step_count", "max_lr"),
    *("base_optimizer_state", "z"),
)
"""Of Optax's `ScheduleFreeState`, by which it is known, also as a checkpoint's nested dicts."""

SAM_FIELDS = ("steps_since_sync", "opt_state", "adv_state", "cache")
"""Of Optax's `SAMState`."""


def is_schedule_free(opt_state: Any) -> bool:
    """Whether a part of an optimizer's state is that of a schedule-free one."""
    return bool(_states(opt_state, FIELDS, FIELDS))


def evaluated_params(opt_state: Any, params: Any) -> Any:
    """The parameters at which a network is evaluated; traceable.

    Outside a trace NumPy computes them: their bits are hashed, on whatever device they are, and
    XLA divides by a number in another way.

    Args:
      opt_state: the optimizer's state, however deep such ones lie in it, in chains,
        masks, groups or accumulation; or the same as nested dicts and lists, as a checkpoint
        gives it where the optimizer is not known.
      params: those at which it takes gradients.

    Returns:
      For parameters that a schedule-free optimizer moves, `x`; for those of SAM the ones that
      it improves; all others as they are.

    Example:
      >>> import optax.contrib
      >>> optimizer = optax.contrib.schedule_free_sgd(0.5, b1=0.5)
      >>> params = {"bias": jax.numpy.ones(1)}
      >>> updates, state = optimizer.update(params, optimizer.init(params), params)
      >>> evaluated_params(state, optax.apply_updates(params, updates))["bias"].tolist()
      [0.5]
    """
    for state in _states(opt_state, SAM_FIELDS, SAM_FIELDS, FIELDS):
        steps = _field(state, "steps_since_sync")
        params = _changed(params, _field(state, "cache"), _improved, steps)
    for state in _states(opt_state, FIELDS, FIELDS):
        params = _changed(params, _field(state, "z"), _average, _field(state, "b1"))
    return params


def _average(y: Any, z: Any, b1: Any) -> Any:
    """`x`, such that `y = (1 - b1) z + b1 x`; `z` to the bit where `y` is `z`."""
    return (z + (y - z) / b1).astype(y.dtype)


def _improved(adversarial: Any, kept: Any, steps: Any) -> Any:
    """What SAM keeps, if there were steps since it improved them."""
    where = jnp.where if is_traced(adversarial, kept, steps) else np.where
    return where(steps == 0, adversarial, kept)


def _changed(params: Any, others: Any, function: Callable[..., Any], value: Any) -> Any:
    """Applies a function to each parameter, the one of that name in `others`, and a value."""
    found = {path_name(path): leaf for path, leaf in _leaves(others)}

    def change(path: Any, x: Any) -> Any:
        if (other := found.get(path_name(path))) is None:
            return x
        if is_traced(x, other, value):
            return function(x, other, value)
        with np.errstate(all="ignore"):  # a run that diverged is told so elsewhere
            return placed_like(function(*map(whole_value, (x, other, value))), x)

    return jax.tree_util.tree_map_with_path(change, params)


def _states(
    opt_state: Any, fields: tuple[str, ...], *ends: tuple[str, ...]
) -> list[Any]:
    """The states with these fields, but those that lie within one of `ends`."""
    is_end = lambda node: any(_has(node, end) for end in ends)
    leaves = jax.tree.leaves(opt_state, is_leaf=is_end)
    return [leaf for leaf in leaves if _has(leaf, fields)]


def _has(node: Any, fields: tuple[str, ...]) -> bool:
    if isinstance(node, Mapping):
        return node.keys() == set(fields)
    return getattr(node, "_fields", None) == fields


def _field(state: Any, name: str) -> Any:
    return state[name] if isinstance(state, Mapping) else getattr(state, name)


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)
