"""Prediction with a network that finds objects: the half of the task that needs no data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from segjax import config as config_lib
from segjax.data.instance.batches import instance_batches
from segjax.data.instance.buckets import check_buckets
from segjax.data.label_spec import InstanceClasses
from segjax.errors import UserError
from segjax.export.objects import ObjectNetwork
from segjax.models.builder import build_model
from segjax.tasks.instance.evaluate import Detect, InstanceEvaluation
from segjax.tasks.instance.files import (
    InstancePredictor,
    label_of,
    predict_instance_files,
)
from segjax.training import sharding
from segjax.training.layout import ONE_EACH, Spread
from segjax.training.leaves import whole_value
from segjax.training.task import LoadedWeights, PredictOptions, smaller_tile
from segjax.types import Array, Outputs

log = logging.getLogger("segjax")


class InstancePrediction:
    """A network that finds objects, and how it is evaluated and predicts.

    Attributes:
      config: the experiment.
      model: the network.
      evaluation: what is measured.
      resize: how images meet the buckets.
      buckets: sizes that training images are padded to.
      evaluated_buckets: sizes that images are padded to in evaluation and prediction.
    """

    label_spec_type = InstanceClasses

    def __init__(self, config: ml_collections.ConfigDict):
        """Builds the network, and what the config says of evaluation.

        Raises:
          UserError: naming the key that is wrong, its value, and what is allowed.
        """
        config_lib.check(config)
        for key in ("head", "mix"):
            if key in config:
                raise UserError(
                    f"config.{key} is for networks that label pixels, but config.task is "
                    f'"instance": leave config.{key} out.'
                )
        self.config = config
        self.model: Any = build_model(config.model)
        if not hasattr(self.model, "post_processing"):
            raise UserError(
                f"config.model.name is {config.model.name!r}, which finds no objects: "
                'use "mask_rcnn", or leave config.task out.'
            )
        self.evaluation: InstanceEvaluation = config_lib.call(
            InstanceEvaluation, config.evaluation, "config.evaluation"
        )
        self.num_classes: int = config.model.num_classes
        self.resize = config_lib.argument(instance_batches, config.pipeline, "resize")
        self.buckets = self._buckets("pipeline", config.pipeline.buckets)
        self.evaluated_buckets = self._buckets(
            "evaluation", self.evaluation.buckets or self.buckets
        )
        self._detect = jax.jit(self._outputs)

    def _buckets(
        self, group: str, buckets: Sequence[tuple[int, int]]
    ) -> tuple[tuple[int, int], ...]:
        try:
            return check_buckets(buckets, self.resize)
        except (TypeError, ValueError) as error:
            raise UserError(f"config.{group}.{error}.") from error

    @property
    def detector_batch_size(self) -> int:
        """Images that are predicted at a time: as many for each device of this process."""
        count = sharding.Devices.of_this_process().count
        return -(-self.evaluation.batch_size // count) * count

    def detector(self, variables: Mapping[str, Any]) -> Detect:
        """Makes what finds objects in batches, on the devices of this process.

        Args:
          variables: collections of the model, host or device arrays.

        Returns:
          A function of a batch with `image` and `sizes`, of `detector_batch_size` rows or
          another multiple of the number of devices.
        """
        devices = sharding.Devices.of_this_process()
        local = devices.put_replicated_here(jax.tree.map(whole_value, variables))

        def detect(batch: Mapping[str, np.ndarray]) -> Mapping[str, Array]:
            given = {name: batch[name] for name in ("image", "sizes")}
            placed = jax.device_put(given, devices.batch)
            return self._detect(local, placed["image"], placed["sizes"])

        return detect

    def _outputs(
        self, variables: Mapping[str, Any], image: Array, sizes: Array
    ) -> Outputs:
        return self.model.apply(variables, image, sizes, train=False)

    def finder(
        self,
        variables: Mapping[str, Any],
        *,
        tile: int | None = None,
        spread: Spread = ONE_EACH,
    ) -> InstancePredictor:
        """Makes what finds objects in images of any size.

        Args:
          variables: collections of the model.
          tile: side of a tile in pixels of the image, 0 for whole images; None chooses
            one.
          spread: over the devices of this process; each has images of its own.

        Returns:
          The function of an image.
        """
        together = self.detector_batch_size
        if spread.tiles_per_device is not None:
            together = spread.tiles_per_device * sharding.local_device_count()
        return InstancePredictor(
            self.detector(variables),
            together,
            self.evaluated_buckets,
            self.resize,
            self.evaluation.mask_threshold,
            self.evaluation.keep_score,
            tile=tile,
        )

    def object_network(
        self, variables: Mapping[str, Any], channels: int
    ) -> ObjectNetwork:
        """The network with all that `predict` does around it, for programs.

        Args:
          variables: collections of the model.
          channels: of the images that it was trained on.

        Returns:
          The network, as `segjax.export` takes it.
        """
        return ObjectNetwork(
            self._outputs,
            variables,
            channels,
            self.evaluated_buckets,
            self.resize,
            self.evaluation.mask_threshold,
            self.evaluation.keep_score,
        )

    def number_stack(self, find: InstancePredictor, stack: np.ndarray) -> np.ndarray:
        """Numbers the objects of each page of a stack, the best one first.

        Args:
          find: what finds objects (`finder`).
          stack: pages as they are stored, `[T, H, W, C]`.

        Returns:
          int32 `[T, H, W]`, 0 where there is no object.
        """
        numbers = np.zeros(stack.shape[:3], np.int32)
        for number, page in zip(numbers, stack, strict=True):
            number[...] = label_of(find(page), page.shape[:2])
        return numbers

    def predict_files(
        self,
        weights: LoadedWeights,
        input: str | Path,
        output: str | Path,
        options: PredictOptions,
    ) -> list[Path]:
        """Finds the objects of image files; see `segjax.tasks.instance.files`."""
        for given in (options.downscale, options.probabilities, options.crf):
            assert not given  # they are none of the capabilities
        log.info(
            "Objects of a score of %g and more are kept: config.evaluation.keep_score.",
            self.evaluation.keep_score,
        )
        *labels, _ = predict_instance_files(
            self.finder(weights.variables, tile=options.tile, spread=options.spread),
            input,
            output,
            label_spec=weights.label_spec,
            instances=weights.instance_spec,
            channels=options.channels or weights.channels,
            chosen=options.pages,
            overlay=options.overlay,
            overwrite=options.overwrite,
            progress=options.progress,
        )
        return labels

    def flags_that_save_memory(self, verb: str, tile: int | None) -> list[str]:
        """Flags with which a verb needs less memory."""
        return [smaller_tile(tile)] if verb == "predict" else []
