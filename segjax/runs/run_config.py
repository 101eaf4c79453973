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
    return without_origin(config_of(Path(run).expanduser()))


def without_origin(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy of a config without the weights that its run began with, and without the fold.

    The weights may not be elsewhere, and of other images no part is left out.
    """
    config = copy.deepcopy(config)
    for group in (INITIALIZATION, "fold"):
        if group in config:
            del config[group]
    return config
