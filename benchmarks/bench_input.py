"""How many training images a core prepares in a second, beside another checkout of segjax.

    python benchmarks/bench_input.py --against=OTHER --output=benchmarks/results
    python benchmarks/bench_input.py --against=OTHER --nuclei=NUCLEI

Three pipelines, as their configs state them, from records to batches on the host: that of the
U-Net's paper (572 x 572, mirrored at the edges, elastic deformation, border weights) on
rendered sections of 512 x 512; that of photographs (random scale, crop and flip, 513 x 513) on
rendered scenes of 500 x 500; and, where the folder NUCLEI is given, that of
`configs/unet_nuclei.py`, which reads PNG files. Batches of four are prepared in one thread when
they are asked for, and timed by the processor, once all records were read and the caches are
full. The two checkouts take turns (benchmarks/turns.py); the mean of their first batches is
compared.
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

BATCH = 4
FIRST = 40
"""Batches before anything is timed: more than an epoch of each."""

PIPELINES: Mapping[str, tuple[str, Mapping[str, Any] | None]] = {
    "elastic deformation and border weights": (
        "unet_em:paper",
        {"name": "em_sections", "size": 512, "train": 4, "validation": 1, "test": 1},
    ),
    "random scale, crop and flip": (
        "deeplab_v3_voc",
        {"name": "shapes", "size": 500, "train": 10, "validation": 1, "test": 1},
    ),
    "nuclei": ("unet_nuclei", None),
}
"""Of each the config, and the data that take the place of its own."""


def open_pipeline(
    name: str, cache: str, root: str | None
) -> tuple[Callable[[], Any], float]:
    """Returns what prepares the next batch, and the mean of the first ones."""
    from segjax import config as config_lib
    from segjax.tasks.table import make_task
    from segjax.training.experiment import open_data

    file, data = PIPELINES[name]
    config = config_lib.load(file)
    if data is not None:
        config.data = data
    config.batch_size, config.pipeline.num_threads = BATCH, 0
    task = make_task(config)
    dataset = open_data(config, cache, root)
    task.recall(task.learn(dataset))
    batches = task.batches(dataset, 0)
    means = [
        np.mean(batch[key], dtype=np.float64)
        for batch in (next(batches) for _ in range(FIRST))
        for key in ("image", "label", "weight")
    ]
    return lambda: next(batches), float(np.mean(np.abs(means)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", help="folder of the other checkout")
    parser.add_argument("--nuclei", help="folder of nuclei, with index.csv")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="batches of each turn")
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    for name in ("--worker", "--cache"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if arguments.worker:
        pipeline = arguments.worker, arguments.cache, arguments.nuclei
        return serve(lambda: open_pipeline(*pipeline))
    if not arguments.against:
        parser.error("give another checkout by --against")
    found = environment("cpu")
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for name, (_, data) in PIPELINES.items():
            options = [f"--worker={name}", f"--cache={cache}"]
            if data is None:
                if not arguments.nuclei:
                    continue
                options.append(f"--nuclei={Path(arguments.nuclei).resolve()}")
            row = compare(
                beside({"segjax": [__file__, *options]}, arguments.against),
                rounds=arguments.rounds,
                steps=arguments.steps,
                allowed=1e-6,
            )
            rates = {key: BATCH / used for key, used in row["cpu_seconds"].items()}
            rows.append({"what": name, "images_per_core_second": rates, **row})
            ours, theirs = rates.values()
            ratio = row["cpu_ratio"]
            print(
                f"{name}: {ours:.1f} images a core second, the other {theirs:.1f}, ratio"
                f" of processor time {ratio:.2f}",
                flush=True,
            )
    found["commit"] = commit_of(Path(__file__).parent)
    found["other"] = commit_of(arguments.against)
    save("input", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
