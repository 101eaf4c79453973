r"""U-Net on nuclei: pixels inside, on the border and outside of objects, then the objects.

Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597, with padded convolutions, batch
normalisation and few features; the classes inside, border and background as Caicedo et al.
2019, Cytometry A 95(9), have them for nuclei. The images are those of the 2018 Data Science
Bowl (Caicedo et al. 2019, Nature Methods 16), or any folder of that form:

    python -m segjax.main --config=configs/unet_nuclei.py --workdir=runs/nuclei \
        --data_root=FOLDER
    python -m segjax.main predict runs/nuclei --input=IMAGES --output=OUT --instances

FOLDER holds `images/` and `labels/` with the same names; 0 is background, and every other
number an object. `index.csv` with columns `id` and `split` sets the splits; where it has a
column of kinds, such as stains, `--config.data.balance=COLUMN` shows rare ones more often.

Presets, as `--config=configs/unet_nuclei.py:PRESET`:

    (none)   some nine minutes on 2 cores
    smoke    seconds: a tiny network, two steps
"""

from ml_collections.config_dict import FieldReference, placeholder

from segjax.config import presets


def default() -> dict:
    return {
        "seed": 0,
        "num_steps": 1350,
        "batch_size": 4,
        "log_every": 20,
        "eval_every": 1350,
        "checkpoint_every": 100,
        "data": {
            "name": "folder",
            "classes": (
                ("background", (40, 44, 52)),
                ("nucleus", (90, 190, 110)),
                ("border", (255, 160, 0)),
            ),
            "labels": "instances_with_border",
            "border_width": 2,
            "channels": FieldReference(3, object),  # or names of channels
            "group": placeholder(str),
            "balance": placeholder(str),
        },
        "pipeline": {
            "input_size": (128, 128),
            "normalization": "percentiles",
            "augment": (
                ("random_scale", {"scale": (0.75, 1.4)}),
                ("flip", {}),
                ("quarter_turn", {}),
                ("gamma", {}),
                ("brightness_contrast", {}),
                ("gaussian_noise", {"std": 0.03}),
            ),
            "foreground_fraction": 0.5,
            "border_weight": {"cell_class": 1, "w0": 5.0, "sigma": 4.0},  # gaps count
        },
        "model": {
            "name": "unet",
            "num_classes": 3,
            "features": (16, 32, 64, 80, 80),
            "padding": "SAME",
            "norm": {"kind": "batch", "momentum": 0.95},
            "dropout_rate": 0.0,
            "dtype": "float32",
        },
        "loss": {"name": "cross_entropy", "class_weights": (1.0, 1.0, 2.0)},
        "optimizer": {
            "name": "optax.contrib:muon",
            "adam_learning_rate": 3e-3,  # of biases, norms, first and last layer
            "weight_decay": 1e-4,
            "clip_norm": 1.0,
        },
        "schedule": {"name": "cosine", "learning_rate": 0.02, "warmup_steps": 100},
        "evaluation": {
            "split": "validation",
            "best_metric": "mean_f1",
            "dihedral_tta": True,  # the mean over eight turns and mirrors: eight times slower
        },
        "objects": {"border": 2, "threshold": 0.6, "min_area": 30, "depth": 1.5},
    }


def smoke() -> dict:
    config = default()
    return config | {
        "num_steps": 2,
        "batch_size": 2,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "pipeline": config["pipeline"] | {"input_size": (32, 32)},
        "model": config["model"] | {"features": (4, 8)},
        "schedule": {"name": "cosine", "learning_rate": 0.02, "warmup_steps": 1},
    }


get_config = presets(default, smoke)
