r"""U-Net with ResNet-34 as encoder, from torchvision's weights, on your own colour images.

Iglovikov, Shvets 2018, arXiv 1801.05746, on a ResNet, in the form of
segmentation_models.pytorch.

    python -m segjax.main --config=configs/unet_resnet_folder.py --data_root=FOLDER \
        --config.initialization.download=True --workdir=runs/mine

FOLDER is as for `configs/unet_folder.py`, with images in colour. The weights of ImageNet are
fetched from torchvision's address; `--config.initialization.input=resnet34.pth` takes a file.

Presets, as `--config=configs/unet_resnet_folder.py:PRESET`:

    (none)  256x256, 2,000 steps, from torchvision's weights; wants a GPU, or some hours
    random  the same from random weights
    smoke   seconds: a tiny network, two steps

No number to compare with: it depends on the images.
"""

from ml_collections.config_dict import placeholder

from segjax.config import presets


def default() -> dict:
    return {
        "seed": 0,
        "num_steps": 2_000,
        "batch_size": 8,
        "log_every": 20,
        "eval_every": 200,
        "checkpoint_every": 100,
        "data": {
            "name": "folder",
            "classes": (("background", (0, 0, 0)), ("foreground", (255, 160, 0))),
            "ignore": placeholder(int),
            "remap": ((255, 1),),
            "labels": "classes",
            "channels": 3,
            "validation_fraction": 0.2,
            "test_fraction": 0.0,
            "group": placeholder(str),
            "balance": placeholder(str),
        },
        "pipeline": {
            "input_size": (256, 256),
            "normalization": "imagenet",
            "foreground_fraction": 0.33,
            "augment": (
                ("flip", {}),
                ("quarter_turn", {}),
                ("brightness_contrast", {"contrast": (0.7, 1.25)}),
            ),
        },
        "model": {
            "name": "unet_backbone",
            "num_classes": 2,
            "backbone": {"name": "resnet", "depth": 34, "features": 64},
            "features": (256, 128, 64, 32, 16),
            "norm": {"kind": "batch", "momentum": 0.9},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy_and_dice"},
        "optimizer": {
            "name": "adamw",
            "weight_decay": 1e-4,
            "clip_norm": 1.0,
            "multipliers": (("backbone/*", 0.1),),
        },
        "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup_steps": 50},
        "evaluation": {"split": "validation"},
        "initialization": {
            "source": "torchvision/resnet34",
            "input": "",
            "download": False,
            "skip": ("fc",),
        },
    }


def random() -> dict:
    config = default()
    config["optimizer"].pop("multipliers")
    config.pop("initialization")
    return config


def smoke() -> dict:
    config = random()
    backbone = {"name": "resnet", "depth": 18, "features": 4}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "pipeline": config["pipeline"] | {"input_size": (32, 32)},
        "model": config["model"] | {"backbone": backbone, "features": (8, 8, 4, 4, 4)},
        "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup_steps": 1},
    }


get_config = presets(default, random, smoke)
