"""Mean teacher: two labelled sections, many without labels; see docs/mean_teacher.md.

    PYTHONPATH=examples/mean_teacher \\
        segjax --config=examples/mean_teacher/config.py --workdir=runs/mean_teacher

Presets: (none) takes some minutes on a CPU; smoke takes four steps.
"""

from segjax.config import presets


def sections() -> dict:
    return {
        "seed": 0,
        "num_steps": 400,
        "batch_size": 2,
        "log_every": 20,
        "eval_every": 100,
        "checkpoint_every": 100,
        "data": {
            "name": "em_sections",
            "train": 2,
            "unlabeled": {
                "name": "em_sections",
                "seed": 1,
                "train": 24,
                "batch_size": 4,
            },
        },
        "pipeline": {"input_size": (96, 96), "normalization": "per_image"},
        "model": {
            "name": "unet",
            "num_classes": 2,
            "features": (8, 16, 32),
            "padding": "SAME",
            "norm": {"kind": "batch", "momentum": 0.95},
            "dropout_rate": 0.2,
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adam"},
        "schedule": {"name": "cosine", "learning_rate": 3e-3},
        "ema": {"decay": 0.99},
        "step": {
            "name": "mean_teacher:mean_teacher",
            "weight": 10.0,
            "ramp_steps": 200,
            "noise": 0.1,
        },
        "evaluation": {"split": "validation"},
    }


def smoke() -> dict:
    few = {"num_steps": 4, "log_every": 1, "eval_every": 4, "checkpoint_every": 2}
    config = sections() | few
    small = {"name": "em_sections", "size": 128, "train": 2, "validation": 1, "test": 1}
    config["data"] = small | {"unlabeled": small | {"seed": 1, "batch_size": 4}}
    config["batch_size"] = 4
    config["model"] = config["model"] | {"features": (4, 8)}
    config["pipeline"] = config["pipeline"] | {"input_size": (32, 32)}
    return config


get_config = presets(sections, smoke)
