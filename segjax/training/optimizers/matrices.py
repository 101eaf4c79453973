"""Which kernels of a network are matrices, for Muon and GaLore.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"
(kellerjordan.github.io/posts/muon): kernels of convolutions are flattened to matrices; the first
and the last layer, biases and scales are left to AdamW. Optax alone would take arrays with two
axes only, which in a network of convolutions are the last layers, if any.
"""

from __future__ import annotations

from typing import Any

import jax
import optax
from optax.contrib import GaLoreDimensionNumbers, MuonDimensionNumbers

from segjax.training.optimizers.lr_multipliers import matching

ADAM_ON = (
    *("*logits*/kernel", "*logits*/*/kernel", "*score*/kernel", "*score*/*/kernel"),
    "*deltas*/kernel",
)
"""Kernels of last layers, in the networks of segjax."""

FEW_CHANNELS = 16
"""A matrix with fewer rows a tap, or fewer columns, is no hidden layer: an image, one filter a
channel, the scores of a few classes."""


AXES = {
    "muon_weight_dimension_numbers": MuonDimensionNumbers,
    "weight_dimension_numbers": GaLoreDimensionNumbers,
}
"""Arguments of Optax that say how a kernel becomes a matrix, and their kind of answer."""


def matrix_axes(
    params: optax.Params,
    adam_on: tuple[str, ...] = ADAM_ON,
    kind: type[Any] = MuonDimensionNumbers,
) -> Any:
    """Says how each kernel becomes a matrix, `[kh, kw, in, out]` being `[kh * kw * in, out]`.

    Args:
      params: nested dicts of parameters, or their shapes.
      adam_on: patterns of kernels that are none; unlike `multipliers` they may match nothing.
      kind: of the answers, one of `AXES`.

    Returns:
      In the same nesting, Optax's numbers of axes; None for what is left to Adam:
      all but kernels, those of `adam_on`, and those with fewer than `FEW_CHANNELS` channels
      of input or output.

    Example:
      >>> shape = lambda *x: jax.ShapeDtypeStruct(x, "float32")
      >>> params = {"conv1": {"kernel": shape(3, 3, 1, 64)}, "conv2": {"kernel": shape(3, 3, 64, 64)}}
      >>> matrix_axes(params)["conv1"]["kernel"] is None
      True
      >>> matrix_axes(params)["conv2"]["kernel"]
      MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    """
    kernel = matching(params, ("*/kernel", "kernel"), None)
    excluded = matching(params, adam_on, None)

    def axes(x: Any, is_kernel: bool, is_excluded: bool) -> Any:
        few = x.ndim < 2 or min(x.shape[-2:]) < FEW_CHANNELS
        if few or is_excluded or not is_kernel:
            return None
        return kind(tuple(range(x.ndim - 1)), x.ndim - 1)

    return jax.tree.map(axes, params, kernel, excluded)
