"""The effective field of an output pixel, measured by its gradient with respect to the image.

Luo, Li, Urtasun, Zemel, NeurIPS 2016, arXiv 1701.04128: the receptive field that follows
from the layers is an upper bound, of which the effective one fills the middle.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.types import Array


def random_variables(
    module: nn.Module, size: tuple[int, int], *, channels: int = 3, seed: int = 0
) -> dict[str, Any]:
    """Draws weights for a module, whatever it begins with by itself; nothing is compiled.

    Kernels are normal with variance 2 / fan_in (He et al. 2015, arXiv 1502.01852), also
    those that begin as the identity or as zeros; biases are 0, norms pass on what they
    get.

    Args:
      module: a network, backbone or block; `train` is False where it takes one.
      size: height and width in pixels of an image that it takes.
      channels: of that image.
      seed: of the random weights.

    Returns:
      The collections of the module.
    """
    image = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    shapes = jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, **_not_training(module)), image
    )
    rng = np.random.default_rng(seed)

    def sample(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(leaf.shape) > 1:
            std = np.sqrt(2.0 / np.prod(leaf.shape[:-1]))
            return (std * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)

    return jax.tree_util.tree_map_with_path(sample, shapes)


def applied(
    module: nn.Module, variables: Any, output: str | None = None
) -> Callable[[Array], Array]:
    """The function of the image that a module computes, not training.

    Args:
      module: a network, backbone or block.
      variables: its collections.
      output: which of its outputs, where it gives several by name.

    Returns:
      Maps an image `[B, H, W, C]` to that output.
    """

    def function(image: Array) -> Array:
        found: Any = module.apply(variables, image, **_not_training(module))
        return found if output is None else found[output]

    return function


def effective_field(
    function: Callable[[Array], Array],
    size: tuple[int, int],
    *,
    channels: int = 3,
    images: int = 4,
    seed: int = 0,
) -> np.ndarray:
    """Measures how much each pixel of the image matters to the output's middle pixel.

    The mean over random images of the size of the gradient of that pixel, its channels
    weighted at random, so that they do not cancel. Where max pooling or a ReLU stands
    between, one image shows only a part of what can be seen.

    Args:
      function: maps `[B, H, W, C]` to `[B, h, w, K]`, images independent of each other.
      size: height and width of the image in pixels.
      channels: of the image.
      images: how many are averaged.
      seed: of the random weights.

    Returns:
      float32 `[H, W]`. The output's pixel is `(h // 2, w // 2)`.

    Example:
      >>> field = effective_field(lambda x: x[:, ::2, ::2] + x[:, 1::2, ::2], (8, 8))
      >>> np.argwhere(field).tolist()
      [[4, 4], [5, 4]]
    """
    rng = np.random.default_rng(seed)
    image = jnp.asarray(rng.standard_normal((images, *size, channels)), jnp.float32)
    classes = jax.eval_shape(function, image).shape[-1]
    factors = jnp.asarray(rng.standard_normal(classes), jnp.float32)

    def middle(image: Array) -> Array:
        maps = function(image)
        pixel = maps[:, maps.shape[1] // 2, maps.shape[2] // 2]
        return (pixel.astype(jnp.float32) @ factors).sum()

    gradient = jax.jit(jax.grad(middle))(image)
    return np.asarray(jnp.abs(gradient).mean((0, 3)))


def seen_side(field: np.ndarray) -> int:
    """The side in pixels of the smallest square that holds every gradient.

    Args:
      field: `[H, W]`, not negative.

    Returns:
      The larger of height and width; 0 where there is no gradient.

    Example:
      >>> seen_side(np.eye(9)[2:5])
      3
    """
    found = np.argwhere(field)
    return int(np.max(np.ptp(found, axis=0)) + 1) if len(found) else 0


def central_side(field: np.ndarray, fraction: float = 0.95) -> int:
    """The side of the square around the middle of the gradient that holds most of it.

    Args:
      field: `[H, W]`, not negative.
      fraction: how much of the sum it has to hold, 0 to 1.

    Returns:
      Pixels, an odd number.

    Raises:
      ValueError: if the field is 0 everywhere.

    Example:
      >>> central_side(np.eye(9), fraction=0.5)
      5
    """
    total = field.sum(dtype=np.float64)
    if not total > 0:
        raise ValueError("field is 0 everywhere: the output does not see the image")
    rows, columns = (np.arange(n) for n in field.shape)
    row = round(float(field.sum(1, dtype=np.float64) @ rows / total))
    column = round(float(field.sum(0, dtype=np.float64) @ columns / total))
    away = np.maximum(np.abs(rows - row)[:, None], np.abs(columns - column)[None])
    held = np.bincount(away.ravel(), field.ravel().astype(np.float64)).cumsum()
    return 2 * int(np.searchsorted(held, fraction * total * (1 - 1e-9))) + 1


def _not_training(module: nn.Module) -> dict[str, Any]:
    """The keyword that most modules take, and some layers do not."""
    taken = inspect.signature(type(module).__call__).parameters
    return {"train": False} if "train" in taken else {}
