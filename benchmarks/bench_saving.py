"""How long the training loop waits for a checkpoint: hashes made before it goes on, and meanwhile.

    python benchmarks/bench_saving.py --output=benchmarks/results

A state of 354 MB, parameters and AdamW's two moments, is saved in turn by the form that segjax
had (both hashes, then Orbax) and by that of `segjax.training.checkpoints.checkpoint`. Each save begins once
the one before is on disk, and the state is donated to a step right after it.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import results

from segjax.training.checkpoints.checkpoint import Checkpoints
from segjax.training.divergence import all_finite, not_finite
from segjax.training.malloc import keep_freed_memory
from segjax.training.sharding import Devices
from segjax.training.state import (
    TrainState,
    about_sha256,
    parameters_sha256,
    tree_sha256,
)

LAYERS = 40


class Before(Checkpoints):
    """Saves as segjax did."""

    def save(
        self,
        state: TrainState,
        about: Mapping[str, Any],
        metrics: Mapping[str, float | None] | None = None,
    ) -> None:
        sealed = {
            **about,
            "step": int(state.step),
            "metrics": metrics,
            "parameters_sha256": parameters_sha256(state.params),
            "state_sha256": tree_sha256(state),
        }
        sealed["about_sha256"] = about_sha256(sealed)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(sealed)
        )
        self._manager.save(int(state.step), args=arguments, force=True)


def make_state(devices: Devices) -> TrainState:
    rng = np.random.default_rng(0)

    def arrays() -> dict[str, dict[str, np.ndarray]]:
        return {
            f"conv{i}": {
                "kernel": rng.random((3, 3, 256, 320), np.float32),
                "bias": np.zeros(320, np.float32),
            }
            for i in range(LAYERS)
        }

    moments = {"mu": arrays(), "nu": arrays()}
    return devices.put_state(TrainState(np.zeros((), np.int32), arrays(), {}, moments))


@jax.jit
def _next(state: TrainState) -> TrainState:
    changed = jax.tree.map(lambda x: x * jnp.asarray(1.0001, x.dtype), state)
    return dataclasses.replace(changed, step=state.step + 1)


def timed(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def one_save(
    checkpoints: Checkpoints, step: Any, state: TrainState
) -> tuple[TrainState, dict[str, float]]:
    """Does a step, saves, and does another one meanwhile."""
    state = jax.block_until_ready(step(state))
    hashed = tree_sha256(state)
    was_finite = isinstance(checkpoints, Before)
    check = (
        (lambda: any(not_finite(state))) if was_finite else lambda: all_finite(state)
    )
    seconds = {
        "finite": timed(check),
        "save": timed(lambda: checkpoints.save(state, {})),
    }
    after = step(state)
    seconds["wait"] = timed(checkpoints.wait)
    if checkpoints.newest_about()["state_sha256"] != hashed:
        raise SystemExit("another state was saved")
    return after, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", help="folder for the results as JSON")
    options = parser.parse_args()
    keep_freed_memory()
    devices = Devices()
    state = make_state(devices)
    megabytes = sum(x.nbytes for x in jax.tree.leaves(state)) / 1e6
    step = jax.jit(_next, donate_argnums=0)
    found: dict[str, list[float]] = {}
    environment = results.environment(jax.default_backend())
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.rounds):
            for name, kind in (("before", Before), ("now", Checkpoints)):
                with kind(Path(folder) / name) as checkpoints:
                    state, seconds = one_save(checkpoints, step, state)
                if i:  # the first round touches its memory for the first time
                    for what, value in seconds.items():
                        found.setdefault(f"{name} {what}", []).append(value)
    for what, values in found.items():
        print(
            f"{what:14} median {statistics.median(values):.3f} s, "
            f"least {min(values):.3f} s, most {max(values):.3f} s"
        )
    summary = {
        what: {"median": statistics.median(values), "least": min(values)}
        for what, values in found.items()
    }
    results.save(
        "saving",
        {**environment, "megabytes": megabytes, "seconds": summary},
        options.output,
    )


if __name__ == "__main__":
    main()
