r"""Dilation8 on PASCAL VOC 2012: a front end without late pooling, and a context module.

Yu & Koltun, ICLR 2016, arXiv 1511.07122, sections 3 to 5, and the authors' release.

    python -m segjax.main --config=configs/dilated_voc.py:front_end --workdir=runs/front_end \
        --config.initialization.input=vgg16.npz --data_root=FOLDER
    python -m segjax.main --config=configs/dilated_voc.py --workdir=runs/dilated \
        --config.initialization.input=runs/front_end --data_root=FOLDER

FOLDER holds VOC2012 (`JPEGImages` and so on) with the list trainaug, whose labels often lie
in a folder of their own: `--config.data.labels=SegmentationClassAug`.

The paper, mean IoU on the validation images, with COCO's in training: front end 69.8, with
the basic context module 71.3, with the large one 72.1; front end without COCO on the test
images 67.6. Ours: not measured yet.

The front end begins with VGG-16 of ImageNet, vgg16.npz in Caffe's form; images are less
the means of the authors' release, which differ from VGG's by some grey values, so a
warning says so. The context module begins as the identity on a trained front end, whose
parameters have the same names, and both are trained together, at a hundredth of the rate.

The convolutions are not padded. In training as in prediction, images are continued by 186
mirrored pixels on each side: crops of 500 pixels, those of the authors' document, answer
for the 128 in their middle.

Presets, as `--config=configs/dilated_voc.py:PRESET`; all but the last want a GPU:

    (none)       front end and large context module, from a trained front end
    front_end    the front end alone, from Caffe's VGG-16
    basic        front end and basic context module, from a trained front end
    torchvision  the front end from torchvision's VGG-16
    smoke        seconds: a tiny network, two steps, tiny synthetic data
"""

from ml_collections.config_dict import placeholder

from segjax.config import presets

SIDE = 500
"""Of a crop: 4 more than a multiple of 8."""


def front_end() -> dict:
    return {
        "seed": 0,
        "num_steps": 60_000,
        "batch_size": 14,
        "log_every": 50,
        "eval_every": 10_000,
        "checkpoint_every": 1_000,
        "data": {"name": "voc", "train": "trainaug", "labels": "SegmentationClass"},
        "pipeline": {
            "input_size": (SIDE, SIDE),
            "normalization": "dilation_voc",
            # Without `random_crop`, which would leave the margin of 186 pixels unmirrored.
            "augment": (("flip", {"vertical": False}),),
        },
        "model": {
            "name": "dilated",
            "num_classes": 21,
            "backbone": {
                "name": "vgg",
                "depth": 16,
                "padding": 0,
                "first_padding": 0,
                "output_stride": 8,
                "fully_convolutional": True,
                "dtype": "float32",
            },
            "context": placeholder(str),
            "context_padding": "each",
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "constant", "learning_rate": 1e-3},
        "evaluation": {"split": "validation", "scales": (1.0,), "flip": False},
        "initialization": {"source": "caffe/vgg16", "input": "", "skip": ()},
    }


def joint(context: str) -> dict:
    config = front_end()
    padding = "first" if context == "large" else "each"
    changes = {"context": context, "context_padding": padding}
    return config | {
        "model": config["model"] | changes,
        "schedule": {"name": "constant", "learning_rate": 1e-5},
        "initialization": {"source": "segjax/run", "input": "", "skip": ()},
    }


def large() -> dict:
    return joint("large")


def basic() -> dict:
    return joint("basic")


def torchvision() -> dict:
    config = front_end()
    return config | {
        "pipeline": config["pipeline"] | {"normalization": "imagenet"},
        "initialization": {
            "source": "torchvision/vgg16",
            "input": "",
            "download": False,
            "skip": (),
        },
    }


def smoke() -> dict:
    config = basic()
    model = config["model"]
    backbone = model["backbone"] | {
        "depth": 11,
        "features": (2, 2, 3, 3, 3),
        "fc_features": 4,
    }
    del config["initialization"]
    small = {"num_classes": 5, "backbone": backbone, "dilations": (1, 2, 1)}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (350, 350)},
        "model": model | small,
    }


get_config = presets(large, front_end, basic, torchvision, smoke)
