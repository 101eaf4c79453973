r"""U-Net on your own images: a folder with images/ and labels/.

Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597, in its padded form with batch
normalisation.

    python -m segjax.main --config=configs/unet_folder.py --data_root=FOLDER \
        --workdir=runs/mine

FOLDER holds images/ and labels/, files of the same names up to the ending; a label has
one number a pixel, or is a file of outlines. As it stands, 0 is background, 1 and 255 are
foreground; numbers of objects want --config.data.labels=instances. Images in colour want
--config.data.channels=3; other classes want a copy of this file, with their names, colours
and stored values. Where class 0 is not a background, leave `empty_page` out of the
augmentations.

Presets, as `--config=configs/unet_folder.py:PRESET`:

    (none)     a small network, 500 steps; about ten minutes on 2 cores
    scribbles  the same, for labels of a few strokes: 0 is not labelled and does not count,
               1 is background, 2 is foreground
    one_logit  the same two classes by one logit, whose sigmoid is the probability of the
               foreground; pos_weight of the loss is for a foreground that is rare
    overlapping  two classes that overlap, as a nucleus in its cell: a pixel of a label holds
               the sum of 1 (cell) and 2 (nucleus)
    smoke      seconds: a tiny network, two steps

No number to compare with: it depends on the images.
"""

from ml_collections.config_dict import FieldReference, placeholder

from segjax.config import presets
from segjax.types import IGNORE_LABEL


def default() -> dict:
    return {
        "seed": 0,
        "num_steps": 500,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 100,
        "checkpoint_every": 50,
        "data": {
            "name": "folder",
            "classes": (("background", (0, 0, 0)), ("foreground", (255, 160, 0))),
            "ignore": placeholder(int),
            "remap": ((255, 1),),
            "labels": "classes",
            "channels": FieldReference(1, object),  # or names of channels
            "validation_fraction": 0.2,
            "test_fraction": 0.0,
            "group": placeholder(str),
            "balance": placeholder(str),
        },
        "pipeline": {
            "input_size": (256, 256),
            "normalization": "percentiles",
            "percentiles": {"low": 1.0, "high": 99.8, "over": "image"},
            "foreground_fraction": 0.33,
            "augment": (
                ("flip", {}),
                ("quarter_turn", {}),
                ("gamma", {}),
                ("brightness_contrast", {"contrast": (0.7, 1.25)}),
                ("illumination", {"probability": 0.5}),
                ("gaussian_blur", {"std": (0.3, 1.0), "probability": 0.2}),
                ("gaussian_noise", {"std": 0.1}),
                ("empty_page", {}),
            ),
        },
        "model": {
            "name": "unet",
            "num_classes": 2,
            "features": (16, 32, 64, 128, 256),
            "padding": "SAME",
            "norm": {"kind": "batch", "momentum": 0.95},
            "dropout_rate": 0.0,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {
            "name": "optax.contrib:muon",
            "adam_learning_rate": 3e-3,  # of biases, norms, first and last layer
            "weight_decay": 1e-4,
            "clip_norm": 1.0,
        },
        "schedule": {"name": "cosine", "learning_rate": 0.02, "warmup_steps": 20},
        "evaluation": {"split": "validation"},
    }


def scribbles() -> dict:
    config = default()
    remap = ((0, IGNORE_LABEL), (1, 0), (2, 1))
    return config | {"data": config["data"] | {"remap": remap}}


def one_logit() -> dict:
    config = default()
    loss = {"name": "binary_cross_entropy_and_dice", "pos_weight": 1.0}
    model = config["model"] | {"num_classes": 1}
    return config | {"head": "sigmoid", "model": model, "loss": loss}


def overlapping() -> dict:
    config = default()
    classes = (("cell", (255, 160, 0)), ("nucleus", (0, 114, 178)))
    data = config["data"] | {"labels": "overlapping", "classes": classes, "remap": ()}
    return config | {"head": "sigmoid", "data": data, "loss": one_logit()["loss"]}


def smoke() -> dict:
    config = default()
    return config | {
        "num_steps": 2,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "pipeline": config["pipeline"] | {"input_size": (32, 32)},
        "model": config["model"] | {"features": (4, 8)},
        "schedule": {"name": "cosine", "learning_rate": 0.02, "warmup_steps": 1},
    }


get_config = presets(default, scribbles, one_logit, overlapping, smoke)
