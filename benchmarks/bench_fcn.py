"""Times FCN's three networks on one image: the row "forward time" of the paper's table.

    python benchmarks/bench_fcn.py --output=benchmarks/results

Shelhamer, Long, Darrell 2015, arXiv 1411.4038, table 1: 50, 210 and 59 ms on 500x500 pixels with a
Tesla K40c. Weights are random, since speed does not depend on them. Networks take turns; the
median counts, and the first run, which compiles, does not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import jax
import numpy as np
from results import environment, save

from segjax import config
from segjax.inspect.effective_field import random_variables
from segjax.inspect.summary import describe
from segjax.models.builder import build_model

NETWORKS = {"FCN-AlexNet": "alexnet", "FCN-VGG16": "32s", "FCN-GoogLeNet": "googlenet"}
"""The paper's names, and the presets of `configs/fcn_voc.py`."""


def measure(side: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each network; seconds are of one image of `side` x `side` pixels."""
    image = np.random.default_rng(0).normal(size=(1, side, side, 3)).astype(np.float32)
    runs, gflops = {}, {}
    for name, preset in NETWORKS.items():
        model = build_model(config.load(f"fcn_voc:{preset}").model)
        gflops[name] = describe(model, (side, side, 3))["gflops"]
        network = lambda v, x, model=model: model.apply(v, x, train=False)["logits"]
        variables = jax.device_put(random_variables(model, (side, side)))
        runs[name] = jax.tree_util.Partial(jax.jit(network), variables)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for count in range(rounds + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run(image).block_until_ready()
            if count:
                seconds[name].append(time.perf_counter() - begin)
    return [
        {
            "network": name,
            "side": side,
            "gflops": gflops[name],
            "seconds": statistics.median(times),
            "seconds_range": [min(times), max(times)],
        }
        for name, times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    found = environment("cpu" if jax.default_backend() == "cpu" else "gpu")
    rows = measure(arguments.side, arguments.rounds)
    for row in rows:
        print(f"{row['network']}: {1e3 * row['seconds']:.0f} ms")
    save("fcn", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
