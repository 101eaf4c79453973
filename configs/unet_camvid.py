r"""A padded U-Net on CamVid: 11 classes of a street, seen from a car.

Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597; the paper has no CamVid, no
padding and no batch normalisation.

    python -m segjax.main --config=configs/unet_camvid.py --workdir=runs/unet_camvid \
        --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). Ours,
from scratch: docs/results.md.

Presets, as `--config=configs/unet_camvid.py:PRESET`:

    (none)   laptop: 180x240, 1.1 million parameters; 7 to 16 minutes on 2 cores
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

AUGMENT: tuple[tuple[str, dict], ...] = (
    ("random_scale", {"scale": (0.75, 1.5)}),
    ("random_crop", {}),
    ("flip", {"vertical": False}),
)
"""The augmentations of all laptop presets on CamVid, so that their results can be compared."""


def laptop() -> dict:
    return {
        "seed": 0,
        "num_steps": 600,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 200,
        "checkpoint_every": 100,
        "data": {"name": "camvid", "downscale": 2},
        "pipeline": {
            "input_size": (176, 240),
            "normalization": "imagenet",
            "augment": AUGMENT,
        },
        "model": {
            "name": "unet",
            "num_classes": 11,
            "features": (24, 48, 96, 192),
            "padding": "SAME",
            "norm": {"kind": "batch", "momentum": 0.95},
            "dropout_rate": 0.0,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation"},
    }


def smoke() -> dict:
    config = laptop()
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": config["model"] | {"num_classes": 5, "features": (4, 8)},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, smoke)
