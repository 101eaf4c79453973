r"""DeepLab v1 on PASCAL VOC 2012: VGG-16 with holes, 20 kinds of objects and background.

Chen, Papandreou, Kokkinos, Murphy, Yuille, ICLR 2015, arXiv 1412.7062, sections 3 and 5.

    python -m segjax.main --config=configs/deeplab_v1_voc.py --workdir=runs/deeplab_v1 \
        --data_root=FOLDER

FOLDER holds VOC2012 (`JPEGImages` and so on) with the list trainaug, whose labels often lie
in a folder of their own: `--config.data.labels=SegmentationClassAug`.

The paper, mean IoU on the validation images before (after) the fully connected CRF:
LargeFOV 62.25 (67.64), 7x7 64.38 (67.64), 4x4 63.41 (67.14), with a kernel of 4 and a
dilation of 4 59.80 (63.74), MSc-LargeFOV 64.21 (68.70). Ours: not measured yet. The paper
begins with VGG-16 of ImageNet; its weights are named with

    --config.initialization.input=vgg16.npz

Caffe's release, or torchvision's in the preset of that name, whose images are normalised
as those weights want it; fc6 and fc7 begin at random (the paper keeps a part of VGG's).

The CRF is that of the release, `evaluate --crf` and `predict --crf`: values found on 100
validation images, w1 from 5 to 10, sigma_alpha from 50 to 100, sigma_beta from 3 to 10; each
kernel is divided by its row sums, as in the authors' code.

The loss is taken on logits that are interpolated to the size of the image; the paper
takes it on the map of scores, with labels shrunk by 8.

The rate falls to a tenth every 2,000 of 6,000 steps; the classifier learns ten times as
fast, biases twice as fast as kernels.

Presets, as `--config=configs/deeplab_v1_voc.py:PRESET`; all but the last want a GPU:

    (none)       DeepLab-LargeFOV from Caffe's VGG-16; so the next four
    7x7          the kernel of fc6 as it was in VGG, dilated by 4
    4x4          a kernel of 4, dilated by 8
    small_fov    a kernel of 4, dilated by 4
    msc          LargeFOV, plus the image and the first poolings (MSc)
    torchvision  LargeFOV from torchvision's VGG-16
    smoke        seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

SIDE = 321
"""Of a crop: one more than a multiple of 8, and 41 scores."""


def large_fov() -> dict:
    return {
        "seed": 0,
        "num_steps": 6_000,
        "batch_size": 20,
        "log_every": 50,
        "eval_every": 2_000,
        "checkpoint_every": 500,
        "data": {"name": "voc", "train": "trainaug", "labels": "SegmentationClass"},
        "pipeline": {
            "input_size": (SIDE, SIDE),
            "normalization": "caffe_vgg",
            "augment": (("random_crop", {}), ("flip", {"vertical": False})),
        },
        "model": {
            "name": "deeplab_v1",
            "num_classes": 21,
            "backbone": {
                "name": "vgg",
                "depth": 16,
                "pool_window": 3,
                "ceil_mode": True,
                "output_stride": 8,
                "dtype": "float32",
            },
            "fc6_kernel": 3,
            "fc6_dilation": 12,
            "fc_features": 1024,
            "multi_scale": False,
            "dropout_rate": 0.5,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {
            "name": "sgd",
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "multipliers": (("logits/*", 10.0), ("*/bias", 2.0)),
        },
        "schedule": {
            "name": "step",
            "learning_rate": 1e-3,
            "every": 2_000,
            "gamma": 0.1,
        },
        "evaluation": {
            "split": "validation",
            "tile": 0,
            "scales": (1.0,),
            "flip": False,
        },
        "initialization": {"source": "caffe/vgg16", "input": "", "skip": ()},
        "crf": crf(5.0, 50.0, 10.0),
    }


def crf(w1: float, sigma_alpha: float, sigma_beta: float) -> dict:
    return {
        "w1": w1,
        "sigma_alpha": sigma_alpha,
        "sigma_beta": sigma_beta,
        "w2": 3.0,
        "sigma_gamma": 3.0,
        "num_iterations": 10,
        "normalization": "after",
    }


def form(fc6_kernel: int, fc6_dilation: int) -> dict:
    config = large_fov()
    fc6 = {"fc6_kernel": fc6_kernel, "fc6_dilation": fc6_dilation, "fc_features": 4096}
    return config | {"model": config["model"] | fc6}


def small_fov() -> dict:
    return form(4, 4)


def msc() -> dict:
    config = large_fov()
    model = config["model"] | {"multi_scale": True}
    return config | {"model": model, "crf": crf(3.0, 95.0, 3.0)}


def torchvision() -> dict:
    config = large_fov()
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
    config = large_fov()
    model = config["model"]
    backbone = model["backbone"] | {"depth": 11, "features": (3, 3, 4, 4, 4)}
    del config["initialization"]
    small = {
        "num_classes": 5,
        "backbone": backbone,
        "fc_features": 4,
        "fc6_dilation": 2,
    }
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (49, 49)},
        "model": model | small,
        "schedule": {"name": "step", "learning_rate": 1e-3, "every": 1, "gamma": 0.1},
    }


get_config = presets(
    large_fov,
    small_fov,
    msc,
    torchvision,
    smoke,
    **{"7x7": lambda: form(7, 4), "4x4": lambda: form(4, 8)},
)
