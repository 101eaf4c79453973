"""What a run is measured by that it was not trained with."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from segjax import config as config_lib
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.tasks.table import make_task

ROOT = Path(__file__).resolve().parents[3]


def mean_iou(label):
    return {"mean_iou": 1.0}


def test_a_metric_from_outside_takes_no_name_of_segjax():
    config = config_lib.load(str(ROOT / "configs/unet_em.py:smoke"))
    task = make_task(config, training=False)
    task.measure_also([f"{__name__}:mean_iou"])
    spec = LabelSpec(("membrane", "cell"), ((0, 0, 0), (9, 9, 9)))
    with pytest.raises(UserError, match="mean_iou is a metric of segjax"):
        task.measures(SimpleNamespace(label_spec=spec), "test")
