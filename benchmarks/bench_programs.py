"""Times exported programs beside segjax, and weighs their files, on a CPU.

    python benchmarks/bench_programs.py
    python benchmarks/bench_programs.py --configs unet_em:smoke --side 128 --rounds 2

Each network of CONFIGS, with its initial weights, is written as a model file and as a program
in StableHLO. Two processes take turns (benchmarks/turns.py): one labels an image by
`segjax.load`, the other by the program and its loader alone, from the image as it is stored to
the labels. Before anything is timed, the labels are compared by a weighted sum.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from results import commit_of, environment, save
from turns import compare, in_words, serve

LOADER = Path(__file__).resolve().parent.parent / "segjax" / "export" / "loader.py"
CONFIGS = (
    "unet_camvid",
    "segnet_basic_camvid",
    "unet_mobilenet_camvid",
    "lraspp_camvid",
    "segformer_camvid",
    "deeplab_v3_camvid",
)
CHANNELS = 3


def random_image(side: int) -> np.ndarray:
    """Smooth shapes and noise, uint8 `[side, side, 3]`."""
    y, x = np.mgrid[:side, :side]
    waves = np.sin(y / 19) * np.sin(x / 23) + 0.3 * np.sin(x / 5)
    noise = np.random.default_rng(0).normal(0, 9, (side, side, CHANNELS))
    return (128 + 80 * waves[..., None] + noise).clip(0, 255).astype(np.uint8)


def write_model(config_name: str, path: Path) -> None:
    """Writes a network with its initial weights as a model file."""
    import jax

    from segjax import config as config_lib
    from segjax.runs.model_file import write_model_file
    from segjax.tasks.table import make_task
    from segjax.training.about import IMAGE_DTYPES
    from segjax.training.state import parameters_sha256

    config = config_lib.load(config_name)
    config.pipeline.normalization = "imagenet"  # which needs no training images
    task = make_task(config)
    init = jax.jit(lambda: task.init_variables(CHANNELS))
    quick = {"xla_backend_optimization_level": 0}
    variables = jax.device_get(init.lower().compile(quick)())
    names = [str(i) for i in range(task.num_classes)]
    about = {
        "channels": CHANNELS,
        "label_spec": {
            "names": names,
            "colors": [[i, i, i] for i in range(len(names))],
        },
        IMAGE_DTYPES: ["uint8"],
        "step": 0,
        "parameters_sha256": parameters_sha256(variables["params"]),
    }
    with path.open("wb") as file:
        write_model_file(file, config, variables, about, "# A model\n")


def timed(label: Callable[[np.ndarray], np.ndarray], side: int) -> Any:
    """What to time, and a number by which the labels are compared."""
    image = random_image(side)
    labels = label(image).astype(np.float64)
    weights = np.arange(1, labels.size + 1).reshape(labels.shape)
    return lambda: label(image), float((labels * weights).sum() + 1)


def by_segjax(folder: Path, side: int) -> Any:
    import segjax

    return timed(segjax.load(folder / "model.segjax").labels, side)


def by_program(folder: Path, side: int) -> Any:
    spec = importlib.util.spec_from_file_location("loader", LOADER)
    assert spec is not None
    assert spec.loader is not None
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    return timed(loader.load(folder / "model.stablehlo.zip"), side)


WORKERS = {"segjax": by_segjax, "program": by_program}


def measure(name: str, side: int, rounds: int, steps: int) -> dict[str, Any]:
    """One row of the table."""
    from segjax.runs.exports.stablehlo import export_stablehlo

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model, program = folder / "model.segjax", folder / "model.stablehlo.zip"
        write_model(name, model)
        export_stablehlo(model, program, image_size=(side, side))
        options = [f"--side={side}", f"--folder={folder}"]
        row = {
            "config": name,
            "side": side,
            "model_bytes": model.stat().st_size,
            "program_bytes": program.stat().st_size,
        }
        commands = {x: [__file__, f"--worker={x}", *options] for x in WORKERS}
        return row | compare(commands, rounds=rounds, steps=steps, allowed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--configs", nargs="+", default=[*CONFIGS])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    for name in ("--worker", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if given.worker:
        prepare = WORKERS[given.worker]
        return serve(lambda: prepare(Path(given.folder), given.side))
    found = environment("cpu")
    rows = []
    for name in given.configs:
        rows.append(measure(name, given.side, given.rounds, given.steps))
        sizes = [rows[-1][f"{x}_bytes"] / 1e6 for x in ("model", "program")]
        print(
            f"{name}: {in_words(rows[-1])}; {sizes[0]:.2f} MB and {sizes[1]:.2f} MB",
            flush=True,
        )
    found["commit"] = commit_of(Path(__file__).parent)
    save("programs", {**found, "rows": rows}, given.output)


if __name__ == "__main__":
    main()
