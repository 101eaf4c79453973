r"""DeconvNet on PASCAL VOC: 21 classes, of which one is the background.

Noh, Hong, Han, ICCV 2015, arXiv 1505.04366.

    python -m segjax.main --config=configs/deconvnet_voc.py --workdir=runs/deconvnet \
        --data_root=FOLDER

FOLDER is VOC2012 (`JPEGImages`, `SegmentationClass`, `ImageSets`). The preset paper wants
the list trainaug, whose labels often lie in a folder of their own:
`--config.data.labels=SegmentationClassAug`.

The paper, on VOC 2012 test (mean IoU): 69.6 from some 2.7 million crops around proposed
objects, and with up to 50 proposals an image in prediction. Proposals are not part of
segjax: here the crops are random, at random scale, and in prediction they slide over the
image. Ours: docs/results.md.

The paper trains in two stages: 20,000 steps on crops around single objects, which begin
with VGG-16, then 40,000 on the proposals. The preset paper has the second one's batch,
steps and rates, and begins with random weights.

Presets, as `--config=configs/deconvnet_voc.py:PRESET`:

    (none)   laptop: an eighth of the channels, of fc6 and fc7 a 32nd
    paper    the published network (252 million parameters); wants a GPU
    smoke    seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets


def laptop() -> dict:
    return {
        "seed": 0,
        "num_steps": 2_000,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 500,
        "checkpoint_every": 200,
        "data": {"name": "voc", "train": "train", "labels": "SegmentationClass"},
        "pipeline": {
            "input_size": (224, 224),
            "normalization": "imagenet",
            "augment": (
                ("random_scale", {"scale": (0.5, 1.5)}),
                ("random_crop", {}),
                ("flip", {"vertical": False}),
            ),
        },
        "model": {
            "name": "deconvnet",
            "num_classes": 21,
            "features": (8, 16, 32, 64, 64),
            "depths": (2, 2, 3, 3, 3),
            "fc_features": 128,
            "window": 7,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup_steps": 100},
        "evaluation": {
            "split": "validation",
            "scales": (1.0,),
            "flip": False,
            "crop": (224, 224),
            "crop_stride": 0.5,
        },
    }


def paper() -> dict:
    config = laptop()
    network = {"features": (64, 128, 256, 512, 512), "fc_features": 4096}
    return config | {
        "num_steps": 40_000,
        "batch_size": 64,
        "log_every": 50,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "data": {"name": "voc", "train": "trainaug", "labels": "SegmentationClass"},
        "pipeline": config["pipeline"] | {"normalization": "caffe_vgg"},
        "model": config["model"] | network,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {
            "name": "step",
            "learning_rate": 0.01,
            "every": 10_000,
            "gamma": 0.1,
        },
    }


def smoke() -> dict:
    config = laptop()
    network = {"features": (4, 6), "depths": (1, 1), "fc_features": 8}
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (32, 32)},
        "model": config["model"] | {"num_classes": 5} | network,
        "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup_steps": 1},
        "evaluation": config["evaluation"] | {"crop": (32, 32)},
    }


get_config = presets(laptop, paper, smoke)
