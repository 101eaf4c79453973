"""A fully connected CRF as the last layer of a network, learned with it."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from segjax.layers.attributes import check_counts
from segjax.ops.crf.dense import dense_crf
from segjax.ops.crf.filters import METHODS, Method
from segjax.ops.crf.inference import NORMALIZATIONS, Normalization
from segjax.ops.crf.permutohedral import LatticeSize
from segjax.types import Array, Dtype

COMPATIBILITIES = ("potts", "diagonal", "full")
WIDTHS = ("sigma_alpha", "sigma_beta", "sigma_gamma")
_WIDTHS_LEARNED = ("exact", "window")


class DenseCRF(nn.Module):
    """Mean field of a fully connected CRF, unrolled: "CRF as recurrent network".

    Parameters: `appearance_weight` and `smoothness_weight`, numbers; `compatibility`,
    `[K]` or `[K, K]`, penalties that start as Potts; with `learn_widths` also
    `log_sigma_alpha`, `log_sigma_beta`, `log_sigma_gamma`. The loss reads the refined
    logits as it reads those of any network, and gradients flow on to the network.

    Source: Zheng et al., *Conditional Random Fields as Recurrent Neural Networks*, 2015,
    arXiv 1502.03240; widths and steps in training are theirs, the weights at the start
    are those of the published post-processing. They learn a weight for each label,
    which is `compatibility="diagonal"`, or "full".

    Attributes:
      num_classes: channels of the logits, K.
      num_iterations: mean-field steps; 5 in training, 10 afterwards.
      sigma_alpha: width of the appearance kernel in pixels.
      sigma_beta: its width in colours of 0..255.
      sigma_gamma: width of the smoothness kernel in pixels.
      w1: weight of the appearance kernel at the start.
      w2: weight of the smoothness kernel at the start.
      compatibility: "potts": the two weights alone are learned; "diagonal": and one
        factor for each label; "full": and a matrix of labels, of which the symmetric
        part counts.
      learn_widths: whether widths are learned, too; with the methods "exact" and
        "window" only, as there is no gradient to them through a lattice.
      method: see `segjax.ops.crf.dense.dense_crf`.
      normalization: see `segjax.ops.crf.inference.make_kernel`.
      capacity: of the lattice, see `segjax.ops.crf.dense.crf_capacity`; None: room for the
        worst case, which is slow.
      radius: of the method "window", in pixels.
      param_dtype: dtype in which parameters are stored.

    Raises:
      ValueError: naming the attribute, what it was, and what is allowed.
    """

    num_classes: int
    num_iterations: int = 5
    sigma_alpha: float = 160.0
    sigma_beta: float = 3.0
    sigma_gamma: float = 3.0
    w1: float = 4.0
    w2: float = 3.0
    compatibility: str = "potts"
    learn_widths: bool = False
    method: Method = "auto"
    normalization: Normalization = "symmetric"
    capacity: LatticeSize | None = None
    radius: int = 5
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        check_counts(
            num_classes=self.num_classes,
            num_iterations=self.num_iterations,
            radius=self.radius,
        )
        for name, value, allowed in (
            ("compatibility", self.compatibility, COMPATIBILITIES),
            ("method", self.method, METHODS),
            ("normalization", self.normalization, NORMALIZATIONS),
        ):
            if value not in allowed:
                raise ValueError(
                    f"{name} is one of {', '.join(allowed)}, got {value!r}"
                )
        for name in ("w1", "w2", *WIDTHS):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{name} is a number, got {value!r}")
            if name in WIDTHS and not value > 0:
                raise ValueError(f"{name} is above 0, got {value}")
        if self.learn_widths and self.method not in _WIDTHS_LEARNED:
            raise ValueError(
                "learn_widths needs the method exact or window, since no gradient goes "
                f"to the widths through a lattice, got {self.method!r}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, logits: Array, image: Array) -> Array:
        """Refines logits.

        Args:
          logits: `[B, H, W, K]`, of the network below.
          image: `[B, H, W, C]` in 0..255, as it was before its normalisation.

        Returns:
          Logits `[B, H, W, K]`, float32; their softmax are the marginals.

        Raises:
          ValueError: for logits of another number of classes, as with channels first.
        """
        if logits.shape[-1] != self.num_classes:
            raise ValueError(
                f"logits has the shape {list(logits.shape)}; allowed are "
                f"[B, H, W, {self.num_classes}], the classes last"
            )
        return dense_crf(
            image,
            logits,
            sigma_alpha=self._width("sigma_alpha", self.sigma_alpha),
            sigma_beta=self._width("sigma_beta", self.sigma_beta),
            sigma_gamma=self._width("sigma_gamma", self.sigma_gamma),
            w1=self._number("appearance_weight", self.w1),
            w2=self._number("smoothness_weight", self.w2),
            num_iterations=self.num_iterations,
            method=self.method,
            normalization=self.normalization,
            compatibility=self._penalties(),
            capacity=self.capacity,
            radius=self.radius,
            output="logits",
        )

    def _number(self, name: str, start: float) -> Array:
        constant = nn.initializers.constant(start)
        return self.param(name, constant, (), self.param_dtype).astype(jnp.float32)

    def _width(self, name: str, start: float) -> float | Array:
        if not self.learn_widths:
            return start
        return jnp.exp(self._number(f"log_{name}", float(np.log(start))))

    def _penalties(self) -> Array | None:
        labels = self.num_classes
        if self.compatibility == "potts":
            return None
        start: Array | np.ndarray = -np.ones(labels)
        if self.compatibility == "full":
            start = 1 - np.eye(labels)
        constant = nn.initializers.constant(start)
        parameter = self.param("compatibility", constant, start.shape, self.param_dtype)
        return parameter.astype(jnp.float32)
