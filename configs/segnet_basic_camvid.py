r"""SegNet-Basic on CamVid: 11 classes of a street, seen from a car.

Badrinarayanan, Kendall, Cipolla, TPAMI 2017, arXiv 1511.00561, section 3 and table 1.

    python -m segjax.main --config=configs/segnet_basic_camvid.py --workdir=runs/segnet_basic \
        --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on).

The paper, on the 233 test images at 360x480 (global accuracy, class average, mean IoU,
boundary F1; median-frequency weights): 82.7, 62.0, 47.7, 35.78. Ours: docs/results.json, which README.md
shows.

The other decoders of table 1: `--config.model.decoder=fcn_basic` and so on, by the names
of `DECODERS` in segjax/models/segnet_basic.py.

Presets, as `--config=configs/segnet_basic_camvid.py:PRESET`:

    (none)   laptop: 180x240, fewer channels; 7 to 18 minutes on 2 cores
    paper    the published network and recipe at 360x480; wants a GPU
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

CLASS_WEIGHTS = (
    *(0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826),
    *(9.6446, 1.8418, 0.6823, 6.2478, 7.3614),
)
"""Median-frequency weights of the 11 classes, as in the authors' release."""


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
            "input_size": (180, 240),
            "normalization": "imagenet",
            "augment": AUGMENT,
        },
        "model": {
            "name": "segnet_basic",
            "num_classes": 11,
            "features": (32, 32, 32, 32),
            "decoder": "segnet_basic",
            "dropout_rate": 0.0,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation", "boundary_f1": False},
    }


def paper() -> dict:
    config = laptop()
    return config | {
        "num_steps": 10_000,
        "batch_size": 12,
        "log_every": 50,
        "eval_every": 1_000,
        "checkpoint_every": 500,
        "data": {"name": "camvid"},
        "pipeline": {
            "input_size": (360, 480),
            "normalization": "caffe_bgr",
            "augment": (),
        },
        "model": config["model"] | {"features": (64, 64, 64, 64)},
        "loss": {"name": "cross_entropy", "class_weights": CLASS_WEIGHTS},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
        "evaluation": {
            "split": "validation",
            "boundary_f1": True,
            "scales": (1.0,),
            "flip": False,
        },
        "schedule": {"name": "constant", "learning_rate": 0.1},
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
        "model": config["model"] | {"num_classes": 5, "features": (4, 4, 4, 4)},
        "loss": {"name": "cross_entropy"},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, paper, smoke)
