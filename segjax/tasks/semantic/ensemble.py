"""Several networks that label pixels, of any architectures, as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from segjax.data.dataset import Dataset
from segjax.data.intensities import Several
from segjax.data.normalization import ImageNormalization
from segjax.predict.ensemble import EnsemblePredictor
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.layout import ONE_EACH, Spread


class SemanticEnsemble(SemanticTask):
    """The mean of the class probabilities of several experiments.

    What is measured, and how objects are found, is what the first one says. Each network is
    given images as it was trained on, whole or in its own tiles, and has its own temperature.

    Attributes:
      tasks: the experiments.
    """

    def __init__(self, tasks: Sequence[Any], channels: int):
        """Takes experiments of the same classes.

        Args:
          tasks: `SemanticTask`s, two or more; what they learned is recalled.
          channels: of the images of each.
        """
        super().__init__(tasks[0].config, training=False)
        self.tasks, self._channels = tuple(tasks), channels
        self.evaluation = dataclasses.replace(self.evaluation, tile=None)

    def predictor(
        self, variables: Any, *, tile: int | None = None, spread: Spread = ONE_EACH
    ) -> Any:
        """Makes what predicts images of any size.

        Args:
          variables: collections of each network.
          tile: output side of a tile in pixels; None for that of each experiment.
          spread: over the devices of this process.

        Returns:
          The predictor.
        """
        tiles = [task.evaluation.tile if tile is None else tile for task in self.tasks]
        found = [
            task.predictor(one, tile=own, spread=spread)
            for task, one, own in zip(self.tasks, variables, tiles, strict=True)
        ]
        return EnsemblePredictor(found, self._channels)

    def baseline(self, dataset: Dataset, split: str) -> dict[str, float]:
        """Measures a baseline on images as the first network is given them."""
        return self.tasks[0].baseline(dataset, split)

    @property
    def normalization(self) -> ImageNormalization:
        """How images are normalised for each network."""
        return Several(tuple(task.normalization for task in self.tasks))
