"""Every experiment runs from its data to its metrics, in seconds."""

from pathlib import Path

import pytest

from segjax import config as config_lib
from segjax.runs.train import train

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [
    path
    for path in sorted((ROOT / "configs").glob("*.py"))
    if config_lib.load(f"{path}:smoke").data.name != "folder"
]
"""All but those whose data the user brings."""


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_trains_two_steps_and_is_evaluated(path, tmp_path, cache_dir):
    config = config_lib.load(f"{path}:smoke")
    result = train(config, tmp_path / "run", cache_dir)
    assert result.step == config.num_steps == 2
    assert not result.interrupted
    metric = config.evaluation.get("best_metric", "mean_iou")
    assert 0 <= result.metrics[metric] <= 1
