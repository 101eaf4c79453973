"""Refining predictions by a fully connected CRF, image by image, after everything else.

DeepLab v1 and v2 end this way (Chen et al. 2015, arXiv 1412.7062, section 4; 2017, arXiv
1606.00915, section 3.3): the network is trained without the CRF, and its scores, at the
full size of the image, are the unary energies. The appearance kernel looks at the image
as it was stored, on a scale of 0 to 255, whatever its normalisation.

Images of 16 bits seldom use them: cameras give 10, 12 or 14, and divided by 65,535 those
would have no contrast. So 255 stands for the largest value of the camera, which is that of
the training images, or, where a run does not know it, of each image.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.normalization import BIT_DEPTHS, max_intensity_of
from segjax.errors import UserError
from segjax.layers.attributes import check_counts
from segjax.ops.crf.dense import dense_crf
from segjax.ops.crf.filters import METHODS, Method
from segjax.ops.crf.inference import NORMALIZATIONS, Normalization
from segjax.predict.heads import SOFTMAX
from segjax.types import Array

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class CRF:
    """The CRF that refines a prediction; the group `config.crf` of an experiment.

    Fields and their meaning are those of `segjax.ops.crf.dense.dense_crf`. The defaults are
    the published values of DeepLab v2's script `run_densecrf.sh`; they are for images of
    some 500 pixels, and were searched for on the validation images.

    Attributes:
      w1: weight of the appearance kernel; 0 leaves it out.
      sigma_alpha: its width in pixels.
      sigma_beta: its width in colours of 0..255.
      w2: weight of the smoothness kernel; 0 leaves it out.
      sigma_gamma: its width in pixels.
      num_iterations: mean-field steps.
      method: which filters stand for the kernels.
      normalization: of each kernel.
      radius: of the method "window", in pixels.
      max_intensity: value of images of 16 bits that stands for 255, as 4095 for 12 bits;
        None: that of the run's training images (`segjax.runs.load`), or else that
        of each image (`max_intensity_of`). Images of 8 bits are as they are.

    Raises:
      ValueError: naming the field, what it was, and what is allowed.
    """

    w1: float = 4.0
    sigma_alpha: float = 49.0
    sigma_beta: float = 5.0
    w2: float = 3.0
    sigma_gamma: float = 3.0
    num_iterations: int = 10
    method: Method = "auto"
    normalization: Normalization = "symmetric"
    radius: int = 5
    max_intensity: int | None = None

    def __post_init__(self) -> None:
        """Checks the values, before anything is compiled."""
        for name in ("w1", "w2"):
            _check_number(name, getattr(self, name), zero_allowed=True)
        for name in ("sigma_alpha", "sigma_beta", "sigma_gamma"):
            _check_number(name, getattr(self, name), zero_allowed=False)
        check_counts(num_iterations=self.num_iterations, radius=self.radius)
        if self.max_intensity is not None:
            check_counts(max_intensity=self.max_intensity)
        for name, allowed in (
            ("method", METHODS),
            ("normalization", NORMALIZATIONS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )

    def refine(self, image: np.ndarray, logits: np.ndarray | Array) -> Array:
        """Refines the logits of one image.

        Args:
          image: as it was stored, uint8 or uint16 `[H, W, C]`.
          logits: `[H, W, K]`.

        Returns:
          Logits `[H, W, K]`; their softmax are the marginals.

        Raises:
          UserError: for an image of one pixel, one class, logits that are not finite,
            or widths so small that the lattice has no room.
        """
        given = dataclasses.asdict(self) | {"sigma_beta": self.stored_sigma_beta(image)}
        del given["max_intensity"]
        try:
            return dense_crf(
                jnp.asarray(image), jnp.asarray(logits), **given, output="logits"
            )
        except ValueError as error:
            raise UserError(f"The CRF cannot refine this image: {error}.") from error

    def stored_sigma_beta(self, image: np.ndarray) -> float:
        """Returns `sigma_beta` in the units in which an image is stored.

        Args:
          image: as it was stored, uint8 or uint16 `[H, W, C]`.

        Returns:
          The width in colours; for uint8 it is `sigma_beta`.

        Example:
          >>> CRF(sigma_beta=5.0, max_intensity=1023).stored_sigma_beta(
          ...     np.zeros((1, 2, 3), np.uint16)
          ... )
          20.058823529411764
        """
        if image.dtype == np.uint8:
            return self.sigma_beta
        log_range(self.max_intensity)
        return self.sigma_beta * (self.max_intensity or max_intensity_of(image)) / 255

    def page(
        self, image: np.ndarray, logits: np.ndarray, outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Refines a page that was predicted as logits.

        Args:
          image: as it was stored, `[H, W, C]`.
          logits: `[H, W, K]`.
          outputs: keys of `segjax.predict.heads.OUTPUTS`.

        Returns:
          An array over the image's pixels by form.
        """
        return jax.device_get(_answer(self.refine(image, logits), tuple(outputs)))


def required(crf: CRF | None) -> CRF:
    """The values of a run that is asked to refine by them.

    Raises:
      UserError: if its config has none.
    """
    if crf is None:
        raise UserError(
            "--crf needs a group config.crf, which the config of this run lacks: "
            "segjax tune crf --workdir=... --save finds its values and keeps them; "
            "values of your own go into its config.json."
        )
    return crf


def _check_number(name: str, value: Any, *, zero_allowed: bool) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and value >= 0 and (value or zero_allowed):
        return
    least = "of at least 0" if zero_allowed else "above 0"
    raise ValueError(f"{name} is a finite number {least}, got {value!r}")


@functools.cache
def log_range(max_intensity: int | None) -> None:
    """Logs, once, which range images of 16 bits have for the CRF."""
    whose = (
        f"of each image, {', '.join(map(str, BIT_DEPTHS[:-1]))} or {BIT_DEPTHS[-1]} bits "
        "(config.crf.max_intensity sets one for all)"
        if max_intensity is None
        else f"0 to {max_intensity}"
    )
    log.info("CRF        the colours of 16-bit images have the range %s", whose)


@functools.partial(jax.jit, static_argnums=1)
def _answer(logits: Array, outputs: tuple[str, ...]) -> dict[str, Array]:
    return SOFTMAX.outputs(logits, outputs)
