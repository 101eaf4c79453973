r"""PSPNet-101 on PASCAL VOC 2012: 20 kinds of objects and background.

Zhao, Shi, Qi, Wang, Jia, CVPR 2017, arXiv 1612.01105, sections 3.3, 5.1 and 5.3.

    python -m segjax.main --config=configs/pspnet_voc.py --workdir=runs/pspnet_voc \
        --data_root=FOLDER

FOLDER holds VOC2012 (`JPEGImages` and so on) with the list trainaug, whose labels often lie
in a folder of their own: `--config.data.labels=SegmentationClassAug`.

The paper, mean IoU on VOC 2012 test: 82.6, and 85.4 with COCO; the network begins with a
classifier of ImageNet. Ours: not measured yet. From random weights it does not come near;
torchvision's weights fit into the preset of that name:

    python -m segjax.main --config=configs/pspnet_voc.py:torchvision \
        --config.initialization.input=resnet101.safetensors --workdir=runs/pspnet_voc \
        --data_root=FOLDER

The batch of 16 crops is one batch for the statistics, too, on however many devices. New
layers learn ten times as fast. Tested by crops that overlap by a third, at one scale, with
the mirror image; the paper's six scales are
`--config.evaluation.scales="(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)"`. Other data sets of the
paper: 150 classes and ResNet-50 for ADE20K, 19 classes and crops of 713 for Cityscapes.

Presets, as `--config=configs/pspnet_voc.py:PRESET`; all but the last want a GPU:

    (none)       the published network, with its stem of three convolutions
    torchvision  on torchvision's ResNet-101, from its weights
    smoke        seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

SIDE = 473
"""Of a crop: one more than a multiple of 8, and 60 pixels of the last map."""


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
            "normalization": "imagenet",
            "augment": (
                ("random_scale", {"scale": (0.5, 2.0)}),
                ("random_rotation", {"angle": (-10.0, 10.0)}),
                ("random_crop", {}),
                ("flip", {"vertical": False}),
                ("gaussian_blur", {}),
            ),
        },
        "model": {
            "name": "pspnet",
            "num_classes": 21,
            "backbone": {
                "name": "resnet",
                "depth": 101,
                "output_stride": 8,
                "stem": "deep",
                "stem_pool": "ceil",
                "stride_on": "1x1",
                "dilate_first_block": True,
                "features": 64,
                "norm": {"momentum": 0.95},
                "dtype": "float32",
            },
            "bins": (1, 2, 3, 6),
            "pooling": "average",
            "features": 512,
            "aux_stage": "stage4",
            "dropout_rate": 0.1,
            "norm": {"momentum": 0.95},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy", "aux_weight": 0.4},
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "multipliers": (
                ("pyramid/*", 10.0),
                ("fuse/*", 10.0),
                ("logits/*", 10.0),
                ("aux*", 10.0),
            ),
        },
        "schedule": {"name": "poly", "learning_rate": 0.01, "power": 0.9},
        "evaluation": {
            "split": "validation",
            "scales": (1.0,),
            "flip": True,
            "crop": (SIDE, SIDE),
            "crop_stride": 2 / 3,
        },
    }


def torchvision() -> dict:
    config = paper()
    backbone = {
        "stem": "conv7",
        "stem_pool": "floor",
        "stride_on": "3x3",
        "dilate_first_block": False,
    }
    model = config["model"]
    return config | {
        "model": model | {"backbone": model["backbone"] | backbone},
        "initialization": {
            "source": "torchvision/resnet101",
            "input": "",
            "download": False,
            "skip": (),
        },
    }


def smoke() -> dict:
    config = paper()
    model = config["model"]
    backbone = model["backbone"] | {"depth": 26, "features": 4}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (49, 49)},
        "model": model | {"num_classes": 5, "backbone": backbone, "features": 8},
        "evaluation": config["evaluation"] | {"crop": (49, 49)},
    }


get_config = presets(paper, torchvision, smoke)
