r"""The upsampling laboratory: one small encoder, six ways back to full resolution.

In the manner of table 1 of SegNet (Badrinarayanan, Kendall, Cipolla, TPAMI 2017, arXiv
1511.00561): all else being equal, what does the operator do to the result?

    python -m segjax.main --config=configs/upsampling_camvid.py:bilinear \
        --workdir=runs/bilinear --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on).

SegNet-Basic in the paper, on the 233 test images at 360x480 (global accuracy, class
average, mean IoU): index unpooling 82.7, 62.0, 47.7; bilinear 77.9, 61.1, 43.3. Ours, all
six with date and hardware: `python benchmarks/upsampling.py --data_root=FOLDER`, and
notebooks/02_upsampling.ipynb.

Presets, as `--config=configs/upsampling_camvid.py:PRESET`:

    nearest, bilinear, bed_of_nails, index_unpooling, transposed: the operator
    skip             bilinear, and the encoder's maps concatenated
    (none)           index_unpooling
    nearest_synthetic, bilinear_synthetic, bed_of_nails_synthetic, index_unpooling_synthetic,
    transposed_synthetic, skip_synthetic: the same on synthetic shapes, without any download
    nearest_smoke, bilinear_smoke, bed_of_nails_smoke, index_unpooling_smoke,
    transposed_smoke, skip_smoke: seconds: a tiny network, two steps, tiny synthetic data
    smoke            index_unpooling_smoke

About 3 minutes on 2 cores each, synthetic shapes less than one. Under one seed all begin
with the same encoder.
"""

import functools

from segjax.config import presets

OPERATORS: dict[str, dict] = {
    "nearest": {"upsampling": "nearest", "skip": False},
    "bilinear": {"upsampling": "bilinear", "skip": False},
    "bed_of_nails": {"upsampling": "bed_of_nails", "skip": False},
    "index_unpooling": {"upsampling": "index_unpooling", "skip": False},
    "transposed": {"upsampling": "transposed", "skip": False},
    "skip": {"upsampling": "bilinear", "skip": True},
}
"""The settings in which the experiments differ."""

CLASS_WEIGHTS = (
    *(0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826),
    *(9.6446, 1.8418, 0.6823, 6.2478, 7.3614),
)
"""Median-frequency weights of the 11 classes, as in SegNet's release."""


def laptop(operator: str = "index_unpooling") -> dict:
    return {
        "seed": 0,
        "num_steps": 400,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 400,
        "checkpoint_every": 100,
        "data": {"name": "camvid", "downscale": 2},
        "pipeline": {
            "input_size": (180, 240),
            "normalization": "imagenet",
            "augment": (("flip", {"vertical": False}),),
        },
        "model": {
            "name": "encoder_decoder",
            "num_classes": 11,
            "features": (16, 32, 48, 64),
            "dtype": "float32",
            **OPERATORS[operator],
        },
        "loss": {"name": "cross_entropy", "class_weights": CLASS_WEIGHTS},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 5e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation", "boundary_f1": True},
    }


def synthetic(operator: str) -> dict:
    config = laptop(operator)
    return config | {
        "data": {
            "name": "shapes",
            "size": 96,
            "train": 64,
            "validation": 8,
            "test": 32,
        },
        "pipeline": config["pipeline"] | {"input_size": (96, 96)},
        "model": config["model"] | {"num_classes": 5},
        "loss": {"name": "cross_entropy"},
    }


def smoke(operator: str = "index_unpooling") -> dict:
    config = synthetic(operator)
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": config["model"] | {"features": (4, 6)},
        "schedule": {"name": "cosine", "learning_rate": 5e-3, "warmup_steps": 1},
    }


get_config = presets(
    laptop,
    smoke,
    **{
        f"{operator}{ending}": functools.partial(make, operator)
        for operator in OPERATORS
        for ending, make in (("", laptop), ("_synthetic", synthetic), ("_smoke", smoke))
    },
)
