r"""DeepLab v3 on ResNet-101, on PASCAL VOC 2012: 20 kinds of objects and background.

Chen, Papandreou, Schroff, Adam 2017, arXiv 1706.05587, section 4.

    python -m segjax.main --config=configs/deeplab_v3_voc.py --workdir=runs/deeplab_v3_voc \
        --data_root=FOLDER

FOLDER holds VOC2012 (`JPEGImages` and so on) with the list trainaug, whose labels often lie
in a folder of their own: `--config.data.labels=SegmentationClassAug`.

The paper, mean IoU on the validation set, trained on trainaug at output stride 16: 77.21,
evaluated at 8 78.51, with six scales 79.45 and mirror images 79.77; the network begins
with a classifier of ImageNet. Ours: not measured yet. From random weights it does not come
near; torchvision's weights fit into the preset of that name:

    python -m segjax.main --config=configs/deeplab_v3_voc.py:torchvision \
        --config.initialization.input=resnet101.safetensors \
        --workdir=runs/deeplab_v3_voc --data_root=FOLDER

Evaluated at output stride 8 with the same weights, at one scale; the paper's others are
`--config.evaluation.scales="(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)"` with
`--config.evaluation.flip=True` and room for the largest, `--config.evaluation.crop="(881,
881)"`. For its second phase, 30,000 steps on trainval at output stride 8, the statistics
are held (`norm.frozen`) and the rate begins at 0.001.

Presets, as `--config=configs/deeplab_v3_voc.py:PRESET`; all but the last want a GPU:

    (none)       the published network, its stages striding in their last blocks; those
                 of the last stage have rates 2, 4, 8 (at output stride 8: 4, 8, 16)
    torchvision  on torchvision's ResNet-101, from its weights; its stages stride in
                 their first blocks, and where the last one does not, the first block
                 keeps the rate before: 1, 4, 8 (at output stride 8: 2, 8, 16)
    smoke        seconds: a tiny network, two steps, tiny synthetic data
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
            "normalization": "imagenet",
            "augment": (
                ("random_scale", {"scale": (0.5, 2.0)}),
                ("random_crop", {}),
                ("flip", {"vertical": False}),
            ),
        },
        "model": {
            "name": "deeplab_v3",
            "num_classes": 21,
            "backbone": {
                "name": "resnet",
                "depth": 101,
                "output_stride": 16,
                "multi_grid": (1, 2, 4),
                "stride_on": "last",
                "features": 64,
                "norm": {"momentum": 0.9997},
                "dtype": "float32",
            },
            "rates": (6, 12, 18),
            "features": 256,
            "norm": {"momentum": 0.9997},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "poly", "learning_rate": 0.007, "power": 0.9},
        "evaluation": {
            "split": "validation",
            "scales": (1.0,),
            "flip": False,
            "crop": (SIDE, SIDE),  # all of an image, filled up: one compilation
            "model_overrides": {"backbone": {"output_stride": 8}},
        },
    }


def torchvision() -> dict:
    config = paper()
    backbone = config["model"]["backbone"] | {"stride_on": "3x3"}
    return config | {
        "model": config["model"] | {"backbone": backbone},
        "initialization": {
            "source": "torchvision/resnet101",
            "input": "",
            "download": False,
            "skip": (),
        },
    }


def smoke() -> dict:
    config = paper()
    backbone = config["model"]["backbone"]
    backbone |= {"depth": 18, "multi_grid": (1, 2), "stride_on": "3x3", "features": 4}
    small = {"num_classes": 5, "features": 8, "backbone": backbone}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (65, 65)},
        "model": config["model"] | small,
        "evaluation": config["evaluation"] | {"crop": (65, 65)},
    }


get_config = presets(paper, torchvision, smoke)
