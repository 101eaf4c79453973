"""The experiment of a run or of a model file, as a config file whose preset names it.

    segjax train --config=segjax/runs/run_config.py:runs/cells --data_root=... --workdir=...

is what `--continue_from=runs/cells` takes where no other config is given.
"""

from __future__ import annotations

import copy
from pathlib import Path

import ml_collections

from segjax.runs.model_file import config_of
from segjax.training.layout import KEY as SHARDING
from segjax.training.loop import INITIALIZATION


def get_config(run: str) -> ml_collections.ConfigDict:
    """Reads the config of a run, without what is of that run alone.

    Raises:
      UserError: there is none, or it is damaged.
    """
    # Of other images no part is left out, and another network is not as sure.
    config = config_of(Path(run).expanduser())
    return without(config, *OF_ONE_RUN, "fold", "calibration")


OF_ONE_RUN = (INITIALIZATION, "hooks", SHARDING)
"""Groups that mean nothing elsewhere: weights that may not be there, loggers, which would send
what others train to whom the file says, and a grid of devices that others may not have.
"""


def without(config: ml_collections.ConfigDict, *keys: str) -> ml_collections.ConfigDict:
    """A copy of a config without some keys, of which it may have none.

    Example:
      >>> without(ml_collections.ConfigDict({"seed": 0, "hooks": ("wandb",)}), "hooks")
      seed: 0
      <BLANKLINE>
    """
    config = copy.deepcopy(config)
    for key in keys:
        if key in config:
            del config[key]
    return config
