"""Schedule-free optimizers: the parameters at which they are evaluated.

Defazio et al. 2024, "The Road Less Scheduled", arXiv 2405.15682. Training takes its gradients at
`y`, between a fast sequence `z` and its average `x`; the network is meant to be used at `x`, which
Optax keeps as `y` and `z` (`optax.contrib.schedule_free_eval_params`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

FIELDS = (
    *("b1", "weight_sum", "step_count", "max_lr"),
    *("base_optimizer_state", "z"),
)
"""Of Optax's `ScheduleFreeState`, by which it is known, also as a checkpoint's nested dicts."""


def is_schedule_free(opt_state: Any) -> bool:
    """Whether a part of an optimizer's state is that of a schedule-free one."""
    return bool(_states(opt_state))


def evaluated_params(opt_state: Any, params: Any) -> Any:
    """The parameters at which a network is evaluated.

    Args:
      opt_state: the optimizer's state, however deep the schedule-free ones lie in it, in chains,
        masks, groups or accumulation; or the same as nested dicts and lists, as a checkpoint
        gives it where the optimizer is not known.
      params: those at which it takes gradients.

    Returns:
      For parameters that a schedule-free optimizer moves, `x`; all others as they are.

    Example:
      >>> import optax.contrib
      >>> optimizer = optax.contrib.schedule_free_sgd(0.5, b1=0.5)
      >>> params = {"bias": jax.numpy.ones(1)}
      >>> updates, state = optimizer.update(params, optimizer.init(params), params)
      >>> evaluated_params(state, optax.apply_updates(params, updates))["bias"].tolist()
      [0.5]
    """
    for state in _states(opt_state):
        b1, z = (_field(state, name) for name in ("b1", "z"))
        fast = {_name(path): leaf for path, leaf in _leaves(z)}

        def average(path: Any, y: Any, b1: Any = b1, fast: Any = fast) -> Any:
            if (z := fast.get(_name(path))) is None:
                return y
            return ((y - (1.0 - b1) * z) / b1).astype(y.dtype)

        params = jax.tree_util.tree_map_with_path(average, params)
    return params


def _states(opt_state: Any) -> list[Any]:
    leaves = jax.tree.leaves(opt_state, is_leaf=_is_state)
    return [leaf for leaf in leaves if _is_state(leaf)]


def _is_state(node: Any) -> bool:
    if isinstance(node, Mapping):
        return node.keys() == set(FIELDS)
    return getattr(node, "_fields", None) == FIELDS


def _field(state: Any, name: str) -> Any:
    return state[name] if isinstance(state, Mapping) else getattr(state, name)


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
