r"""SegFormer-B0 to B5 on ADE20K: 150 classes of scenes.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo, NeurIPS 2021, arXiv 2105.15203, sections 3 and 4.1.

    python -m segjax.main --config=configs/segformer_ade20k.py --workdir=runs/segformer_ade20k \
        --data_root=FOLDER --config.initialization.input=FOLDER_OF_MIT_B0

FOLDER holds ADEChallengeData2016 (`images`, `annotations`); FOLDER_OF_MIT_B0 the weights of the
encoder, which has seen ImageNet (hf/mit-b0; for research, docs/weights.md).

The paper, mean IoU on ADE20K validation, single scale: B0 37.4, B1 42.2, B2 46.5, B3 49.4, B4
50.3, B5 51.0. Ours: not measured yet; a GPU is wanted. The decoder learns ten times as fast as the encoder.
Of the release there is no shrinking of validation images to sides of at most 512 and 2048
pixels (they are tested as they are), and `color_jitter` stands for its distortion of colours.

Presets, as `--config=configs/segformer_ade20k.py:PRESET`:

    (none)              B0, crops of 512
    b1, b2, b3, b4, b5  the larger ones; B5 with crops of 640
    smoke               seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

WIDE = (64, 128, 320, 512)


def b0() -> dict:
    return {
        "seed": 0,
        "num_steps": 160_000,
        "batch_size": 16,
        "log_every": 50,
        "eval_every": 16_000,
        "checkpoint_every": 2_000,
        "data": {"name": "ade20k"},
        "pipeline": {
            "input_size": (512, 512),
            "normalization": "imagenet",
            "augment": (
                ("random_scale", {"scale": (0.5, 2.0)}),
                ("random_crop", {}),
                ("flip", {"vertical": False}),
                ("color_jitter", {}),
            ),
        },
        "model": {
            "name": "segformer",
            "num_classes": 150,
            "backbone": {
                "name": "mix_transformer",
                "features": (32, 64, 160, 256),
                "blocks": (2, 2, 2, 2),
                "drop_path_rate": 0.1,
                "epsilon": 1e-6,
                "dtype": "float32",
            },
            "features": 256,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {
            "name": "adamw",
            "weight_decay": 0.01,
            "multipliers": tuple(
                (pattern, 10.0)
                for pattern in ("linear_*", "fuse/*", "norm/*", "logits/*")
            ),
        },
        "schedule": {
            "name": "poly",
            "learning_rate": 6e-5,
            "power": 1.0,
            "warmup_steps": 1_500,
        },
        "evaluation": {"split": "validation", "scales": (1.0,), "flip": False},
        "initialization": {"source": "hf/mit-b0", "input": "", "skip": ()},
    }


def larger(size: str, blocks: tuple[int, ...], features: int = 768) -> dict:
    config = b0()
    model = config["model"]
    backbone = model["backbone"] | {"features": WIDE, "blocks": blocks}
    return config | {
        "model": model | {"backbone": backbone, "features": features},
        "initialization": config["initialization"] | {"source": f"hf/mit-{size}"},
    }


def b1() -> dict:
    return larger("b1", (2, 2, 2, 2), features=256)


def b2() -> dict:
    return larger("b2", (3, 4, 6, 3))


def b3() -> dict:
    return larger("b3", (3, 4, 18, 3))


def b4() -> dict:
    return larger("b4", (3, 8, 27, 3))


def b5() -> dict:
    config = larger("b5", (3, 6, 40, 3))
    return config | {"pipeline": config["pipeline"] | {"input_size": (640, 640)}}


def smoke() -> dict:
    config = b0()
    model = config["model"]
    tiny = {"features": (4, 4, 5, 8), "blocks": (1, 1, 1, 1)}
    del config["initialization"]
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


get_config = presets(b0, b1, b2, b3, b4, b5, smoke)
