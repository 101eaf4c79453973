"""Training an experiment: from its config to a run's folder."""

from __future__ import annotations

import logging
from pathlib import Path

import ml_collections

from segjax.runs import initialization
from segjax.tasks.table import make_task
from segjax.training import sharding
from segjax.training.loop import Result, fit
from segjax.training.preflight import describe_experiment
from segjax.training.sharding import Devices
from segjax.training.stop import StopSignal

log = logging.getLogger("segjax")


def train(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    cache_dir: str | None = None,
    data_root: str | None = None,
) -> Result:
    """Trains to the last step, resuming what the workdir holds.

    Args:
      config: the experiment.
      workdir: folder of the run; made where it is missing.
      cache_dir: where prepared data sets lie; None for the default of TFDS.
      data_root: where the user's own files lie.

    Returns:
      How it ended.

    Raises:
      UserError: for anything that the user can put right.
    """
    workdir = Path(workdir)
    with StopSignal() as stop:
        with sharding.fail_together():
            task = make_task(config)
            initialization.check(config)
            devices = Devices()
            devices.check_batch_size(config.batch_size)
            dataset = task.open_dataset(cache_dir, data_root)
            for split in ("train", task.evaluation.split):
                task.records(dataset, split)
            log.info("%s", describe_experiment(task, dataset, devices))
            weights = initialization.read(config, task.model, dataset.channels, workdir)
        return fit(task, dataset, devices, workdir, stop, weights)
