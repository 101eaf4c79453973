"""Classifies every pixel of an image patch by patch and all at once: the work of both.

    python benchmarks/sliding_window.py
    python benchmarks/sliding_window.py --side=64 --network=n4

The logits are compared first. Work is counted in multiply-adds of the convolutions; the
last lines carry the count on to images that nobody would wait for.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from results import environment, save

LARGER = (512, 1024)
"""Sides of images whose work is only counted, pixels."""


def networks() -> dict[str, Any]:
    from segjax.layers.norm import Norm
    from segjax.models import SlidingWindow

    return {
        "n3": SlidingWindow(2, kernels=(5, 5, 5), patch=65, norm=Norm(momentum=0.95)),
        "n4": SlidingWindow(2),
    }


def fastest(run: Callable[[], Any], rounds: int) -> float:
    """Seconds of the quickest run, after one that compiles."""
    run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(name: str, side: int, rounds: int) -> dict[str, Any]:
    """Both forms on one synthetic image that gives `side * side` logits."""
    import jax
    import jax.numpy as jnp

    dense = networks()[name]
    patches = dense.clone(form="patches")
    whole = side + dense.patch - 1
    image = jax.random.normal(jax.random.key(0), (1, whole, whole, 1))
    variables = dense.init(jax.random.key(1), image, train=False)
    row: dict[str, Any] = {"network": name, "side": side}
    seconds, multiply_adds, logits = {}, {}, {}
    for model in (patches, dense):
        run = jax.jit(lambda v, x, m=model: m.apply(v, x, train=False)["logits"])
        logits[model.form] = run(variables, image)
        step = lambda run=run: run(variables, image).block_until_ready()
        seconds[model.form] = fastest(step, rounds)
        multiply_adds[model.form] = model.multiply_adds(side)
    difference = jnp.abs(logits["patches"] - logits["dense"]).max()
    row["difference"] = float(difference / jnp.abs(logits["dense"]).max())
    if row["difference"] > 1e-4:
        raise SystemExit(f"the forms differ by {row['difference']:.1e} of the largest")
    return row | {
        "seconds": seconds,
        "multiply_adds": multiply_adds,
        "time_ratio": seconds["patches"] / seconds["dense"],
        "work_ratio": multiply_adds["patches"] / multiply_adds["dense"],
        "work_ratio_of_larger": {
            str(n): patches.multiply_adds(n) / dense.multiply_adds(n) for n in LARGER
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", nargs="+", default=["n3", "n4"])
    parser.add_argument("--side", type=int, default=32, help="of the map of logits")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    found, rows = environment("cpu"), []
    for name in arguments.network:
        row = measure(name, arguments.side, arguments.rounds)
        rows.append(row)
        side, work, seconds = row["side"], row["multiply_adds"], row["seconds"]
        print(
            f"{name}, {side}x{side} pixels (largest difference {row['difference']:.1e}):"
        )
        for form in ("patches", "dense"):
            print(f"  {form:8} {work[form]:.3e} multiply-adds, {seconds[form]:8.3f} s")
        print(
            f"  ratio    {row['work_ratio']:.1f} in work, {row['time_ratio']:.1f} in time"
        )
        for larger, ratio in row["work_ratio_of_larger"].items():
            print(f"  {larger}x{larger}: {ratio:.0f} times the work", flush=True)
    save("sliding_window", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
