"""Random weights that are alike on every machine, from the names and shapes of tensors.

The words of PCG64 are the same in every version of NumPy, the distributions on top of
them need not be; so the values are made of the words.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np


def uniform(name: str, shape: tuple[int, ...], std: float) -> np.ndarray:
    """Draws values of mean 0 and this standard deviation, evenly, as float32."""
    count = math.prod(shape)
    words = np.random.PCG64(zlib.crc32(name.encode())).random_raw(-(-count // 4))
    values = words.astype("<u8").view("<u2")[:count].astype(np.float32) - 32767.5
    values *= np.float32(std * math.sqrt(3) / 32768)
    return values.reshape(shape)


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draws one tensor so that activations neither vanish nor grow on their way."""
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.ones(shape, np.int64)
    if len(shape) > 1:
        return uniform(name, shape, math.sqrt(2 / math.prod(shape[1:])))
    middle, std = {
        "weight": (0.8, 0.2),
        "running_var": (1.0, 0.2),
    }.get(leaf, (0.0, 0.1))
    return uniform(name, shape, std) + np.float32(middle)


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Draws all tensors of a network."""
    return {name: tensor(name, tuple(shape)) for name, shape in shapes.items()}


def image(height: int, width: int) -> np.ndarray:
    """Draws `[1, H, W, 3]` of the size that normalised images have."""
    return uniform(f"{height}x{width}", (1, height, width, 3), 1.0)
