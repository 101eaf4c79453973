"""How many training images a core prepares in a second, beside another checkout of segjax.

    python benchmarks/bench_input.py --against=OTHER
    python benchmarks/bench_input.py --against=OTHER --nuclei=NUCLEI --output=benchmarks/results

Three pipelines, as their configs state them, from records to batches on the host: that of the
U-Net's paper (572 x 572, mirrored at the edges, elastic deformation, border weights) on
rendered sections of 512 x 512; that of photographs (random scale, crop and flip, 513 x 513) on
rendered scenes; and, where the folder NUCLEI is given, that of `configs/unet_nuclei.py`, which
reads files. Batches are prepared when they are asked for, in one thread, and timed by the
processor; the two checkouts take turns (benchmarks/turns.py) and the mean of what they made
first is compared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from results import commit_of, environment, save
from turns import beside, compare, serve

COMPARED = 8
"""Batches whose values are compared before anything is timed; they fill caches, too."""

SECTIONS = {"name": "em_sections", "size": 512, "train": 10, "validation": 1, "test": 1}
SCENES = {"name": "shapes", "size": 500, "train": 10, "validation": 1, "test": 1}
CLASSES = {"em_sections": 2, "shapes": 5}
PIPELINES: Mapping[str, tuple[str, Mapping[str, Any] | None]] = {
    "elastic deformation and border weights": ("unet_em:paper", SECTIONS),
    "random scale, crop and flip": ("deeplab_v3_voc", SCENES),
    "nuclei": ("unet_nuclei", None),
}
"""Of each the config, and the data that take the place of its own."""


def open_pipeline(
    name: str, cache: str, root: str | None
) -> tuple[Callable[[], Any], float]:
    """Returns what prepares the next batch, and the mean of the first ones."""
    from segjax import config as config_lib
    from segjax.tasks.table import make_task

    file, data = PIPELINES[name]
    config = config_lib.load(file)
    if data is not None:
        config.data = data
        config.model.num_classes = CLASSES[data["name"]]
    config.batch_size = 4
    config.pipeline.num_threads = 0
    task = make_task(config)
    dataset = task.open_dataset(cache, root)
    task.recall(task.learn(dataset))
    batches = task.batches(dataset, 0)
    first = [next(batches) for _ in range(COMPARED)]
    means = [
        np.mean(batch[key], dtype=np.float64)
        for batch in first
        for key in ("image", "label", "weight")
    ]
    return lambda: next(batches), float(np.mean(np.abs(means)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", required=True, help="the other checkout")
    parser.add_argument("--nuclei", help="folder of nuclei, with index.csv")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="batches of each turn")
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    parser.add_argument("--pipelines", nargs="+", choices=PIPELINES)
    for name in ("--worker", "--cache"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if arguments.worker:
        open_named = lambda: open_pipeline(
            arguments.worker, arguments.cache, arguments.nuclei
        )
        return serve(open_named)
    chosen = arguments.pipelines or [
        name for name, (_, data) in PIPELINES.items() if data or arguments.nuclei
    ]
    found = environment("cpu")
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for name in chosen:
            options = [f"--worker={name}", f"--cache={cache}", "--against=."]
            if arguments.nuclei:
                options.append(f"--nuclei={Path(arguments.nuclei).resolve()}")
            row = compare(
                beside({"segjax": [__file__, *options]}, arguments.against),
                rounds=arguments.rounds,
                steps=arguments.steps,
                allowed=1e-6,
            )
            rates = {key: 4 / seconds for key, seconds in row["cpu_seconds"].items()}
            rows.append({"what": name, **row, "images_per_core_second": rates})
            ours, theirs = rates.values()
            print(
                f"{name}: {ours:.1f} images a core second, the other {theirs:.1f}; ratio"
                f" of processor time {row['cpu_ratio']:.2f}",
                flush=True,
            )
    found["commit"] = commit_of(Path(__file__).parent)
    found["against"] = commit_of(arguments.against)
    save("input", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
