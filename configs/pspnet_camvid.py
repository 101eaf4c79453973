r"""PSPNet on CamVid: 11 classes of a street, seen from a car.

Zhao, Shi, Qi, Wang, Jia, CVPR 2017, arXiv 1612.01105, sections 3 and 5.1; the paper has
no CamVid and no ResNet-18.

    python -m segjax.main --config=configs/pspnet_camvid.py --workdir=runs/pspnet_camvid \
        --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). Ours,
from scratch: docs/results.md.

Presets, as `--config=configs/pspnet_camvid.py:PRESET`:

    (none)   laptop: 180x240, ResNet-18 at output stride 16; 5 to 11 minutes on 2 cores
    paper    PSPNet-50 as published, at 360x480; wants a GPU. Rate, "poly", momentum,
             decay, batch, auxiliary loss, scales, rotation and mirroring are the
             paper's; but all layers begin at random and learn at one rate (there new
             ones ten times as fast), nothing is blurred (there ADE20K and VOC are),
             a crop is a frame (713 on Cityscapes), 10,000 steps (90,000), and frames
             are tested whole (by crops)
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
            "input_size": (177, 241),
            "normalization": "imagenet",
            "augment": AUGMENT,
        },
        "model": {
            "name": "pspnet",
            "num_classes": 11,
            "backbone": {
                "name": "resnet",
                "depth": 18,
                "output_stride": 16,
                "norm": {"momentum": 0.95},
                "dtype": "float32",
            },
            "bins": (1, 2, 3, 6),
            "features": 128,
            "dropout_rate": 0.1,
            "norm": {"momentum": 0.95},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy", "aux_weight": 0.4},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation"},
    }


def paper() -> dict:
    config = laptop()
    backbone = {
        "name": "resnet",
        "depth": 50,
        "output_stride": 8,
        "stem": "deep",
        "stem_pool": "ceil",
        "stride_on": "1x1",
        "dilate_first_block": True,
        "norm": {"momentum": 0.95},
        "dtype": "float32",
    }
    return config | {
        "num_steps": 10_000,
        "batch_size": 16,
        "log_every": 50,
        "eval_every": 1_000,
        "checkpoint_every": 500,
        "data": {"name": "camvid"},
        "pipeline": config["pipeline"]
        | {
            # Multiples of 8 and one, at least as large as a frame.
            "input_size": (361, 481),
            "augment": (
                ("random_scale", {"scale": (0.5, 2.0)}),
                ("random_rotation", {"angle": (-10.0, 10.0)}),
                ("random_crop", {}),
                ("flip", {"vertical": False}),
            ),
        },
        "model": config["model"] | {"backbone": backbone, "features": 512},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "poly", "learning_rate": 0.01, "power": 0.9},
        "evaluation": config["evaluation"] | {"scales": (1.0,), "flip": True},
    }


def smoke() -> dict:
    config = laptop()
    model = config["model"]
    backbone = model["backbone"] | {"features": 4}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (65, 65)},
        "model": model | {"num_classes": 5, "backbone": backbone, "features": 8},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, paper, smoke)
