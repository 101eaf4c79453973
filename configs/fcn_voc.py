r"""FCN on VGG-16, on PASCAL VOC 2012: 20 kinds of objects and background.

Long, Shelhamer, Darrell, CVPR 2015, arXiv 1411.4038, sections 4 and 5.

    python -m segjax.main --config=configs/fcn_voc.py:32s --workdir=runs/fcn32s \
        --config.initialization.input=vgg16.npz --data_root=FOLDER

FOLDER holds VOC2012 (`JPEGImages` and so on) with the list trainaug, whose labels often lie
in a folder of their own: `--config.data.labels=SegmentationClassAug`; vgg16.npz is Caffe's
VGG-16, trained on ImageNet, whose fc6 and fc7 become convolutions.

The paper, mean IoU on 736 images of VOC 2011 val: FCN-32s 59.4, FCN-16s 62.4, FCN-8s 62.7;
its release: 63.6, 65.0, 65.5, at once 65.4; FCN-AlexNet 39.8 and 48.0;
FCN-GoogLeNet 42.5. Ours: not measured yet.

Training is staged: FCN-16s starts from a trained FCN-32s, and FCN-8s from that, each at
a hundredth of the rate:

    python -m segjax.main --config=configs/fcn_voc.py:16s --workdir=runs/fcn16s \
        --config.initialization.input=runs/fcn32s --data_root=FOLDER

The three have the same names for the same parameters, so all weights of the one before
fit; the score layer that is new is zero, so that it adds nothing at first. FCN-8s at once
needs no stages: its skips are scaled down instead. The paper's AlexNet and GoogLeNet begin
with Caffe's classifiers, too, which are not sources of segjax.

Upsampling is fixed bilinear as in the release; with `--config.model.upsampling=paper`
all layers but the last are learned, as the paper has it.

Presets, as `--config=configs/fcn_voc.py:PRESET`; all but the last want a GPU:

    32s        from the classifier (also without a name)
    16s        from 32s
    8s         from 16s
    at_once    FCN-8s from the classifier
    alexnet    FCN-AlexNet on CaffeNet, from random weights
    googlenet  FCN-GoogLeNet on Caffe's, from random weights
    smoke      seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

RATE = 1e-4
"""Of FCN-32s; the paper's for VGG-16."""

EPOCHS = 175
IMAGES = 10_582
BATCH = 20


def stage32() -> dict:
    return {
        "seed": 0,
        "num_steps": EPOCHS * IMAGES // BATCH,
        "batch_size": BATCH,
        "log_every": 50,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "data": {"name": "voc", "train": "trainaug", "labels": "SegmentationClass"},
        "pipeline": {
            "input_size": (500, 500),
            "normalization": "caffe_vgg",
            "augment": (("random_crop", {}),),
        },
        "model": {
            "name": "fcn",
            "num_classes": 21,
            "backbone": {
                "name": "vgg",
                "depth": 16,
                "first_padding": 100,
                "ceil_mode": True,
                "fully_convolutional": True,
                "features": (64, 128, 256, 512, 512),
                "fc_features": 4096,
                "dropout_rate": 0.5,
                "dtype": "float32",
            },
            "skips": (),
            "skip_scales": (),
            "upsampling": "fixed",
            "zero_scores": True,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "multipliers": (("*/bias", 2.0),),
        },
        "schedule": {"name": "constant", "learning_rate": RATE},
        "evaluation": {
            "split": "validation",
            "tile": 0,
            "scales": (1.0,),
            "flip": False,
        },
        "initialization": {"source": "caffe/vgg16", "input": "", "skip": ()},
    }


def stage16() -> dict:
    config = stage32()
    return config | {
        "initialization": {"source": "segjax/run", "input": "", "skip": ()},
        "model": config["model"] | {"skips": ("stage4",)},
        "schedule": {"name": "constant", "learning_rate": RATE / 100},
    }


def stage8() -> dict:
    config = stage16()
    return config | {
        "model": config["model"] | {"skips": ("stage4", "stage3")},
        "schedule": {"name": "constant", "learning_rate": RATE / 10_000},
    }


def at_once() -> dict:
    config = stage32()
    skips = {"skips": ("stage4", "stage3"), "skip_scales": (0.01, 0.0001)}
    return config | {
        "num_steps": 3 * config["num_steps"],
        "model": config["model"] | skips,
    }


def alexnet() -> dict:
    config = stage32()
    del config["initialization"]
    backbone = {
        "name": "alexnet",
        "first_padding": 100,
        "fully_convolutional": True,
        "dropout_rate": 0.5,
        "dtype": "float32",
    }
    return config | {
        "model": config["model"] | {"backbone": backbone},
        "schedule": {"name": "constant", "learning_rate": 1e-3},
    }


def googlenet() -> dict:
    config = alexnet()
    backbone = {"name": "googlenet", "first_padding": 100, "dtype": "float32"}
    return config | {
        "model": config["model"] | {"backbone": backbone, "dropout_rate": 0.4},
        "schedule": {"name": "constant", "learning_rate": 5e-5},
    }


def smoke() -> dict:
    config = stage32()
    del config["initialization"]
    model = at_once()["model"]
    backbone = model["backbone"] | {"features": (2, 2, 4, 4, 4), "fc_features": 8}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": model | {"num_classes": 5, "backbone": backbone},
    }


get_config = presets(
    stage32,
    at_once,
    alexnet,
    googlenet,
    smoke,
    **{"32s": stage32, "16s": stage16, "8s": stage8},
)
