r"""U-Net on MobileNet v2, on CamVid: 11 classes of a street, seen from a car.

A classifier of ImageNet as the way down (Sandler et al., CVPR 2018, arXiv 1801.04381), and the way
up of segmentation_models.pytorch; there is no paper of the two together.

    python -m segjax.main --config=configs/unet_mobilenet_camvid.py \
        --config.initialization.input=mobilenet_v2_1.0_224_quant.tflite \
        --workdir=runs/unet_mobilenet_camvid --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). The file is
that of github.com/google-coral/test_data (Apache 2.0), which
`--config.initialization.download=True` fetches instead. Ours: docs/results.md.

The way up is new, and has half the channels of the usual one; the backbone learns a tenth as
fast. Crops are cut from images that are enlarged by 1 to 2, and evaluation stretches images to
576x768 pixels.

Presets, as `--config=configs/unet_mobilenet_camvid.py:PRESET`:

    (none)   from the weights of ImageNet; some 15 minutes on 2 cores
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

IDENTITY = {"epsilon": 0.0, "frozen": True}
"""The norm of weights that have it in their kernels and biases already."""


def imagenet() -> dict:
    return {
        "seed": 0,
        "num_steps": 350,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 350,
        "checkpoint_every": 100,
        "data": {"name": "camvid"},
        "pipeline": {
            "input_size": (352, 448),
            "normalization": "tflite",
            "augment": (
                ("random_scale", {"scale": (1.0, 2.0)}),
                ("random_crop", {}),
                ("flip", {"vertical": False}),
                (
                    "color_jitter",
                    {
                        "brightness": (0.8, 1.25),
                        "contrast": (0.8, 1.25),
                        "saturation": (0.8, 1.25),
                        "hue": (0.0, 0.0),
                    },
                ),
            ),
        },
        "model": {
            "name": "unet_backbone",
            "num_classes": 11,
            "backbone": {
                "name": "mobilenet_v2",
                "last_features": None,
                "same_padding": True,
                "norm": IDENTITY,
                "dtype": "float32",
            },
            "features": (128, 64, 32, 24, 16),
            "norm": {"momentum": 0.95},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {
            "name": "adamw",
            "weight_decay": 1e-4,
            "clip_norm": 1.0,
            "multipliers": (("backbone/*", 0.1),),
        },
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 20},
        "evaluation": {
            "split": "validation",
            "input_size": (576, 768),
            "flip": False,
        },
        "initialization": {
            "source": "tflite/mobilenet_v2",
            "input": "",
            "download": False,
        },
    }


def smoke() -> dict:
    config = imagenet()
    model = config["model"]
    backbone = model["backbone"] | {"width": 0.1, "norm": {"momentum": 0.95}}
    small = {"num_classes": 5, "backbone": backbone, "features": (8, 8, 4, 4, 4)}
    del config["initialization"]
    return config | {
        "num_steps": 2,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": model | small,
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
        "evaluation": config["evaluation"] | {"input_size": (64, 64)},
    }


get_config = presets(imagenet, smoke)
