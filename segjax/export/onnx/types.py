"""The types in which ONNX graphs keep values.

Runtimes compute in few types, so that narrow integers are kept as int32, uint32 as int64, and
16 bits of a floating point number as 32.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from onnx import helper

from segjax.export.onnx.graph import Graph

_KEPT = {
    **dict.fromkeys(("uint8", "int8", "uint16", "int16", "int32"), "int32"),
    **dict.fromkeys(("uint32", "int64"), "int64"),
    **dict.fromkeys(("bfloat16", "float16", "float32"), "float32"),
    "float64": "float64",
    "bool": "bool",
}
_WRAPPED = ("uint8", "int8", "uint16", "int16")


class Unsupported(Exception):
    """What a graph cannot hold, as the end of a sentence."""


def kept(dtype: Any) -> np.dtype:
    """The type in which values of a type of JAX are kept."""
    if (name := str(dtype)) not in _KEPT:  # such as that of random keys
        raise Unsupported(f"computes in {name}, which runtimes of ONNX do not")
    return np.dtype(_KEPT[name])


def element(dtype: Any) -> int:
    """The number by which ONNX knows a type of NumPy."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def cast(graph: Graph, name: str, dtype: Any) -> str:
    """Converts a kept tensor to what a type of JAX holds, kept again."""
    whole = jnp.dtype(dtype).name
    if whole in _WRAPPED:
        name = graph.op("Cast", name, to=element(whole))
    name = graph.op("Cast", name, to=element(kept(dtype)))
    return wrap(graph, name, dtype) if whole == "uint32" else name


def wrap(graph: Graph, name: str, dtype: Any) -> str:
    """What a kept result of integer arithmetic is in its own type, which overflows."""
    whole = jnp.dtype(dtype).name
    if whole in _WRAPPED:
        return cast(graph, name, dtype)
    if whole == "uint32":
        return graph.op("Mod", name, np.array(1 << 32, np.int64))
    return name
