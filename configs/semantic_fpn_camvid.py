r"""Semantic FPN on ResNet-18, on CamVid: 11 classes of a street, seen from a car.

Kirillov, Girshick, He, Dollár, CVPR 2019, arXiv 1901.02446, section 3.1; the paper measures
ResNet-101 on Cityscapes.

    python -m segjax.main --config=configs/semantic_fpn_camvid.py \
        --workdir=runs/semantic_fpn_camvid --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). Ours:
not measured yet.

Presets, as `--config=configs/semantic_fpn_camvid.py:PRESET`:

    (none)  laptop: 192x256, from scratch
    paper   the network of the paper, ResNet-101 and 19 classes of Cityscapes, with its crops
    smoke   seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets


def laptop() -> dict:
    return {
        "seed": 0,
        "num_steps": 800,
        "batch_size": 8,
        "log_every": 10,
        "eval_every": 400,
        "checkpoint_every": 100,
        "data": {"name": "camvid", "downscale": 2},
        "pipeline": {
            "input_size": (192, 256),
            "normalization": "imagenet",
            "augment": (("flip", {"vertical": False}), ("random_crop", {})),
        },
        "model": {
            "name": "semantic_fpn",
            "num_classes": 11,
            "backbone": {
                "name": "resnet",
                "depth": 18,
                "features": 64,
                "norm": {"momentum": 0.95},
            },
            "pyramid_features": 128,
            "features": 64,
            "norm": {"kind": "group", "groups": 32},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation"},
    }


def paper() -> dict:
    config = laptop()
    return config | {
        "num_steps": 65_000,
        "batch_size": 32,
        "log_every": 100,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "data": {"name": "cityscapes"},
        "pipeline": config["pipeline"]
        | {
            "input_size": (512, 1024),
            "augment": (
                ("random_scale", {}),
                ("flip", {"vertical": False}),
                ("random_crop", {}),
            ),
        },
        "model": {
            "name": "semantic_fpn",
            "num_classes": 19,
            "backbone": {"name": "resnet", "depth": 101},
            "pyramid_features": 256,
            "features": 128,
        },
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {
            "name": "multistep",
            "learning_rate": 0.01,
            "milestones": (40_000, 55_000),
            "warmup_steps": 1_000,
        },
    }


def smoke() -> dict:
    config = laptop()
    backbone = config["model"]["backbone"] | {"features": 4}
    model = {"num_classes": 5, "pyramid_features": 8, "features": 32}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": config["model"] | {"backbone": backbone} | model,
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, paper, smoke)
