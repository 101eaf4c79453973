"""What it costs to sum gradients of devices in bfloat16: errors beside those of all else.

    python benchmarks/rounded_sums.py --output=benchmarks/results

In bfloat16 (`+bf16`) each device rounds its gradient of a kernel to bfloat16, and the sum over devices
is taken in that. The gradients of `--devices` examples, one for each, are summed here in
bfloat16, one after the other as a ring of devices does, and in float32. Errors are norms of
differences over all parameters, relative to the gradient. Beside them: what rounding the maps of the
network does to the gradient, and how far gradients of two batches are apart.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from results import environment, save

from segjax import config as config_lib
from segjax.tasks.table import make_task
from segjax.training.step import forward_image


def gradient_of(config: Any) -> Any:
    """The gradient of a step's loss by parameters and a batch of one example."""
    config.batch_size = 1
    task = make_task(config)

    def loss(params: Any, state: Any, batch: Any) -> Any:
        variables = {**state.variables, "params": params}
        key = jax.random.key(0)
        return task.loss(forward_image(task.model, variables, batch, key)[0], batch)

    return task, jax.jit(jax.grad(loss))


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]).astype(float)


def examples(task: Any, count: int) -> list[dict[str, np.ndarray]]:
    """Images of noise whose smoothed sign is the label."""
    height, width = task.input_size
    found = []
    for seed in range(count):
        noise = np.random.default_rng(seed).normal(size=(height // 8, width // 8))
        image = np.kron(noise, np.ones((8, 8)))[None, ..., None]
        found.append(
            {
                "image": image.astype(np.float32),
                "label": (image[..., 0] > 0).astype(np.int32),
                "weight": np.ones((1, height, width), np.float32),
            }
        )
    return found


def far(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def measure(name: str, devices: int) -> dict[str, Any]:
    task, single = gradient_of(config_lib.load(name))
    _, half = gradient_of(
        config_lib.load(f"{name}+bf16" if ":" in name else f"{name}:bf16")
    )
    state = jax.jit(partial(task.init_state, 1))()
    batches = examples(task, 2 * devices)
    in_single = [flat(single(state.params, state, x)) for x in batches]
    in_half = [flat(half(state.params, state, x)) for x in batches[:devices]]
    first, second = sum(in_single[:devices]), sum(in_single[devices:])
    exact = sum(in_half)
    rounded = [jnp.asarray(x, jnp.bfloat16) for x in in_half]
    ring, wide = rounded[0], rounded[0].astype(jnp.float32)
    for x in rounded[1:]:
        ring, wide = ring + x, wide + x.astype(jnp.float32)
    return {
        "config": name,
        "devices": devices,
        "summed_in_bfloat16": far(np.asarray(ring, float), exact),
        "summed_in_float32": far(np.asarray(wide, float), exact),
        "maps_in_bfloat16": far(exact, first),
        "another_batch": far(second, first),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="*", default=["unet_em"])
    parser.add_argument("--devices", type=int, nargs="*", default=[8, 64])
    parser.add_argument("--output", help="a folder for the result, as JSON")
    args = parser.parse_args()
    found, rows = environment("cpu"), []
    for name in args.configs:
        for devices in args.devices:
            rows.append(measure(name, devices))
            print(rows[-1], flush=True)
    save("rounded_sums", {**found, "rows": rows}, args.output)


if __name__ == "__main__":
    main()
