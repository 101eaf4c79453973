"""Resampling along one axis: weighted sums at places known beforehand.

Every output is a weighted sum of a few inputs, and so is the gradient of every input a
weighted sum of a few outputs' gradients. On a CPU both are computed as gathers, tap by tap. The
transpose that JAX would derive for a gather is a scatter, which takes ten times as long.
Accelerators multiply by the matrix instead: for a TPU v5e the gathers of an enlargement from
129 to 513 pixels move 7 to 12 times the bytes. Rows that several devices share are enlarged by a
convolution, where the factor is a whole number (`segjax.ops.resizing.enlarged_rows`).
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.base.arguments import is_open
from segjax.ops.base.forms import is_divided_by_rows, is_on_accelerator
from segjax.ops.resizing.enlarged_rows import enlarge_rows, whole_factor
from segjax.types import Array

MOST_TAPS = 32
"""Sums of more taps than this are matrix products on a CPU, too."""


ROWS = 1
"""The axis of the rows in `[B, H, W, C]`."""


class Resampling(NamedTuple):
    """A linear map from `inputs` pixels to `outputs` pixels, or its transpose.

    Attributes:
      rule: "nearest", or linear between "corners" (the middles of the corner pixels
        stay in place) or "edges" (the outer edges of the map do).
      inputs: pixels before.
      outputs: pixels after.
      transposed: whether the map is turned round, from `outputs` to `inputs`.
    """

    rule: str
    inputs: int
    outputs: int
    transposed: bool = False


def _two_taps(rule: str, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """At most two inputs of each output, and their weights, `[taps, outputs]`."""
    output = np.arange(outputs)
    if rule == "nearest":
        return (output * inputs // outputs)[None], np.ones((1, outputs))
    if rule == "corners":
        place, unit = output * (inputs - 1), max(outputs - 1, 1)
    else:
        place, unit = (2 * output + 1) * inputs - outputs, 2 * outputs
    low, beyond = np.divmod(np.clip(place, 0, (inputs - 1) * unit), unit)
    taps = 2 if beyond.any() else 1
    source = np.stack([low, np.minimum(low + 1, inputs - 1)])[:taps]
    return source, np.stack([1 - beyond / unit, beyond / unit])[:taps]


def _matrix(resampling: Resampling) -> np.ndarray:
    """A resampling as a matrix, float64: a row for each pixel after it."""
    rule, inputs, outputs, transposed = resampling
    matrix = np.zeros((inputs, outputs))
    for source, weights in zip(*_two_taps(rule, inputs, outputs), strict=True):
        matrix[source, np.arange(outputs)] += weights
    return matrix if transposed else matrix.T


@lru_cache(maxsize=256)
def _taps(resampling: Resampling) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and weights of each output, int32 and float64 `[taps, outputs]`."""
    if not resampling.transposed:
        source, weights = _two_taps(*resampling[:3])
        return source.astype(np.int32), weights
    matrix = _matrix(resampling)
    used = matrix != 0
    first = used.argmax(1)
    stop = np.where(used.any(1), matrix.shape[1] - used[:, ::-1].argmax(1), first)
    source = first + np.arange(max(1, (stop - first).max()))[:, None]
    inside = source < stop
    source = np.minimum(source, matrix.shape[1] - 1)
    weights = np.where(inside, matrix[np.arange(len(matrix)), source], 0)
    return source.astype(np.int32), weights


def _open_taps(resampling: Resampling) -> tuple[list[Array], list[Array]]:
    """Those of `_two_taps` for sizes that are open in an exported program."""
    rule, inputs, outputs, transposed = resampling
    if transposed:
        raise ValueError("the gradient of a resize needs sizes that are known")
    output = jnp.arange(outputs, dtype=jnp.int32)
    if rule == "nearest":
        return [output * inputs // outputs], [jnp.ones(outputs)]
    if rule == "corners":
        unit = jnp.maximum(outputs - 1, 1)
        place = output * (inputs - 1)
    else:
        unit = 2 * jnp.asarray(outputs)
        place = (2 * output + 1) * inputs - outputs
    low, beyond = jnp.divmod(jnp.clip(place, 0, (inputs - 1) * unit), unit)
    part = beyond.astype(jnp.float32) / unit.astype(jnp.float32)
    return [low, jnp.minimum(low + 1, inputs - 1)], [1 - part, part]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def resample(x: Array, axis: int, resampling: Resampling) -> Array:
    """Applies a resampling along one axis of `x`, in float32 or in float64."""
    if axis == ROWS and x.ndim == 4 and is_divided_by_rows():
        rule, inputs, outputs, transposed = resampling
        if factor := whole_factor(rule, inputs, outputs):
            enlarge = partial(enlarge_rows, rule=rule, factor=factor)
            if not transposed:
                return enlarge(x)
            before = jax.ShapeDtypeStruct((x.shape[0], inputs, *x.shape[2:]), x.dtype)
            return jax.linear_transpose(enlarge, before)(x)[0]
    is_known = not is_open(resampling.inputs) and not is_open(resampling.outputs)
    source, weights = (_taps if is_known else _open_taps)(resampling)
    if is_known and (
        len(source) > MOST_TAPS
        or (is_on_accelerator() and resampling.rule != "nearest")
    ):
        matrix = jnp.asarray(_matrix(resampling), x.dtype)
        product = jnp.tensordot(matrix, x, (1, axis), precision=lax.Precision.HIGHEST)
        return jnp.moveaxis(product, 0, axis)
    shape = [1] * x.ndim
    shape[axis] = resampling.inputs if resampling.transposed else resampling.outputs
    first, *rest = (
        gather(x, axis, places) * factors.astype(x.dtype).reshape(shape)
        for places, factors in zip(source, weights, strict=True)
    )
    for part in rest:
        first = first + part
    return first


def gather(x: Array, axis: int, places: np.ndarray | Array) -> Array:
    """Reads ascending `places`, all inside the map, along one axis."""
    return jnp.take(x, places, axis, mode="clip", indices_are_sorted=True)


def _resample_forward(
    x: Array, axis: int, resampling: Resampling
) -> tuple[Array, None]:
    return resample(x, axis, resampling), None


def _resample_backward(
    axis: int, resampling: Resampling, _: None, gradient: Array
) -> tuple[Array]:
    transpose = resampling._replace(transposed=not resampling.transposed)
    return (resample(gradient, axis, transpose),)


resample.defvjp(_resample_forward, _resample_backward)
