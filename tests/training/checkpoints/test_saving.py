"""When a run saves, and what is kept for good."""

import ml_collections
import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.training.checkpoints.checkpoint import Checkpoints
from segjax.training.checkpoints.saving import Saving, for_training


def config(**keys):
    return ml_collections.ConfigDict({"checkpoint_every": 10, "log_every": 2} | keys)


def test_multiples_of_both_intervals_are_saved():
    saving = Saving(config(keep_every=15))
    assert [x for x in range(1, 41) if saving.at(x)] == [10, 15, 20, 30, 40]


def test_minutes_are_looked_at_where_the_log_is_written():
    now = [0.0]
    saving = Saving(config(checkpoint_every_minutes=0.5), lambda: now[0])
    saved = []
    for step in range(1, 16):
        now[0] += 10.0
        saved += [step] if saving.at(step) else []
    assert saved == [4, 8, 10, 14]  # after 30 s, at even steps; 10 is a multiple


def test_checkpoints_are_kept_for_good(tmp_path):
    kept = for_training(tmp_path, "mean_iou", config(keep_every=4))
    kept._metrics = dict.fromkeys(range(1, 11))
    assert kept._to_keep(range(1, 11)) == {4, 8, 9, 10, None}
    without = Checkpoints(tmp_path, "mean_iou")
    without._metrics = dict.fromkeys(range(1, 11))
    assert without._to_keep(range(1, 11)) == {9, 10, None}
    for opened in (kept, without):
        opened._manager.close()


@pytest.mark.parametrize(
    ("key", "value"),
    [("keep_every", 0), ("keep_every", 1.5), ("checkpoint_every_minutes", 0)],
)
def test_what_is_no_interval_is_refused(smoke, key, value):
    smoke[key] = value
    with pytest.raises(UserError, match=f"config.{key} must be"):
        config_lib.check(smoke)
    assert config_lib.is_changeable(key)
