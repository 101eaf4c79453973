r"""DeepLab v3+ on ResNet-18, on CamVid: 11 classes of a street, seen from a car.

Chen, Zhu, Papandreou, Schroff, Adam, ECCV 2018, arXiv 1802.02611, section 3; the paper
has no CamVid and no ResNet-18: this is its network at the size of a laptop, trained from
scratch.

    python -m segjax.main --config=configs/deeplab_v3plus_camvid.py \
        --workdir=runs/deeplab_v3plus_camvid --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). Ours:
docs/results.md.

Presets, as `--config=configs/deeplab_v3plus_camvid.py:PRESET`:

    (none)   laptop: 180x240, from scratch; 6 to 12 minutes on 2 cores
    full     360x480, ResNet-18 and decoder with all their channels; wants a GPU. SGD
             and "poly" as in the paper, but from random weights: a rate of 0.05 with
             200 steps of warm-up (0.007 from ImageNet's), median-frequency class weights
             (none), scales 0.75 to 1.5 (0.5 to 2), 10,000 steps (30,000 on VOC), and
             statistics of momentum 0.99 (0.9997)
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

CLASS_WEIGHTS = (
    *(0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826),
    *(9.6446, 1.8418, 0.6823, 6.2478, 7.3614),
)
"""Median-frequency weights of the 11 classes, as in SegNet's release."""


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
        "eval_every": 300,
        "checkpoint_every": 100,
        "data": {"name": "camvid", "downscale": 2},
        "pipeline": {
            "input_size": (177, 241),
            "normalization": "imagenet",
            "augment": AUGMENT,
        },
        "model": {
            "name": "deeplab_v3plus",
            "num_classes": 11,
            "backbone": {
                "name": "resnet",
                "depth": 18,
                "output_stride": 16,
                "norm": {"momentum": 0.95},
                "dtype": "float32",
            },
            "rates": (2, 4, 6),
            "features": 128,
            "low_level_features": 32,
            "decoder_features": (64, 64),
            "separable": True,
            "norm": {"momentum": 0.95},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation"},
    }


def full() -> dict:
    config = laptop()
    backbone = config["model"]["backbone"] | {
        "features": 64,
        "norm": {"momentum": 0.99},
    }
    return config | {
        "num_steps": 10_000,
        "batch_size": 16,
        "log_every": 50,
        "eval_every": 1_000,
        "checkpoint_every": 500,
        "data": {"name": "camvid"},
        "pipeline": config["pipeline"] | {"input_size": (353, 481)},
        "model": {
            "name": "deeplab_v3plus",
            "num_classes": 11,
            "backbone": backbone,
            "norm": {"momentum": 0.99},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy", "class_weights": CLASS_WEIGHTS},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {
            "name": "poly",
            "learning_rate": 0.05,
            "power": 0.9,
            "warmup_steps": 200,
        },
        "evaluation": config["evaluation"] | {"scales": (1.0,), "flip": False},
    }


def smoke() -> dict:
    config = laptop()
    backbone = config["model"]["backbone"] | {"features": 4}
    small = {"features": 8, "low_level_features": 4, "decoder_features": (8, 8)}
    model = config["model"] | {"num_classes": 5, "backbone": backbone} | small
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (65, 65)},
        "model": model,
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, full, smoke)
