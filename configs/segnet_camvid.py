r"""SegNet on CamVid: 11 classes of a street, seen from a car.

Badrinarayanan, Kendall, Cipolla, TPAMI 2017, arXiv 1511.00561, section 4 and table 3.

    python -m segjax.main --config=configs/segnet_camvid.py --workdir=runs/segnet \
        --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on).

The paper, on the 233 test images at 360x480 (global accuracy, class average, mean IoU,
boundary F1), trained on a corpus of 3,433 images that is not public: 90.40, 71.20, 60.10,
46.84. Ours, trained
on CamVid's 367 images from scratch (the paper starts from VGG-16): docs/results.md.

Bayesian SegNet: `--config.model.dropout_rate=0.5`; evaluation averages 50 samples with
`--config.model.sample=True --config.evaluation.mc_samples=50`.

The encoder can begin as VGG-16 with batch normalisation, trained on ImageNet:

    python -m segjax.main --config=configs/segnet_camvid.py:vgg16 --workdir=runs/segnet \
        --config.initialization.input=vgg16_bn.pth --data_root=FOLDER

vgg16_bn.pth is torchvision's. The paper's VGG-16 has no norms and is Caffe's; torchvision's
plain one, `--config.initialization.source=torchvision/vgg16`, keeps the random norms.

Presets, as `--config=configs/segnet_camvid.py:PRESET`:

    (none)   laptop: 180x240, a quarter of the channels; 10 minutes on 2 cores
    paper    the published network and recipe at 360x480; wants a GPU
    vgg16    the same from VGG-16 of torchvision; wants a GPU
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

CLASS_WEIGHTS = (
    *(0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826),
    *(9.6446, 1.8418, 0.6823, 6.2478, 7.3614),
)
"""Median-frequency weights of the 11 classes, as in the authors' release."""


AUGMENT: tuple[tuple[str, dict], ...] = (
    ("random_scale", {"scale": (0.75, 1.5)}),
    ("random_crop", {}),
    ("flip", {"vertical": False}),
)
"""The augmentations of all laptop presets on CamVid, so that their results can be compared."""


def laptop() -> dict:
    return {
        "seed": 0,
        "num_steps": 800,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 400,
        "checkpoint_every": 100,
        "data": {"name": "camvid", "downscale": 2},
        "pipeline": {
            "input_size": (180, 240),
            "normalization": "imagenet",
            "augment": AUGMENT,
        },
        "model": {
            "name": "segnet",
            "num_classes": 11,
            "features": (16, 32, 64, 128, 128),
            "dropout_rate": 0.0,
            "sample": False,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy", "class_weights": CLASS_WEIGHTS},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 20},
        "evaluation": {"split": "validation", "boundary_f1": False, "mc_samples": 1},
    }


def paper() -> dict:
    config = laptop()
    return config | {
        "num_steps": 40_000,
        "batch_size": 5,
        "log_every": 50,
        "eval_every": 1_000,
        "checkpoint_every": 500,
        "data": {"name": "camvid"},
        "pipeline": {
            "input_size": (360, 480),
            "normalization": "caffe_bgr",
            "augment": (),
        },
        "model": config["model"] | {"features": (64, 128, 256, 512, 512)},
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
        "evaluation": {
            "split": "validation",
            "boundary_f1": True,
            "scales": (1.0,),
            "flip": False,
            "mc_samples": 1,
        },
        "schedule": {"name": "constant", "learning_rate": 1e-3},
    }


def vgg16() -> dict:
    config = paper()
    return config | {
        "pipeline": config["pipeline"] | {"normalization": "imagenet"},
        "initialization": {
            "source": "torchvision/vgg16_bn",
            "input": "",
            "download": False,
            "skip": (),
        },
    }


def smoke() -> dict:
    config = laptop()
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (64, 64)},
        "model": config["model"] | {"num_classes": 5, "features": (4, 4, 6, 6, 8)},
        "loss": {"name": "cross_entropy"},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
    }


get_config = presets(laptop, paper, vgg16, smoke)
