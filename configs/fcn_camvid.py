r"""FCN-8s on ResNet-18, on CamVid: 11 classes of a street, seen from a car.

Long, Shelhamer, Darrell, CVPR 2015, arXiv 1411.4038, section 4. The paper has no CamVid
and stands on VGG-16: this is its decoder, skips at strides 16 and 8 and crops to the
pixel, at the size of a laptop, trained from scratch.

    python -m segjax.main --config=configs/fcn_camvid.py --workdir=runs/fcn_camvid \
        --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). Ours:
docs/results.md.

Presets, as `--config=configs/fcn_camvid.py:PRESET`:

    (none)   laptop: 180x240, from scratch; 4 to 10 minutes on 2 cores
    plain    the same network by the recipe of FCN's days: SGD, poly, crops and mirrors
    modern   the same steps by a recipe of today: AdamW, cosine, RandAugment, CutMix, a
             moving average (docs/sweeps_and_comparison.md compares the two)
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

AUGMENT: tuple[tuple[str, dict], ...] = (
    ("random_scale", {"scale": (0.75, 1.5)}),
    ("random_crop", {}),
    ("flip", {"vertical": False}),
)
"""The augmentations of all laptop presets on CamVid, so that their results can be compared."""

RECIPE_STEPS = 1300
"""Steps of the presets whose recipes are compared: 8 minutes on 2 quiet cores at most."""


def laptop() -> dict:
    return {
        "seed": 0,
        "num_steps": 800,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 400,
        "checkpoint_every": 100,
        "data": {"name": "camvid", "downscale": 2},
        "pipeline": {
            "input_size": (180, 240),
            "normalization": "imagenet",
            "augment": AUGMENT,
        },
        "model": {
            "name": "fcn",
            "num_classes": 11,
            "backbone": {
                "name": "resnet",
                "depth": 18,
                "norm": {"momentum": 0.95},
                "dtype": "float32",
            },
            "skips": ("stage4", "stage3"),
            "upsampling": "learned",
            "zero_scores": False,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation"},
    }


def plain() -> dict:
    return laptop() | {
        "num_steps": RECIPE_STEPS,
        "eval_every": RECIPE_STEPS // 2,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "poly", "learning_rate": 0.03, "warmup_steps": 20},
    }


def modern() -> dict:
    config = laptop()
    augment = (*AUGMENT, ("rand_augment", {"num_ops": 2, "magnitude": 9}))
    return config | {
        "num_steps": RECIPE_STEPS,
        "eval_every": RECIPE_STEPS // 2,
        "pipeline": config["pipeline"] | {"augment": augment},
        "mix": {"name": "cutmix", "alpha": 1.0, "probability": 0.5},
        "ema": {"decay": 0.99},
        "optimizer": {"name": "adamw", "weight_decay": 0.05, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 20},
    }


def smoke() -> dict:
    config = laptop()
    backbone = config["model"]["backbone"] | {"features": 4}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": config["model"] | {"num_classes": 5, "backbone": backbone},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, plain, modern, smoke)
