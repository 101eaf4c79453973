"""Metrics from outside beside those of objects; what is measured is tested in test_task.py."""

from types import SimpleNamespace

import pytest

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.tasks.instance.evaluate import InstanceEvaluation

DATASET = SimpleNamespace(
    label_spec=LabelSpec(("background", "cell"), ((0, 0, 0), (9, 9, 9))), instances=None
)


@pytest.mark.parametrize(
    ("masks", "name", "sentence"),
    [
        (True, "mask_AP50", "mask_AP50"),
        (True, "loss", "loss"),
        (False, "area", "which this network has not"),
    ],
)
def test_metrics_from_outside_need_masks_and_names_of_their_own(masks, name, sentence):
    def check_names(known):
        if name in known:
            raise UserError(f"{name} is taken")

    model = SimpleNamespace(masks=masks, keypoints=None)
    outside = SimpleNamespace(check_names=check_names)
    with pytest.raises(UserError, match=sentence):
        InstanceEvaluation().check_outside(model, DATASET, outside)
