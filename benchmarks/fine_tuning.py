"""Measures what weights from elsewhere are worth on CamVid, in 15 minutes a run on two cores.

    python benchmarks/fine_tuning.py --weights=WEIGHTS --data=CAMVID --seeds=0,1,2 \
        --output=benchmarks/results

`WEIGHTS` is the folder of the files of TensorFlow Lite, `CAMVID` that of SegNet's form. Each
experiment is trained with each seed and measured on the 233 test images: DeepLab v3 from the
weights of Cityscapes, the same network from random weights for as many steps, and U-Net on
MobileNet v2 from the weights of ImageNet. `--what=cityscapes` takes one of them, `--steps=50` a
shorter run, `--runs=FOLDER` keeps the runs, which go on where they were stopped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from results import environment, save

from segjax import config
from segjax.runs.evaluate import evaluate_run
from segjax.runs.train import train
from segjax.training.malloc import keep_freed_memory

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
EXPERIMENTS = {
    "cityscapes": (
        "deeplab_v3_camvid.py:cityscapes",
        "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite",
    ),
    "random": ("deeplab_v3_camvid.py", None),
    "unet": ("unet_mobilenet_camvid.py", "mobilenet_v2_1.0_224_quant.tflite"),
}
"""The config of each, and the file of weights that it begins with."""

FIGURES = ("mean_iou", "pixel_accuracy", "mean_accuracy")


def settings_of(what: str, weights: Path, seed: int, steps: int | None) -> Any:
    name, file = EXPERIMENTS[what]
    settings = config.load(str(CONFIGS / name))
    settings.seed = seed
    if file is not None:
        settings.initialization.input = str(weights / file)
    if steps is not None:
        settings.num_steps = settings.eval_every = steps
        settings.schedule.warmup_steps = min(settings.schedule.warmup_steps, steps // 3)
    return settings


def measured(settings: Any, workdir: Path, options: Any) -> dict[str, Any]:
    """Trains, and measures the test split; the time is that of all of the training."""
    places = {"cache_dir": options.cache, "data_root": str(options.data)}
    load, began = os.getloadavg(), time.monotonic()
    train(settings, workdir, **places)
    seconds = time.monotonic() - began
    found = evaluate_run(workdir, split="test", **places)
    classes = {key: value for key, value in found.items() if key.startswith("iou/")}
    return {
        "seed": settings.seed,
        "steps": found["step"],
        "images": found["images"],
        "minutes": seconds / 60,
        "load": load,
        **{key: found[key] for key in FIGURES},
        **classes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--what", default=",".join(EXPERIMENTS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--cache")
    parser.add_argument("--output")
    options = parser.parse_args()
    keep_freed_memory()  # As the command line does.
    for what in options.what.split(","):
        result: dict[str, Any] = environment("cpu") | {"config": EXPERIMENTS[what][0]}
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for seed in map(int, options.seeds.split(",")):
                settings = settings_of(what, options.weights, seed, options.steps)
                workdir = (options.runs or Path(folder)) / f"{what}_{seed}"
                rows.append(measured(settings, workdir, options))
                print({k: v for k, v in rows[-1].items() if not k.startswith("iou/")})
        result["rows"] = rows
        result["median"] = {
            key: statistics.median(row[key] for row in rows) for key in FIGURES
        }
        print(what, result["median"])
        save(f"fine_tuning_{what}", result, options.output)


if __name__ == "__main__":
    main()
