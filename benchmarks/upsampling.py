"""Trains one encoder with each way back to full resolution, and writes the table.

    python benchmarks/upsampling.py --data_root=FOLDER --output=benchmarks/results
    python benchmarks/upsampling.py --variant=synthetic # without CamVid
    python benchmarks/upsampling.py --variant=smoke     # does it run?

FOLDER holds CamVid in SegNet's form. The experiments are those of
configs/upsampling_camvid.py, one after the other; each is measured on the test split. Runs
lie in `--workdir`, and are taken up there where they were stopped; then no time is reported.
"""

from __future__ import annotations

import argparse
import runpy
import time
from pathlib import Path
from typing import Any

from results import environment, save

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "upsampling_camvid.py"
METRICS = ("pixel_accuracy", "mean_accuracy", "mean_iou", "boundary_f1")
PUBLISHED = {
    "SegNet-Basic, bilinear": (0.779, 0.611, 0.433, 0.2083),
    "SegNet-Basic, index unpooling": (0.827, 0.620, 0.477, 0.3578),
}
"""Table 1 of arXiv 1511.00561, median-frequency weights, 360x480."""


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains and measures one operator."""
    import jax

    from segjax import config as config_lib
    from segjax.runs.evaluate import evaluate_run
    from segjax.runs.load import load_trained
    from segjax.runs.train import train
    from segjax.training.malloc import keep_freed_memory

    keep_freed_memory()  # as the command line does
    ending = f"_{arguments.variant}" if arguments.variant != "camvid" else ""
    config = config_lib.load(f"{CONFIG}:{name}{ending}")
    if arguments.steps is not None:
        config.num_steps = arguments.steps
    folder = Path(arguments.workdir) / arguments.variant / name
    resumed = folder.exists()
    began = time.perf_counter()
    result = train(config, folder, data_root=arguments.data_root)
    seconds = time.perf_counter() - began
    metrics = evaluate_run(folder, split="test", data_root=arguments.data_root)
    params = load_trained(folder).variables["params"]
    return {
        "operator": name,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "steps": result.step,
        "seconds": None if resumed else round(seconds, 1),
        **{metric: metrics[metric] for metric in METRICS},
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the rows, and those of the paper below."""
    heads = ("parameters", "seconds", "global", "class", "mean IoU", "boundary F1")
    print(f"{'':30}" + "".join(f"{head:>12}" for head in heads))
    for row in rows:
        numbers = "".join(f"{100 * row[metric]:12.1f}" for metric in METRICS)
        name = row["operator"].replace("_", " ")
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.0f}"
        print(f"{name:30}{row['parameters']:12,}{seconds:>12}{numbers}")
    for name, values in PUBLISHED.items():
        numbers = "".join(f"{100 * value:12.1f}" for value in values)
        print(f"{name:30}{'':24}{numbers}")


def main() -> None:
    operators = tuple(runpy.run_path(str(CONFIG))["OPERATORS"])
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data_root", help="folder of CamVid")
    parser.add_argument(
        "--variant", choices=("camvid", "synthetic", "smoke"), default="camvid"
    )
    parser.add_argument("--operators", nargs="+", choices=operators, default=operators)
    parser.add_argument("--steps", type=int, help="by default those of the config")
    parser.add_argument("--workdir", default="runs/upsampling")
    parser.add_argument("--output", help="folder for the JSON")
    arguments = parser.parse_args()

    import jax

    found = environment("gpu" if jax.default_backend() == "gpu" else "cpu")
    rows = []
    for name in arguments.operators:
        rows.append(run(name, arguments))
        show(rows[-1:])
    print()
    show(rows)
    found |= {"variant": arguments.variant, "rows": rows, "published": PUBLISHED}
    save("upsampling", found, arguments.output)


if __name__ == "__main__":
    main()
