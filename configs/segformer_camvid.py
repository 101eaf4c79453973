r"""SegFormer-B0 on CamVid: 11 classes of a street, seen from a car.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo, NeurIPS 2021, arXiv 2105.15203, sections 3 and 4.1;
the paper has no CamVid.

    python -m segjax.main --config=configs/segformer_camvid.py --workdir=runs/segformer_camvid \
        --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). Ours: not
measured yet. A transformer wants more images than CamVid's 367: begin with the encoder that has
seen ImageNet (for research, docs/weights.md):

    python -m segjax.main --config=configs/segformer_camvid.py:imagenet \
        --config.initialization.input=FOLDER_OR_FILE_OF_MIT_B0 \
        --workdir=runs/segformer_camvid --data_root=FOLDER

Presets, as `--config=configs/segformer_camvid.py:PRESET`:

    (none)    laptop: 180x240, B0 with a decoder of 128 channels, from scratch
    imagenet  360x480, B0 as published, from the weights hf/mit-b0; the paper's optimizer: the
              decoder learns ten times as fast as the encoder
    smoke     seconds: a tiny network, two steps, tiny synthetic data
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
            "name": "segformer",
            "num_classes": 11,
            "backbone": {
                "name": "mix_transformer",
                "features": (32, 64, 160, 256),
                "blocks": (2, 2, 2, 2),
                "drop_path_rate": 0.0,
                "dtype": "float32",
            },
            "features": 128,
            "norm": {"momentum": 0.95},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 0.01, "clip_norm": 1.0},
        "schedule": {
            "name": "poly",
            "learning_rate": 1e-3,
            "power": 1.0,
            "warmup_steps": 50,
        },
        "evaluation": {"split": "validation"},
    }


def imagenet() -> dict:
    config = laptop()
    model = config["model"]
    backbone = model["backbone"] | {"drop_path_rate": 0.1, "epsilon": 1e-5}
    multipliers = tuple(
        (pattern, 10.0) for pattern in ("linear_*", "fuse/*", "norm/*", "logits/*")
    )
    return config | {
        "num_steps": 4_000,
        "batch_size": 8,
        "log_every": 50,
        "eval_every": 1_000,
        "checkpoint_every": 500,
        "data": {"name": "camvid"},
        "pipeline": config["pipeline"] | {"input_size": (360, 480)},
        "model": model | {"backbone": backbone, "features": 256},
        "optimizer": {
            "name": "adamw",
            "weight_decay": 0.01,
            "multipliers": multipliers,
        },
        "schedule": {
            "name": "poly",
            "learning_rate": 6e-5,
            "power": 1.0,
            "warmup_steps": 400,
        },
        "evaluation": config["evaluation"] | {"scales": (1.0,), "flip": False},
        "initialization": {
            "source": "hf/mit-b0",
            "input": "",
            "skip": (),
        },
    }


def smoke() -> dict:
    config = laptop()
    model = config["model"]
    tiny = {"features": (4, 4, 5, 8), "blocks": (1, 1, 1, 1)}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": model
        | {"num_classes": 5, "backbone": model["backbone"] | tiny, "features": 8},
        "schedule": config["schedule"] | {"warmup_steps": 1},
    }


get_config = presets(laptop, imagenet, smoke)
