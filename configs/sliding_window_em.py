"""Sliding-window classification of pixels, on sections of electron microscopy.

Ciresan, Giusti, Gambardella, Schmidhuber, NIPS 2012, "Deep neural networks segment
neuronal membranes in electron microscopy images"; the network is N3 (patches of 65x65,
48 maps, 200 hidden units; its laptop form has 32 and 128).

    python -m segjax.main --config=configs/sliding_window_em.py --workdir=runs/sliding_window

Each example is one patch, and its label that of its middle pixel, as in the paper;
patches are sampled evenly over the sections, and class weights stand in for the paper's
equal number of membrane and other pixels. Evaluation takes the dense form, which gives
the numbers of all patches at once (benchmarks/sliding_window.py measures by how much).

The paper, on the unpublished labels of the ISBI 2012 test stack, as table 1 of U-Net
(arXiv 1505.04597) has it: warping error 0.000420, Rand error 0.0504. Ours:
docs/results.md.

Presets, as `--config=configs/sliding_window_em.py:PRESET`:

    (none)   laptop: fewer channels, embedded data; some minutes on 2 cores
    isbi     N3's channels, on the ISBI 2012 stack (--data_root holds its TIFFs)
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets


def laptop() -> dict:
    return {
        "seed": 0,
        "num_steps": 1_500,
        "batch_size": 128,
        "log_every": 50,
        "eval_every": 750,
        "checkpoint_every": 250,
        "data": {"name": "em_sections"},
        "pipeline": {
            "input_size": (65, 65),
            "normalization": "per_image",
            "augment": (("flip", {}), ("quarter_turn", {})),
        },
        "model": {
            "name": "sliding_window",
            "num_classes": 2,
            "kernels": (5, 5, 5),
            "features": 32,
            "fc_features": 128,
            "patch": 65,
            "norm": {"kind": "batch", "momentum": 0.95},
            "form": "patches",
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy", "class_weights": (2.0, 0.7)},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup_steps": 50},
        "evaluation": {
            "split": "validation",
            "cell_class": 1,
            "model_overrides": {"form": "dense"},
        },
    }


def isbi() -> dict:
    config = laptop()
    return config | {
        "num_steps": 10_000,
        "eval_every": 2_500,
        "data": {"name": "isbi_em"},
        "model": config["model"] | {"features": 48, "fc_features": 200},
    }


def smoke() -> dict:
    config = laptop()
    small = {"kernels": (4, 3), "features": 4, "fc_features": 6, "patch": 15}
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
        "pipeline": config["pipeline"] | {"input_size": (15, 15)},
        "model": config["model"] | small,
        "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, isbi, smoke)
