r"""DeepLab v2 on PASCAL VOC 2012: atrous spatial pyramid pooling on ResNet-101 and VGG-16.

Chen, Papandreou, Kokkinos, Murphy, Yuille, TPAMI 2017, arXiv 1606.00915, section 4.1.

    python -m segjax.main --config=configs/deeplab_v2_voc.py --workdir=runs/deeplab_v2 \
        --data_root=FOLDER

FOLDER holds VOC2012 (`JPEGImages` and so on) with the list trainaug, whose labels often lie
in a folder of their own: `--config.data.labels=SegmentationClassAug`.

The paper, mean IoU on the validation images before (after) the fully connected CRF:
ResNet-101, three scales, weights of COCO, 76.35 (77.69); VGG-16 ASPP-L 68.96 (71.57),
ASPP-S 66.98 (69.73), LargeFOV 65.76 (69.84). Ours: not measured yet. The paper begins with
classifiers of ImageNet. Those on VGG-16 begin with Caffe's release, which is named with

    --config.initialization.input=vgg16.npz

fc6 and fc7 begin at random (the paper keeps a part of VGG's). The ResNet-101 of the paper
is not a source of segjax; torchvision's strides in other places, so it has a preset of its
own, `--config.initialization.input=resnet101.safetensors`. Batch normalisation keeps the
statistics that it came with, so from random weights the networks on ResNet do not train;
its scales and biases are trained.

The CRF is that of the authors' script, `evaluate --crf` and `predict --crf`; the paper
searches w1 from 3 to 6, sigma_alpha from 30 to 100, sigma_beta from 3 to 6 on 100 validation
images. Each kernel is divided by its row sums, as in the authors' code.

The loss is taken on logits that are interpolated to the size of the image; the paper
takes it on the map of scores, with labels shrunk by 8.

Presets, as `--config=configs/deeplab_v2_voc.py:PRESET`; all but the last want a GPU:

    (none)       ResNet-101, ASPP-L, three scales fused by their maximum
    single       the same at one scale
    vgg_aspp_l   VGG-16, rates 6, 12, 18, 24
    vgg_aspp_s   VGG-16, rates 2, 4, 8, 12
    torchvision  the first, on torchvision's ResNet-101
    smoke        seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

SIDE = 321
"""Of a crop: one more than a multiple of 8, and 41 scores."""


def resnet() -> dict:
    return {
        "seed": 0,
        "num_steps": 20_000,
        "batch_size": 10,
        "log_every": 50,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "data": {"name": "voc", "train": "trainaug", "labels": "SegmentationClass"},
        "pipeline": {
            "input_size": (SIDE, SIDE),
            "normalization": "caffe_vgg",
            "augment": (
                ("random_scale", {"steps": (0.5, 0.75, 1.0, 1.25, 1.5)}),
                ("random_crop", {}),
                ("flip", {"vertical": False}),
            ),
        },
        "model": {
            "name": "deeplab_v2",
            "num_classes": 21,
            "backbone": {
                "name": "resnet",
                "depth": 101,
                "output_stride": 8,
                "stem_pool": "ceil",
                "stride_on": "1x1",
                "dilate_first_block": True,
                "norm": {"frozen": True},
                "dtype": "float32",
            },
            "rates": (6, 12, 18, 24),
            "scales": (1.0, 0.75, 0.5),
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "multipliers": (("branch*/scores/*", 10.0), ("branch*/scores/bias", 2.0)),
        },
        "schedule": {"name": "poly", "learning_rate": 2.5e-4, "power": 0.9},
        "evaluation": {
            "split": "validation",
            "tile": 0,
            "scales": (1.0,),
            "flip": False,
        },
        "crf": {
            "w1": 4.0,
            "sigma_alpha": 49.0,
            "sigma_beta": 5.0,
            "w2": 3.0,
            "sigma_gamma": 3.0,
            "num_iterations": 10,
            "normalization": "after",
        },
    }


def single() -> dict:
    config = resnet()
    return config | {"model": config["model"] | {"scales": (1.0,)}}


def vgg(rates: tuple[int, ...]) -> dict:
    config = single()
    backbone = {
        "name": "vgg",
        "depth": 16,
        "pool_window": 3,
        "ceil_mode": True,
        "output_stride": 8,
        "dtype": "float32",
    }
    changes = {"backbone": backbone, "rates": rates, "fc_features": 1024}
    return config | {
        "model": config["model"] | changes,
        "optimizer": config["optimizer"]
        | {"multipliers": (("branch*/scores/*", 10.0), ("*/bias", 2.0))},
        "schedule": {"name": "poly", "learning_rate": 1e-3, "power": 0.9},
        "initialization": {"source": "caffe/vgg16", "input": "", "skip": ()},
    }


def vgg_aspp_l() -> dict:
    return vgg((6, 12, 18, 24))


def vgg_aspp_s() -> dict:
    return vgg((2, 4, 8, 12))


def torchvision() -> dict:
    config = resnet()
    backbone = {"stem_pool": "floor", "stride_on": "3x3", "dilate_first_block": False}
    model = config["model"]
    return config | {
        "pipeline": config["pipeline"] | {"normalization": "imagenet"},
        "model": model | {"backbone": model["backbone"] | backbone},
        "initialization": {
            "source": "torchvision/resnet101",
            "input": "",
            "download": False,
            "skip": (),
        },
    }


def smoke() -> dict:
    config = resnet()
    model = config["model"]
    backbone = model["backbone"] | {
        "depth": 26,
        "features": 4,
        "norm": {"frozen": False},
    }
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (49, 49)},
        "model": model
        | {
            "num_classes": 5,
            "backbone": backbone,
            "rates": (1, 2),
            "scales": (1.0, 0.5),
        },
    }


get_config = presets(resnet, single, vgg_aspp_l, vgg_aspp_s, torchvision, smoke)
