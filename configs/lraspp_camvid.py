r"""LR-ASPP on MobileNet v3-large, on CamVid: 11 classes of a street, seen from a car.

Howard et al., ICCV 2019, arXiv 1905.02244, section 6.4; the paper measures on Cityscapes
and begins with random weights, as does this.

    python -m segjax.main --config=configs/lraspp_camvid.py --workdir=runs/lraspp_camvid \
        --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). Ours:
not measured yet. torchvision's weights fit into the preset of that name:

    python -m segjax.main --config=configs/lraspp_camvid.py:torchvision \
        --config.initialization.input=lraspp_mobilenet_v3_large.safetensors \
        --workdir=runs/lraspp_camvid --data_root=FOLDER

Presets, as `--config=configs/lraspp_camvid.py:PRESET`:

    (none)       laptop: 180x240, from scratch, with two cores
    torchvision  360x480, from torchvision's weights of all but the scores
    smoke        seconds: a tiny network, two steps, tiny synthetic data
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
            "input_size": (180, 240),
            "normalization": "imagenet",
            "augment": (("flip", {"vertical": False}),),
        },
        "model": {
            "name": "lraspp",
            "num_classes": 11,
            "backbone": {
                "name": "mobilenet_v3",
                "output_stride": 16,
                "dilate_first_block": True,
                "width": 1.0,
                "norm": {"momentum": 0.95},
                "dtype": "float32",
            },
            "low_level_stage": "stage3_first",
            "features": 128,
            "norm": {"momentum": 0.95},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation"},
    }


def torchvision() -> dict:
    config = laptop()
    model = config["model"] | {"norm": {"momentum": 0.9}}
    return config | {
        "num_steps": 5_000,
        "batch_size": 16,
        "log_every": 50,
        "eval_every": 1_000,
        "checkpoint_every": 500,
        "data": {"name": "camvid"},
        "pipeline": config["pipeline"] | {"input_size": (360, 480)},
        "model": model | {"backbone": model["backbone"] | {"norm": {"momentum": 0.99}}},
        "schedule": {
            "name": "poly",
            "learning_rate": 3e-4,
            "power": 0.9,
            "warmup_steps": 100,
        },
        "evaluation": config["evaluation"] | {"scales": (1.0,), "flip": False},
        "initialization": {
            "source": "torchvision/lraspp_mobilenet_v3_large",
            "input": "",
            "download": False,
            "skip": ("classifier.low_classifier", "classifier.high_classifier"),
        },
    }


def smoke() -> dict:
    config = laptop()
    backbone = config["model"]["backbone"] | {"width": 0.1}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": config["model"]
        | {"num_classes": 5, "backbone": backbone, "features": 8},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, torchvision, smoke)
