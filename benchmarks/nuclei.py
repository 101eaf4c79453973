"""Measures how well nuclei are counted: from all training images, and from five.

    python benchmarks/nuclei.py --data=../shared/data/nuclei_dsb2018 --seeds=0,1,2 \
        --output=benchmarks/results
    python benchmarks/nuclei.py --data=../shared/data/nuclei_dsb2018 --five \
        --output=benchmarks/results

The first trains `configs/unet_nuclei.py` with each seed on the training split of the 2018 Data
Science Bowl (`index.csv`, `images/`, `labels/`) and measures objects on the test split. The
second takes five fluorescence images of the training split, evenly spread, and measures on
the fluorescence images of the test split: the model "nuclei" that comes with segjax, training
on from it, training from scratch, and Otsu's threshold with a watershed.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from results import environment, save

from segjax import config
from segjax.runs.evaluate import evaluate_run
from segjax.runs.initialization import continued
from segjax.runs.train import train
from segjax.training.malloc import keep_freed_memory

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "unet_nuclei.py"
MODEL = "nuclei"
FIVE = 5
STEPS_ON = 300
"""Of training on from the model."""

Row = dict[str, Any]


def fluorescence(data: Path, split: str) -> list[str]:
    """Names of the fluorescence images of a split."""
    with open(data / "index.csv", encoding="utf-8") as file:
        return [
            row["id"]
            for row in csv.DictReader(file)
            if row["kind"] == "fluorescence_dark" and row["split"] == split
        ]


def copied(data: Path, names: list[str], root: Path) -> Path:
    """Copies images and labels into a folder of their own."""
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(data / kind / f"{name}.png", root / kind)
    return root


def main_figures(found: Row) -> Row:
    """The scores of objects, and of the baseline where it was measured."""
    wanted = (
        "f1@",
        "precision@0.5",
        "recall@0.5",
        "mean_f1",
        "panoptic",
        "watershed/f1@",
    )
    return {
        key: value
        for key, value in found.items()
        if key.startswith(wanted) or key in ("step", "images")
    }


def trained(settings: Any, workdir: Path, data_root: Path) -> Row:
    began = time.monotonic()
    train(settings, workdir, data_root=str(data_root))
    return {"minutes_of_training": round((time.monotonic() - began) / 60, 2)}


def with_seed(data: Path, seed: int, workdir: Path) -> Row:
    """Trains on the whole training split."""
    settings = config.load(str(CONFIG))
    settings.seed = seed
    settings.data.balance = "kind"
    row = {"seed": seed, **trained(settings, workdir, data)}
    found = evaluate_run(workdir, split="test", data_root=str(data))
    return row | main_figures(found)


def from_five(data: Path, folder: Path) -> list[Row]:
    """Compares what can be done with five labelled images."""
    names = fluorescence(data, "train")
    step = (len(names) - 1) / (FIVE - 1)
    five = copied(data, [names[round(i * step)] for i in range(FIVE)], folder / "five")
    test = str(copied(data, fluorescence(data, "test"), folder / "test"))
    rows = [
        {
            "trained": "the model as it is",
            **main_figures(evaluate_run(MODEL, input=test)),
        }
    ]
    for what, start in (("on from the model", MODEL), ("from scratch", None)):
        settings = config.load(str(CONFIG))
        settings.data.validation_fraction = 0.2
        if start is not None:
            settings = continued(settings, start)
            settings.num_steps = settings.eval_every = STEPS_ON
            settings.schedule.learning_rate = 5e-3
            settings.optimizer.adam_learning_rate = 1e-3
        workdir = folder / what.replace(" ", "_")
        row = {"trained": what, **trained(settings, workdir, five)}
        rows.append(row | main_figures(evaluate_run(workdir, input=test)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", default="0", help="comma between")
    parser.add_argument("--five", action="store_true", help="compare on five images")
    parser.add_argument("--runs", type=Path, help="folder that keeps the runs")
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    args = parser.parse_args()
    keep_freed_memory()  # As the command line does.
    os.environ["JAX_PLATFORMS"] = "cpu"
    found = environment("cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.runs or Path(temporary)
        if args.five:
            rows = from_five(args.data, folder)
        else:
            seeds = map(int, args.seeds.split(","))
            rows = [
                with_seed(args.data, seed, folder / f"seed{seed}") for seed in seeds
            ]
    for row in rows:
        print(row, flush=True)
    what = "nuclei_five" if args.five else "nuclei"
    save(what, {**found, "rows": rows}, args.output)


if __name__ == "__main__":
    main()
