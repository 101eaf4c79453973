"""The JSON beside a checkpoint, made while the arrays are being written.

It holds hashes of all arrays, which take longer than the rest of a save; so Orbax is handed a
function, and calls it in the thread that writes the file. The checkpoint gets its name once
arrays and JSON are on disk, so one without its hashes does not exist.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import future

from segjax.training import sharding
from segjax.training.leaves import whole_value
from segjax.training.state import (
    TrainState,
    about_sha256,
    parameters_sha256,
    tree_sha256,
)

FILE = "metadata"
"""The file's name, as Orbax's own JSON has it."""


def seal(
    state: TrainState, about: Mapping[str, Any]
) -> Callable[[], Mapping[str, Any]]:
    """Makes the function that adds the hashes of a state to the JSON beside it.

    The arrays are brought to the host now, and no later step changes these: on a CPU they are
    the state's own, which JAX then does not donate. Parts that other processes have are fetched, so
    all of them call this.

    Args:
      state: the state.
      about: the JSON.

    Returns:
      A function without arguments, which gives the JSON with `parameters_sha256`,
      `state_sha256` and `about_sha256`.
    """
    for x in jax.tree.leaves(state):
        if isinstance(x, jax.Array):
            x.copy_to_host_async()
    arrays = jax.tree.map(whole_value, state)

    def sealed() -> Mapping[str, Any]:
        whole = {
            **about,
            "parameters_sha256": parameters_sha256(arrays.evaluated()["params"]),
            "state_sha256": tree_sha256(arrays),
        }
        return {**whole, "about_sha256": about_sha256(whole)}

    return sealed


class SealHandler(ocp.JsonCheckpointHandler):
    """Writes the JSON that a function gives, and calls it in the thread that writes."""

    async def async_save(
        self, directory: Any, item: Any = None, args: Any = None
    ) -> list[future.Future]:
        """Starts the thread.

        Args:
          directory: where the file goes.
          item: nothing.
          args: a `SealSave`.

        Returns:
          What Orbax waits for before the checkpoint gets its name.
        """

        async def write() -> None:
            if sharding.process_index() == 0:
                (Path(directory) / FILE).write_text(json.dumps(args.make()))

        return [future.CommitFutureAwaitingContractedSignals(write(), name="seal")]


@ocp.args.register_with_handler(SealHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class SealSave(ocp.args.CheckpointArgs):
    """What Orbax is handed for the JSON of a checkpoint.

    Attributes:
      make: gives the JSON.
    """

    make: Callable[[], Mapping[str, Any]]
