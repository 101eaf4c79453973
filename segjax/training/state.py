"""The complete state of a run between two steps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from segjax.training.leaves import differing_leaf, path_name, whole_value
from segjax.training.optimizers.schedule_free import evaluated_params
from segjax.types import Array


@flax.struct.dataclass
class TrainState:
    """The state of training; what is not in here does not survive a restart.

    Attributes:
      step: int32 scalar, the number of steps done.
      params: the trainable arrays of the model.
      batch_stats: its running statistics; empty where it has none.
      opt_state: the optimizer's own arrays.
      collections: other collections that the model changes in training, by name.
      ema: the moving average of the network (`segjax.training.optimizers.ema`); None without.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    collections: Any = flax.struct.field(default_factory=dict)
    ema: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The collections that `model.apply` takes in training."""
        params, statistics = self.params, self.batch_stats
        return {"params": params, "batch_stats": statistics, **self.collections}

    def evaluated(self) -> dict[str, Any]:
        """The collections that are evaluated, predicted with and exported; traceable.

        They are the moving average, where there is one; else those at which a schedule-free
        optimizer or SAM is evaluated; else `variables`.
        """
        if self.ema is None:
            return self.variables | {"params": self.optimized_params()}
        typed = lambda mean, x: mean.astype(x.dtype)
        averaged = ("params", "batch_stats")
        return self.variables | {
            name: jax.tree.map(typed, self.ema[name], getattr(self, name))
            for name in averaged
        }

    def optimized_params(self) -> Any:
        """The parameters that the optimizer has found so far; traceable.

        They are `params`, unless it is schedule-free or SAM (`segjax.training.optimizers.schedule_free`).
        """
        return evaluated_params(self.opt_state, self.params)

    def to_dict(self) -> dict[str, Any]:
        """The attributes by name, as a checkpoint keeps them: what is not used is left out."""
        names = [field.name for field in dataclasses.fields(self)]
        unused = [name for name in ("collections", "ema") if not getattr(self, name)]
        return {name: getattr(self, name) for name in names if name not in unused}


def without_optimizer(variables: Mapping[str, Any]) -> TrainState:
    """The state at step 0 of a network whose optimizer is of no interest; traceable."""
    return begun(variables, opt_state=None)


def begun(variables: Mapping[str, Any], opt_state: Any, ema: Any = None) -> TrainState:
    """The state at step 0 of a network with these variables; traceable."""
    own = ("params", "batch_stats")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=opt_state,
        collections={name: x for name, x in variables.items() if name not in own},
        ema=ema,
    )


def parameters_sha256(params: Any) -> str:
    """Hashes names, shapes, dtypes and bytes of all parameters, in the order of names.

    Two runs with the same hash have the same parameters, bit for bit.
    """
    return tree_sha256(params)


def tree_sha256(tree: Any) -> str:
    """Hashes names, shapes, dtypes and bytes of all leaves, in the order of names."""
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.ascontiguousarray(whole_value(leaf))
        digest.update(f"{path_name(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def about_sha256(about: Mapping[str, Any]) -> str:
    """Hashes the JSON beside a checkpoint, all of it but this very hash."""
    plain = {key: value for key, value in about.items() if key != "about_sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def first_difference(saved: Any, wanted: Any) -> str:
    """Names the first parameter that two networks do not share, by name or shape.

    Args:
      saved: parameters of a checkpoint, of which shapes are enough.
      wanted: those of the network by the config.

    Returns:
      The end of a sentence; empty where there is no difference.
    """
    shape = lambda x: f"of shape {list(x.shape)}"
    difference = differing_leaf(dict(saved), dict(wanted), shape)
    if difference is None:
        return ""
    name, there, here = difference
    return f"{name} is {there} in it, and {here} by the config"
