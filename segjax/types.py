"""Names that every layer shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

if TYPE_CHECKING:  # reading data needs no JAX
    import jax

    Array: TypeAlias = jax.Array
else:
    Array = Any
Dtype: TypeAlias = Any
Outputs: TypeAlias = dict[str, Any]
"""Outputs of a model: `logits`; in training also `aux_logits`, or `side_logits`, a tuple."""

Record: TypeAlias = Mapping[str, Any]
"""One image as it is stored: `image` `[H, W, C]` uint8 or uint16, `label` `[H, W]` uint8, `name` str."""

Example: TypeAlias = dict[str, np.ndarray]
"""One image on its way to the network: `image` `[H, W, C]` float32, `label` `[H, W]` int32, `weight` `[H, W]` float32."""

IGNORE_LABEL = 255
"""The label of pixels that do not count, in losses and in metrics."""


def class_bits(num_classes: int) -> tuple[int, ...]:
    """The value of each class in labels whose classes overlap: a pixel holds their sum.

    There are at most seven, so that no sum is `IGNORE_LABEL`.

    Example:
      >>> class_bits(7)
      (1, 2, 4, 8, 16, 32, 64)
    """
    return tuple(1 << k for k in range(num_classes))


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer; a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of at least 1."""
    return is_integer(value) and value >= 1
