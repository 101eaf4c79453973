"""Smaller files: weights of 16 bits, or of 8.

Float16 stores weights in half the bytes, and computes in float32, as before. Int8 stores a
quarter, and multiplies integers where the runtime has such operators: dynamic quantisation of
onnxruntime, which takes the range of the values of each map from the map itself.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segjax.errors import UserError

Precision = Literal["float32", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")

SMALL = 256
"""Arrays of fewer elements stay as they are: biases, factors, numbers."""


def with_precision(model: Any, precision: Precision) -> Any:
    """Stores the weights of a model in fewer bits.

    Args:
      model: an `onnx.ModelProto`.
      precision: one of `PRECISIONS`.

    Returns:
      A model of the same inputs and outputs.

    Raises:
      UserError: int8, and onnxruntime is missing; float16, and a weight is beyond its range.
    """
    if precision == "float16":
        return _half(model)
    return _integers(model) if precision == "int8" else model


def _half(model: Any) -> Any:
    """The weights in float16, each with a node that makes it float32 again."""
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    made = ModelProto()
    made.CopyFrom(model)
    casts = []
    for tensor in made.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < SMALL:
            continue
        if abs(array).max() > np.finfo(np.float16).max:
            raise UserError(
                f"--precision=float16 holds numbers up to 65504, and {tensor.name} of the "
                f"network has {abs(array).max():.3g}: leave it out, or give int8."
            )
        name = tensor.name
        half = numpy_helper.from_array(array.astype(np.float16), f"{name}_half")
        tensor.CopyFrom(half)
        casts.append(
            helper.make_node(
                "Cast", [half.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT
            )
        )
    nodes = [*casts, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _integers(model: Any) -> Any:
    """The weights of convolutions and matrix products in 8 bits."""
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise UserError(
            "--precision=int8 needs the package onnxruntime, which cannot be imported "
            f"({error}): pip install 'segjax[onnx]'."
        ) from error
    import onnx

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        # onnxruntime's convolution of integers on CPUs takes weights without a sign.
        quantize_dynamic(model, path, weight_type=QuantType.QUInt8)
        return onnx.load(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the quantisation advises, to those who call it by hand, out of the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
