r"""DeepLab v3 on MobileNetEdgeTPU, on CamVid: 11 classes of a street, seen from a car.

Chen, Papandreou, Schroff, Adam 2017, arXiv 1706.05587, in the mobile form of the authors'
release (tensorflow/models, research/deeplab): image pooling and one 1x1 branch. The paper has
neither CamVid nor this backbone.

    python -m segjax.main --config=configs/deeplab_v3_camvid.py:cityscapes \
        --config.initialization.input=deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite \
        --workdir=runs/deeplab_v3_camvid --data_root=FOLDER

FOLDER holds CamVid in SegNet's form (`train`, `trainannot`, `train.txt` and so on). The file is
that of github.com/google-coral/test_data (Apache 2.0; Cityscapes itself is for non-commercial
use), which `--config.initialization.download=True` fetches instead. Its head has 19 classes; those of CamVid begin from the one that is named in
`initialization.classes`, or has the same name. Ours: docs/results.md.

Crops are cut from images that are enlarged by 1 to 2, and evaluation stretches images to
577x769 pixels, since objects are smaller in CamVid than in Cityscapes. No class weights: they
help the class average, and hurt the IoU.

Presets, as `--config=configs/deeplab_v3_camvid.py:PRESET`:

    (none)      the same network and images from random weights, with batch normalisation
    cityscapes  fine-tuned from the weights of Cityscapes; some 15 minutes on 2 cores
    smoke       seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

CLASSES = (
    ("Pavement", "sidewalk"),
    ("Tree", "vegetation"),
    ("SignSymbol", "traffic sign"),
    ("Pedestrian", "person"),
    ("Bicyclist", "bicycle"),
)
"""Of CamVid and of Cityscapes; sky, building, pole, road, fence and car have the same names."""

IDENTITY = {"epsilon": 0.0, "frozen": True}
"""The norm of weights that have it in their kernels and biases already."""


def random() -> dict:
    return {
        "seed": 0,
        "num_steps": 400,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 400,
        "checkpoint_every": 200,
        "data": {"name": "camvid"},
        "pipeline": {
            "input_size": (353, 449),
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
            "name": "deeplab_v3",
            "num_classes": 11,
            "backbone": {
                "name": "mobilenet_edgetpu",
                "width": 0.75,
                "output_stride": 16,
                "norm": {"momentum": 0.95},
                "dtype": "float32",
            },
            "rates": (),
            "features": 128,
            "dropout_rate": 0.0,
            "norm": {"momentum": 0.95},
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "learning_rate": 2e-3, "warmup_steps": 20},
        "evaluation": {
            "split": "validation",
            "input_size": (577, 769),
            "flip": False,
        },
    }


def cityscapes() -> dict:
    config = random()
    model = config["model"]
    backbone = model["backbone"] | {"norm": IDENTITY}
    return config | {
        "model": model | {"backbone": backbone, "norm": IDENTITY},
        # Adam's first steps are long beside the kernels that norms were folded into.
        "schedule": {"name": "cosine", "learning_rate": 5e-4, "warmup_steps": 60},
        "initialization": {
            "source": "tflite/deeplab_mobilenet_edgetpu_cityscapes",
            "input": "",
            "download": False,
            "classes": CLASSES,
        },
    }


def smoke() -> dict:
    config = random()
    model = config["model"]
    backbone = model["backbone"] | {"width": 0.05, "last_features": 16}
    return config | {
        "num_steps": 2,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (65, 65)},
        "model": model | {"num_classes": 5, "backbone": backbone, "features": 8},
        "schedule": {"name": "cosine", "learning_rate": 3e-3, "warmup_steps": 1},
        "evaluation": config["evaluation"] | {"input_size": (65, 65)},
    }


get_config = presets(random, cityscapes, smoke)
