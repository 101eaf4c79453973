"""CRF as a recurrent network on synthetic shapes: a small network, and a CRF learned with it.

Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang, Torr, ICCV 2015, arXiv 1502.03240.

    python -m segjax.main --config=configs/crf_rnn_shapes.py --workdir=runs/crf_rnn

The network, without skips, is good at which classes there are and poor at where they end;
the two weights of the kernels and the compatibility of the labels are trained with it, in steps
ten times as large. As in the paper there are five steps of mean field in training and ten
in evaluation. What was learned:

    params = load_trained("runs/crf_rnn").variables["params"]["crf"]

The paper, FCN-8s on VOC 2012 with more training data, mean IoU on the reduced validation
set: 69.5 plain, 71.0 with a CRF behind it, 72.9 trained end to end. Ours, on the shapes'
test split, which are not a benchmark: 86.4, and 79.9 for `:network`, the same without the CRF
(2026-11-22, 300 steps on 2 CPU cores). Outlines are ignored in the shapes' labels, so it is
bands around them that are measured, not their F1.

Presets, as `--config=configs/crf_rnn_shapes.py:PRESET`; about 10 minutes on 2 cores:

    (none)      network and CRF together
    network     the network alone
    smoke       seconds: a tiny network, two steps, tiny synthetic data
"""

from segjax.config import presets

CLASSES = 5


def together() -> dict:
    return {
        "seed": 0,
        "num_steps": 300,
        "batch_size": 4,
        "log_every": 10,
        "eval_every": 100,
        "checkpoint_every": 100,
        "data": {
            "name": "shapes",
            "size": 64,
            "train": 64,
            "validation": 16,
            "test": 32,
        },
        "pipeline": {
            "input_size": (64, 64),
            "normalization": "range",
            "augment": (("flip", {"vertical": False}),),
        },
        "model": {
            "name": "crf_rnn",
            "num_classes": CLASSES,
            "network": {
                "name": "encoder_decoder",
                "features": (16, 32, 48),
                "upsampling": "bilinear",
                "skip": False,
                "dtype": "float32",
            },
            "crf": {
                "num_iterations": 5,
                "sigma_alpha": 10.0,
                "sigma_beta": 20.0,
                "sigma_gamma": 1.5,
                "w1": 1.0,
                "w2": 1.0,
                "compatibility": "full",
                "method": "exact",
            },
        },
        "loss": {"name": "cross_entropy"},
        "optimizer": {
            "name": "adamw",
            "weight_decay": 1e-4,
            "clip_norm": 1.0,
            "multipliers": (("crf/*", 10.0),),
        },
        "schedule": {"name": "cosine", "learning_rate": 5e-3, "warmup_steps": 20},
        "evaluation": {
            "split": "validation",
            "trimap_widths": (1, 2, 4),
            "model_overrides": {"crf": {"num_iterations": 10}},
        },
    }


def network() -> dict:
    config = together()
    alone = {"num_classes": CLASSES, **config["model"]["network"]}
    return config | {
        "model": alone,
        "optimizer": config["optimizer"] | {"multipliers": ()},
        "evaluation": {"split": "validation", "trimap_widths": (1, 2, 4)},
    }


def smoke() -> dict:
    config = together()
    model = config["model"]
    return config | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "shapes", "size": 64, "train": 4, "validation": 2, "test": 2},
        "pipeline": config["pipeline"] | {"input_size": (16, 16)},
        "model": model | {"network": model["network"] | {"features": (3, 4)}},
        "schedule": {"name": "cosine", "learning_rate": 5e-3, "warmup_steps": 1},
        "evaluation": {
            "split": "validation",
            "model_overrides": {"crf": {"num_iterations": 2}},
        },
    }


get_config = presets(together, network, smoke)
