"""An experiment, all parts of which are this package's own but the schedule.

    pip install -e examples/own_package
    segjax --config=examples/own_package/config.py --workdir=runs/own

Presets: (none) takes half a minute; smoke takes two steps.
"""

from segjax.config import presets


def discs() -> dict:
    return {
        "seed": 0,
        "num_steps": 200,
        "batch_size": 4,
        "log_every": 20,
        "eval_every": 100,
        "checkpoint_every": 100,
        "data": {"name": "own_package.data:discs", "count": 32},
        "pipeline": {
            "input_size": (32, 32),
            "normalization": "per_image",
            "augment": (
                ("flip", {}),
                ("own_package.augment:invert", {"probability": 0.1}),
            ),
        },
        "model": {"name": "own_package.nets:TwoScales", "num_classes": 2},
        "loss": {"name": "own_package.losses:brier"},
        "optimizer": {"name": "own_package.optimizers:sign_descent", "momentum": 0.9},
        "schedule": {"name": "cosine", "learning_rate": 3e-3},
        "evaluation": {
            "split": "validation",
            "best_metric": "area_error",
            "metrics": ("own_package.metrics:area", "own_package.metrics:Brier"),
        },
    }


def smoke() -> dict:
    few = {"num_steps": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": 1}
    return discs() | few | {"data": {"name": "own_package.data:discs"}}


get_config = presets(discs, smoke)
