"""What tests of whole runs share."""

from __future__ import annotations

from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest

from segjax import config as config_lib
from segjax.runs.model_file import write_model_file
from segjax.tasks.table import make_task
from segjax.training.state import parameters_sha256

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of the smallest U-Net with random parameters; nothing is compiled."""
    config = config_lib.load(f"{ROOT}/configs/unet_em.py:smoke")
    config.crf = {"num_iterations": 2}
    return random_model(tmp_path_factory.mktemp("model") / "cells.segjax", config)


@pytest.fixture(scope="module")
def overlapping_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, whose two classes may share pixels."""
    config = config_lib.load(f"{ROOT}/configs/unet_em.py:smoke")
    config.head, config.loss = "sigmoid", {"name": "binary_cross_entropy"}
    config.evaluation = {"split": "validation"}
    path = tmp_path_factory.mktemp("overlapping") / "cells.segjax"
    return random_model(path, config)


@pytest.fixture(scope="module")
def objects_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest Mask R-CNN with random parameters."""
    config = config_lib.load(f"{ROOT}/configs/mask_rcnn_shapes.py:smoke")
    config.evaluation.keep_score = 0.3
    path = tmp_path_factory.mktemp("objects") / "cells.segjax"
    return random_model(
        path, config, channels=3, spread=0.3, instances={"category_ids": [1]}
    )


def random_model(
    path: Path,
    config: ml_collections.ConfigDict,
    channels: int = 1,
    spread: float = 0.7,
    **facts: object,
) -> Path:
    """Writes a model file with random parameters."""
    task = make_task(config)
    rng = np.random.default_rng(0)
    normal = lambda x: spread * rng.normal(size=x.shape).astype(x.dtype)
    shapes = jax.eval_shape(lambda: task.init_state(channels)).variables
    variables = {
        "params": jax.tree.map(normal, shapes["params"]),
        "batch_stats": jax.tree.map(
            lambda x: abs(normal(x)), shapes.get("batch_stats", {})
        ),
    }
    about = {
        "channels": channels,
        "label_spec": {"names": ["a", "b"], "colors": [[0, 0, 0], [9, 9, 9]]},
        "images": {"train": 3},
        "image_dtypes": ["uint8"],
        "step": 7,
        "parameters_sha256": parameters_sha256(variables["params"]),
    } | facts
    with path.open("wb") as file:
        write_model_file(file, config, variables, about, "# A card\n")
    return path
