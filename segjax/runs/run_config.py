"""The experiment of a run or of a model file, as a config file whose preset names it.

    segjax train --config=segjax/runs/run_config.py:runs/cells --data_root=... --workdir=...

is what `--continue_from=runs/cells` takes where no other config is given.
"""

from __future__ import annotations

from pathlib import Path

import ml_collections

from segjax.runs.model_file import config_of
from segjax.training.loop import INITIALIZATION


def get_config(run: str) -> ml_collections.ConfigDict:
    """Reads the config of a run, without the weights that it began with.

    Raises:
      UserError: there is none, or it is damaged.
    """
    config = config_of(Path(run).expanduser())
    if INITIALIZATION in config:
        del config[INITIALIZATION]
    return config
