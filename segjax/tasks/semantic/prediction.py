"""Prediction with a network that labels pixels: the half of the task that needs no data."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from segjax import config as config_lib
from segjax.data import downscale_of
from segjax.data.intensities import scale_of_stack
from segjax.data.normalization import (
    ImageNormalization,
    Intensities,
    method_of,
    scale_of,
)
from segjax.errors import UserError
from segjax.geometry.input_sizes import Geometry, geometry_of
from segjax.models.builder import build_model
from segjax.objects.linking import Numbering
from segjax.objects.separation import Separation, separate
from segjax.predict.dihedral import Apply, over_dihedral
from segjax.predict.ensemble import over_members
from segjax.predict.mc_dropout import over_samples
from segjax.predict.resampled import Resampling
from segjax.predict.test_time import AveragedPredictor
from segjax.predict.tiled import Predictor
from segjax.tasks.semantic.crf import CRF, required
from segjax.tasks.semantic.evaluate import Evaluation
from segjax.tasks.semantic.files import predict_files
from segjax.tasks.semantic.fit import check_tile, crop_sizes
from segjax.tasks.semantic.head import head_of
from segjax.tasks.semantic.object_files import ObjectOptions
from segjax.training import sharding
from segjax.training.layout import ONE_EACH, Spread
from segjax.training.leaves import whole_value
from segjax.training.step import init_variables, streams
from segjax.training.task import LoadedWeights, PredictOptions, smaller_tile
from segjax.types import Array, is_count

log = logging.getLogger("segjax")


class SemanticPrediction:
    """A network that labels pixels, and how it is evaluated and predicts.

    Attributes:
      config: the experiment.
      model: the network.
      head: what its logits stand for.
      geometry: the sizes that it takes.
      input_size: height and width of a training image.
      output_size: of what the network makes of it.
      evaluation: what is measured.
      evaluated_model: the network with what differs in evaluation and prediction.
      crf: what refines predictions on demand; None where the config has no such group.
      separation: how objects are found in predictions; None where the config has no group
        `objects`.
      downscale: factor by which the data set makes images smaller.
      intensities: what the normalisation learned of the training split; None where it
        learns nothing, or has not yet.
    """

    intensities: Intensities | None = None

    def __init__(self, config: ml_collections.ConfigDict):
        """Builds the network, and what the config says of evaluation.

        Raises:
          UserError: naming the key that is wrong, its value, and what is allowed.
        """
        config_lib.check(config)
        self.config = config
        normalization = config.pipeline.get("normalization")
        self.model: nn.Module = build_model(config.model, normalization=normalization)
        if hasattr(self.model, "post_processing"):
            raise UserError(
                f"config.model.name is {config.model.name!r}, which labels no pixels: "
                'it finds objects, for which config.task is "instance".'
            )
        if "num_classes" not in config.model:
            raise UserError(
                'config.model lacks the key "num_classes": the channels of the logits, one '
                "for each class of the labels."
            )
        self.head = head_of(config)
        self.num_classes, self.label_spec_type = self.head.labels
        self.geometry: Geometry = geometry_of(self.model)
        self.input_size, self.output_size = crop_sizes(config, self.geometry)
        self.evaluation: Evaluation = config_lib.call(
            Evaluation, config.evaluation, "config.evaluation"
        )
        network = self.evaluation.model_overrides
        self.evaluated_model = (
            build_model(config.model, network, normalization=normalization)
            if network
            else self.model
        )
        if self.evaluation.mc_samples > 1 and not getattr(
            self.evaluated_model, "sample", False
        ):
            raise UserError(
                f"config.evaluation.mc_samples is {self.evaluation.mc_samples}, but the "
                "network gives the same each time: use 1, or a SegNet with dropout and "
                "config.model.sample=True."
            )
        self.crf = (
            config_lib.call(CRF, config.crf, "config.crf") if "crf" in config else None
        )
        self.separation = (
            config_lib.call(Separation, config.objects, "config.objects")
            if "objects" in config
            else None
        )
        if self.separation is not None:
            try:
                self.separation.check_classes(self.num_classes)
            except ValueError as error:
                raise UserError(f"config.objects.{error}.") from error
        self.downscale: int = downscale_of(config.data)
        if not is_count(self.downscale):
            raise UserError(
                "config.data.downscale is an integer of at least 1, got "
                f"{self.downscale!r}."
            )

    def init_variables(self, channels: int) -> Mapping[str, Any]:
        """Makes the collections of the untrained network; traceable."""
        return init_variables(
            self.model, (1, *self.input_size, channels), self.config.seed
        )

    def check_evaluated_network(self, shape: tuple[int, int, int]) -> None:
        """Checks that evaluation's changes to the network leave its parameters.

        Args:
          shape: height, width and channels of a training image.

        Raises:
          UserError: if they do not.
        """
        if self.evaluation.model_overrides is None:
            return
        image = jax.ShapeDtypeStruct((1, *shape), np.float32)
        trained, evaluated = (
            jax.eval_shape(
                functools.partial(model.init, train=False), jax.random.key(0), image
            )
            for model in (self.model, self.evaluated_model)
        )
        if trained != evaluated:
            raise UserError(
                f"config.evaluation.model_overrides is {dict(self.evaluation.model_overrides)}, which "
                "changes the parameters of the network: only what leaves them as they "
                "are can differ in evaluation, such as the backbone's output_stride."
            )

    def predictor(
        self,
        variables: Mapping[str, Any],
        *,
        tile: int | None = None,
        spread: Spread = ONE_EACH,
    ) -> Predictor | AveragedPredictor:
        """Makes what predicts images of any size, on the devices of this process.

        Args:
          variables: collections of the model, host or device arrays.
          tile: output side of a tile in pixels; None chooses one, 0 takes images whole.
          spread: over those devices.

        Returns:
          The predictor; it normalises nothing.

        Raises:
          UserError: if tiles are asked for where they would change the result, or the devices
            cannot be spread over so.
        """
        geometry = geometry_of(self.evaluated_model)
        passes = self.evaluation.passes
        if tile:
            check_tile(tile, geometry, passes, self.config.model.name)
        layout = spread.layout(sharding.local_device_count())
        devices = sharding.Devices.of_this_process(layout)
        together = devices.parts * (spread.tiles_per_device or 1)
        local = devices.put_replicated_here(jax.tree.map(whole_value, variables))
        apply = jax.tree_util.Partial(devices.by_rows(self.predicted), local)
        if passes.is_one:
            return Predictor(
                apply,
                geometry,
                tile=tile,
                batch_size=together,
                sharding=devices.batch,
                head=self.head.read,
            )
        try:
            return AveragedPredictor(
                apply,
                geometry,
                passes,
                batch_size=together,
                sharding=devices.replicated,
                batch_sharding=devices.batch,
                head=self.head.read,
            )
        except ValueError as error:
            raise UserError(f"config.evaluation.{error}.") from error

    def logits(
        self, variables: Mapping[str, Any], image: Array, key: Array | None = None
    ) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', K]`, not training.

        The key is for networks that drop activations in evaluation, too.
        """
        key = jax.random.key(self.config.seed) if key is None else key
        outputs: Any = self.evaluated_model.apply(
            variables, image, train=False, rngs=streams("dropout", key)
        )
        return self.head.expand(outputs["logits"])

    @functools.cached_property
    def predicted(self) -> Apply:
        """`logits`, averaged over samples and symmetries where the experiment wants it, and
        over the folds of a run; one function, as each new one is compiled anew.
        """
        apply: Apply = self.logits
        head, samples = self.head.read, self.evaluation.mc_samples
        if samples > 1:
            apply = over_samples(self.logits, samples, self.config.seed, head)
        if self.evaluation.dihedral_tta:
            apply = over_dihedral(apply, head)
        return over_members(apply, head)

    def label_stack(
        self,
        predictor: Predictor | AveragedPredictor,
        stack: np.ndarray,
        downscale: int | None = None,
    ) -> np.ndarray:
        """Labels the pages of a stack `[T, H, W, C]` as it is stored, as those of a file.

        Args:
          predictor: of the network.
          stack: the pages; an image is a stack of one.
          downscale: factor by which they are made smaller; None for that of training.

        Returns:
          Class ids, uint8 `[T, H, W]`.
        """
        labels = np.zeros(stack.shape[:3], np.uint8)
        pages = self._pages(predictor, stack, self._resampling(downscale), "labels")
        for label, page in zip(labels, pages, strict=True):
            label[...] = page
        return labels

    def number_stack(
        self,
        predictor: Predictor | AveragedPredictor,
        stack: np.ndarray,
        downscale: int | None = None,
        *,
        link: bool = False,
    ) -> np.ndarray:
        """Numbers the objects of a stack, as `predict --instances` does.

        Args:
          predictor: of the network.
          stack: the pages, see `label_stack`.
          downscale: likewise.
          link: whether objects of neighbouring pages that overlap are one.

        Returns:
          Numbers of objects from 1, 0 where there is none, int32 `[T, H, W]`.
        """
        resample = self._resampling(downscale)
        separation = self.separation_or_default().at_scale(resample.factor)
        numbering = Numbering(link=link)
        pages = self._pages(predictor, stack, resample, "probabilities")
        numbers = np.zeros(stack.shape[:3], np.int32)
        for number, page in zip(numbers, pages, strict=True):
            number[...] = numbering(separate(page, separation))
        return numbers

    def _resampling(self, downscale: int | None) -> Resampling:
        return Resampling(self.downscale if downscale is None else downscale)

    def _pages(
        self,
        predictor: Predictor | AveragedPredictor,
        stack: np.ndarray,
        resample: Resampling,
        output: str,
    ) -> Iterator[np.ndarray]:
        """One output of each page of a stack, at the size of the stack."""
        small = (resample(page) for page in stack)
        scale = scale_of_stack(small, self.normalization) if len(stack) > 1 else None
        for image in stack:
            size, image = image.shape[:2], resample(image)
            image = (scale or scale_of(image, self.normalization))(image)
            asked = output if resample.is_none else "logits"
            page = next(predictor.pages([image], (asked,)))
            if not resample.is_none:
                page = resample.answer(page, size, (output,), predictor.head)
            yield page[output]

    def predict_files(
        self,
        weights: LoadedWeights,
        input: str | Path,
        output: str | Path,
        options: PredictOptions,
    ) -> list[Path]:
        """Labels image files; see `segjax.tasks.semantic.files`."""
        given = options.downscale
        factor = self.downscale if given is None else given
        if given is None and factor > 1:
            log.info(
                "Images are predicted at 1/%d of their size, as in training "
                "(config.data.downscale); labels are of their full size. Files that are "
                "as small already want --downscale=1.",
                factor,
            )
        return predict_files(
            self.predictor(weights.variables, tile=options.tile, spread=options.spread),
            input,
            output,
            label_spec=weights.label_spec,
            channels=options.channels or weights.channels,
            chosen=options.pages,
            normalization=self.normalization,
            probabilities=options.probabilities,
            overlay=options.overlay,
            crf=options.crf,
            objects=options.objects,
            downscale=factor,
            pixel_size=_shown(weights.pixel_size, factor / self.downscale),
            rescale=options.rescale,
            overwrite=options.overwrite,
            progress=options.progress,
        )

    def flags_that_save_memory(self, verb: str, tile: int | None) -> list[str]:
        """Flags with which a verb needs less memory."""
        used = self.evaluation.tile if tile is None else tile
        flags = []
        if verb in ("evaluate", "predict") and (
            geometry_of(self.evaluated_model).tiles and self.evaluation.passes.is_one
        ):
            flags.append(smaller_tile(used))
        if verb == "predict":
            flags.append(f"--downscale={2 * self.downscale}")
        return flags

    def object_options(self, *, link: bool, outlines: Collection[str]) -> ObjectOptions:
        """What `predict --instances` writes; see `ObjectOptions`."""
        return ObjectOptions(self.separation_or_default(), link, tuple(outlines))

    def separation_or_default(self) -> Separation:
        """How objects are found; where the config has no group `objects`, as usual."""
        return self.separation or Separation()

    def refinement(self) -> CRF:
        """The CRF of `--crf`; a `UserError` where the config has none."""
        return required(self.crf)

    def recall(self, learned: Mapping[str, Any]) -> None:
        """Takes what the run learned of its training split (`SemanticTask.learn`)."""
        if learned:
            self.intensities = Intensities(
                **{key: tuple(values) for key, values in learned.items()}
            )

    @property
    def normalization(self) -> ImageNormalization:
        """How images are normalised; a key that every pipeline states."""
        pipeline = self.config.pipeline
        group = pipeline.percentiles if "percentiles" in pipeline else None
        return method_of(pipeline.normalization, group, self.intensities)


def _shown(
    size: tuple[float, float] | None, downscale: float
) -> tuple[float, float] | None:
    """The size of pixels that shows objects as large as in training, if it is known."""
    return size and (size[0] / downscale, size[1] / downscale)
