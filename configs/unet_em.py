r"""U-Net on sections of electron microscopy: cell against membrane.

Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597, sections 2 and 3.

    python -m segjax.main --config=configs/unet_em.py --workdir=runs/unet_em
    python -m segjax.main --config=configs/unet_em.py:isbi --data_root=FOLDER \
        --workdir=runs/isbi

The paper, on the unpublished labels of the ISBI 2012 test stack: warping error 0.000353,
Rand error 0.0382. Ours, with date and hardware: docs/results.md.

Presets, as `--config=configs/unet_em.py:PRESET`:

    (none)   laptop: embedded data, a small padded U-Net; 4 minutes on 2 cores
    isbi     one level more, on the ISBI 2012 stack (--data_root holds its TIFFs);
             20 minutes on 2 cores
    paper    the published network, crop and recipe on the ISBI 2012 stack; wants a GPU
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

Step = tuple[str, dict]
MOVES: tuple[Step, ...] = (("flip", {}), ("quarter_turn", {}))
GREY_VALUES: Step = ("brightness_contrast", {})
AUGMENT: tuple[Step, ...] = (
    *MOVES,
    ("elastic_deformation", {"std": 10.0}),
    GREY_VALUES,
)
"""Flips, turns, the paper's elastic deformation, and grey values."""


def laptop() -> dict:
    return {
        "seed": 0,
        "num_steps": 300,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 100,
        "checkpoint_every": 50,
        "data": {"name": "em_sections"},
        "pipeline": {
            "input_size": (192, 192),
            "normalization": "per_image",
            "augment": AUGMENT,
        },
        "model": {
            "name": "unet",
            "num_classes": 2,
            "features": (16, 32, 64, 128),
            "padding": "SAME",
            "norm": {"kind": "batch", "momentum": 0.95},
            "dropout_rate": 0.0,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation", "cell_class": 1},
    }


def isbi() -> dict:
    config = laptop()
    # Without the elastic deformation: in these few steps the network does not yet overfit,
    # and the warp smooths the noise that the sections it is measured on have.
    pipeline = {"input_size": (256, 256), "augment": (*MOVES, GREY_VALUES)}
    return config | {
        "num_steps": 800,
        "eval_every": 400,
        "data": {"name": "isbi_em"},
        "pipeline": config["pipeline"] | pipeline,
        "model": config["model"] | {"features": (16, 32, 64, 128, 256)},
        "evaluation": config["evaluation"] | {"dihedral_tta": True},
    }


def paper() -> dict:
    config = laptop()
    return config | {
        "num_steps": 60_000,
        "batch_size": 1,
        "log_every": 100,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "data": {"name": "isbi_em"},
        "pipeline": {
            "input_size": (572, 572),
            "normalization": "range",
            "augment": AUGMENT,
            "border_weight": {
                "cell_class": 1,
                "w0": 10.0,
                "sigma": 5.0,
                "balance": True,
            },
        },
        "model": {
            "name": "unet",
            "num_classes": 2,
            "features": (64, 128, 256, 512, 1024),
            "padding": "VALID",
            "norm": None,
            "dropout_rate": 0.5,
            "dtype": "float32",
        },
        "optimizer": {"name": "sgd", "momentum": 0.99},
        "schedule": {"name": "constant", "learning_rate": 1e-3},
        "evaluation": config["evaluation"] | {"dihedral_tta": True},
    }


def smoke() -> dict:
    config = laptop()
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {
            "name": "em_sections",
            "size": 128,
            "train": 2,
            "validation": 1,
            "test": 1,
        },
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": config["model"] | {"features": (4, 8)},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, isbi, paper, smoke)
