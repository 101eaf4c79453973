r"""DeepLab v3+ on Xception-65, on PASCAL VOC 2012: 20 kinds of objects and background.

Chen, Zhu, Papandreou, Schroff, Adam, ECCV 2018, arXiv 1802.02611, section 4.

    python -m segjax.main --config=configs/deeplab_v3plus_voc.py \
        --workdir=runs/deeplab_v3plus_voc --data_root=FOLDER

FOLDER holds VOC2012 (`JPEGImages` and so on) with the list trainaug, whose labels often lie
in a folder of their own: `--config.data.labels=SegmentationClassAug`.

The paper, mean IoU on the validation set, trained at output stride 16 from a classifier of
ImageNet; evaluated there at one scale, and at output stride 8 with six scales and mirror
images:

    Xception-65, separable convolutions   79.79   81.39
    Xception-65, dense convolutions       79.93   81.63   --config.model.separable=False
    ResNet-101, dense convolutions        78.85   80.57   preset resnet101

Ours: not measured yet. From random weights it does not come near.

Evaluated as trained; `--config.evaluation.model_overrides.backbone.output_stride=8` takes the same
weights at a finer stride, and the paper's six scales are
`--config.evaluation.scales="(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)"` with
`--config.evaluation.flip=True` and `--config.evaluation.crop="(881, 881)"`, room for the
largest.

Presets, as `--config=configs/deeplab_v3plus_voc.py:PRESET`; all but the last want a GPU:

    (none)     Xception-65, separable convolutions in ASPP and decoder
    resnet101  ResNet-101, dense convolutions (the paper's table 3), from torchvision's
               weights and in its form: rates of the last stage are 1, 4, 8, not 2, 4, 8
    smoke      seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

SIDE = 513
"""Of a crop: one more than a multiple of 16, and 33 pixels of the last map."""


def paper() -> dict:
    return {
        "seed": 0,
        "num_steps": 30_000,
        "batch_size": 16,
        "log_every": 50,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "data": {"name": "voc", "train": "trainaug", "labels": "SegmentationClass"},
        "pipeline": {
            "input_size": (SIDE, SIDE),
            "normalization": "tf",
            "augment": (
                ("random_scale", {"scale": (0.5, 2.0)}),
                ("random_crop", {}),
                ("flip", {"vertical": False}),
            ),
        },
        "model": {
            "name": "deeplab_v3plus",
            "num_classes": 21,
            "backbone": {
                "name": "xception",
                "depth": 65,
                "output_stride": 16,
                "width": 1.0,
                "norm": {"momentum": 0.9997, "epsilon": 1e-3},
                "dtype": "float32",
            },
            "rates": (6, 12, 18),
            "features": 256,
            "low_level_features": 48,
            "decoder_features": (256, 256),
            "separable": True,
            "norm": {"momentum": 0.9997},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 4e-5},
        "schedule": {"name": "poly", "learning_rate": 0.007, "power": 0.9},
        "evaluation": {
            "split": "validation",
            "scales": (1.0,),
            "flip": False,
            "crop": (SIDE, SIDE),  # all of an image, filled up: one compilation
            "model_overrides": {"backbone": {"output_stride": 16}},
        },
    }


def resnet101() -> dict:
    config = paper()
    backbone = {
        "name": "resnet",
        "depth": 101,
        "output_stride": 16,
        "multi_grid": (1, 2, 4),
        "norm": {"momentum": 0.9997},
        "dtype": "float32",
    }
    return config | {
        "pipeline": config["pipeline"] | {"normalization": "imagenet"},
        "model": config["model"] | {"backbone": backbone, "separable": False},
        "optimizer": config["optimizer"] | {"weight_decay": 1e-4},
        "initialization": {
            "source": "torchvision/resnet101",
            "input": "",
            "download": False,
            "skip": (),
        },
    }


def smoke() -> dict:
    config = paper()
    backbone = config["model"]["backbone"] | {"depth": 41, "width": 1 / 64}
    small = {"features": 8, "low_level_features": 4, "decoder_features": (8,)}
    model = config["model"] | {"num_classes": 5, "backbone": backbone} | small
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (65, 65)},
        "model": model,
        "evaluation": config["evaluation"] | {"crop": (65, 65)},
    }


get_config = presets(paper, resnet101, smoke)
