"""The experiment of a run or of a model file, as a config file whose preset names it.

    segjax train --config=segjax/runs/run_config.py:runs/cells --data_root=... --workdir=...

is what `--continue_from=runs/cells` takes where no other config is given.
"""

from __future__ import annotations

import copy
from pathlib import Path

import ml_collections

from segjax.runs.model_file import config_of
from segjax.training.loop import INITIALIZATION


def get_config(run: str) -> ml_collections.ConfigDict:
    """Reads the config of a run, without what is of that run alone.

    Raises:
      UserError: there is none, or it is damaged.
    """
    config = without_initialization(config_of(Path(run).expanduser()))
    if "fold" in config:  # of other images no part is left out
        del config["fold"]
    return config


def without_initialization(
    config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
    """A copy of a config without the weights that its run began with.

    They may not be elsewhere.
    """
    config = copy.deepcopy(config)
    if INITIALIZATION in config:
        del config[INITIALIZATION]
    return config
