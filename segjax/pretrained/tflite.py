"""Graphs of TensorFlow Lite, read without TensorFlow: operators, tensors, quantisation.

The numbers of fields and operators are those of the schema (tensorflow/lite/schema/schema.fbs,
version 3). Weights of 8 bits are `scale * (value - zero point)`, one pair for all or one for each
channel; convolutions have the layout `[out, height, width, in]`, depthwise ones
`[1, height, width, channels]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from segjax.errors import UserError
from segjax.pretrained.flatbuffer import FlatBufferError, Table, root

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every file."""

OPERATORS = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    17: "MAX_POOL_2D",
    18: "MUL",
    22: "RESHAPE",
    23: "RESIZE_BILINEAR",
    25: "SOFTMAX",
    32: "CUSTOM",
    34: "PAD",
    40: "MEAN",
    41: "SUB",
    43: "SQUEEZE",
    45: "STRIDED_SLICE",
    53: "CAST",
    56: "ARG_MAX",
    67: "TRANSPOSE_CONV",
    69: "TILE",
    77: "SHAPE",
    97: "RESIZE_NEAREST_NEIGHBOR",
    114: "QUANTIZE",
    117: "HARD_SWISH",
}
"""Operators by their numbers, those that networks of this field have."""

_DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 9: "i1"}
"""Types of values by their numbers."""

_ACTIVATIONS = {0: None, 1: "relu", 2: "relu_n1_to_1", 3: "relu6", 4: "tanh"}
_PADDINGS = {0: "same", 1: "valid"}
_MOST = 1 << 16
_MOST_AXES = 8


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph: constant, or computed.

    Attributes:
      name: as the file has it, shortened.
      shape: its sides.
      dtype: of the values as they are stored.
      scale: what one step of a quantised value means, one number or one for each channel;
        empty where values are no quantised ones.
      zero_point: the quantised value that means 0, as many.
      axis: the axis of the channels.
      raw: the bytes of a constant; empty for what is computed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    raw: np.ndarray

    @property
    def is_constant(self) -> bool:
        """Whether the file holds its values."""
        return bool(self.raw.size)

    def values(self) -> np.ndarray:
        """The values of a constant as they are stored.

        Raises:
          FlatBufferError: if there are more or fewer than the shape says.
        """
        size = math.prod(self.shape) * self.dtype.itemsize
        if self.raw.size != size:
            raise FlatBufferError(
                f"{self.name} claims {size:,} bytes, and there are {self.raw.size:,}"
            )
        return self.raw.view(self.dtype).reshape(self.shape)

    def floats(self) -> np.ndarray:
        """The values of a constant as what they mean, float32.

        Raises:
          FlatBufferError: if quantised values have no scales, or not as many as channels.
        """
        values = self.values()
        if self.dtype.kind == "f":
            return values.astype(np.float32)
        count = self.scale.size
        if not count:
            raise FlatBufferError(f"{self.name} has {self.dtype} values without scales")
        zero = self.zero_point if self.zero_point.size else np.zeros(count, np.int64)
        channels = self.shape[self.axis] if -1 < self.axis < len(self.shape) else 1
        if zero.size != count or count not in (1, channels):
            raise FlatBufferError(
                f"{self.name} has {count:,} scales and {zero.size:,} zero points for "
                f"{channels:,} channels"
            )
        if not np.isfinite(self.scale).all() or (self.scale < 0).any():
            raise FlatBufferError(
                f"{self.name} has scales that are no positive numbers"
            )
        sides = [1] * len(self.shape)
        if count > 1:
            sides[self.axis] = count
        steps = (values.astype(np.int64) - zero.reshape(sides)).astype(np.float32)
        with np.errstate(over="ignore"):  # what becomes infinite is reported later
            return steps * self.scale.reshape(sides)


@dataclass(frozen=True)
class Operator:
    """An operator of a graph.

    Attributes:
      kind: its name in the schema, a value of `OPERATORS`, or "operator N".
      inputs: numbers of tensors; -1 for none.
      outputs: likewise.
      options: a table whose fields depend on the kind; None where it has none.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """Reads a number of the options."""
        return (
            default
            if self.options is None
            else self.options.number(field, kind, default)
        )

    @property
    def activation(self) -> str | None:
        """What follows it within the same operator."""
        fields = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "ADD": 0, "CONCATENATION": 1}
        code = self.number(fields[self.kind], "<b") if self.kind in fields else 0
        return _ACTIVATIONS.get(code, f"activation {code}")

    @property
    def padding(self) -> str:
        """Of a convolution or a pooling: "same" or "valid"."""
        return _PADDINGS.get(self.number(0, "<b"), "unknown")

    @property
    def stride(self) -> tuple[int, int]:
        """Of a convolution or a pooling: along rows and columns."""
        return self.number(2, "<i", 0), self.number(1, "<i", 0)

    @property
    def dilation(self) -> tuple[int, int]:
        """Of a convolution: along rows and columns."""
        columns, rows = {"CONV_2D": (4, 5), "DEPTHWISE_CONV_2D": (5, 6)}[self.kind]
        return self.number(rows, "<i", 1), self.number(columns, "<i", 1)

    @property
    def align_corners(self) -> bool:
        """Of a resizing: whether corner pixels stay where they are."""
        return bool(self.number(2, "<b"))

    @property
    def half_pixel_centers(self) -> bool:
        """Of a resizing: whether outer edges stay where they are."""
        return bool(self.number(3, "<b"))


class Graph:
    """The graph of a file.

    Args:
      data: the bytes of the file.

    Raises:
      FlatBufferError: if they are no whole file of TensorFlow Lite, or hold what is not read
        here: several graphs, sparse tensors, values outside the file.
    """

    def __init__(self, data: bytes) -> None:
        if data[4:8] != IDENTIFIER:
            raise FlatBufferError("it does not begin as one")
        model = root(data)
        if (version := model.number(0, "<I")) != 3:
            raise FlatBufferError(f"it has version {version} of the format, not 3")
        graphs = model.tables(2, _MOST)
        if len(graphs) != 1:
            raise FlatBufferError(f"it has {len(graphs)} graphs, not 1")
        self._graph = graphs[0]
        self._buffers = model.tables(4, _MOST)
        self._codes = [_operator_name(x) for x in model.tables(1, _MOST)]
        self._tensors = self._graph.tables(0, _MOST)
        self._known: dict[int, Tensor] = {}
        self.inputs = self._numbers(self._graph, 1)
        self.outputs = self._numbers(self._graph, 2)

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """The operators, in the order in which they are computed."""
        return tuple(self._operator(x) for x in self._graph.tables(3, _MOST))

    def tensor(self, index: int) -> Tensor:
        """Reads a tensor by its number.

        Raises:
          FlatBufferError: if there is none, it is damaged, or of a kind that is not read.
        """
        if not 0 <= index < len(self._tensors):
            raise FlatBufferError(
                f"it names tensor {index:,} of {len(self._tensors):,}"
            )
        if index not in self._known:
            self._known[index] = self._read(self._tensors[index])
        return self._known[index]

    def _read(self, table: Table) -> Tensor:
        name = table.text(3)
        code = table.number(1, "<b")
        shape = tuple(map(int, table.vector(0, "<i4")[: _MOST_AXES + 1]))
        if code not in _DTYPES:
            raise FlatBufferError(
                f"{name} has values of type {code}, which is not read"
            )
        if len(shape) > _MOST_AXES or any(side < 0 for side in shape):
            raise FlatBufferError(f"{name} has the shape {list(shape)}")
        if table.table(6) is not None:
            raise FlatBufferError(f"{name} is sparse, which is not read")
        scale, zero, axis = np.empty(0, "<f4"), np.empty(0, "<i8"), 0
        if (quantization := table.table(4)) is not None:
            scale, zero = quantization.vector(2, "<f4"), quantization.vector(3, "<i8")
            axis = quantization.number(6, "<i")
        raw = self._raw(table.number(2, "<I"), name)
        return Tensor(name, shape, np.dtype(_DTYPES[code]), scale, zero, axis, raw)

    def _raw(self, index: int, name: str) -> np.ndarray:
        if index >= len(self._buffers):
            raise FlatBufferError(
                f"{name} names values {index:,} of {len(self._buffers):,}"
            )
        buffer = self._buffers[index]
        if buffer.number(1, "<Q") > 1:
            raise FlatBufferError(f"{name} has its values outside, which is not read")
        return buffer.vector(0, "u1")

    def _operator(self, table: Table) -> Operator:
        code = table.number(0, "<I")
        if code >= len(self._codes):
            raise FlatBufferError(f"it names operator {code:,} of {len(self._codes):,}")
        inputs, outputs = self._numbers(table, 1), self._numbers(table, 2)
        return Operator(self._codes[code], inputs, outputs, table.table(4))

    def _numbers(self, table: Table, field: int) -> tuple[int, ...]:
        """The numbers of some tensors, at most as many as networks here have at one place."""
        numbers = table.vector(field, "<i4")
        if len(numbers) > 64 or any(not -1 <= i < len(self._tensors) for i in numbers):
            raise FlatBufferError(
                f"it names tensors that are not among its {len(self._tensors):,}"
            )
        return tuple(map(int, numbers))


def _operator_name(table: Table) -> str:
    code = max(table.number(0, "<b"), table.number(3, "<i"))
    if OPERATORS.get(code) == "CUSTOM":
        return f"CUSTOM {table.text(1, 60)}"
    return OPERATORS.get(code, f"operator {code}")


def read_graph(path: str | Path) -> Graph:
    """Reads the graph of a file.

    Args:
      path: a file ending in .tflite.

    Returns:
      The graph, whose tensors are read when they are asked for.

    Raises:
      UserError: if it is damaged, or holds what is not read here.
      OSError: if it cannot be read.
    """
    try:
        graph = Graph(Path(path).read_bytes())
        assert graph.operators is not None
        return graph
    except FlatBufferError as error:
        raise damaged(path, error) from error


def damaged(path: str | Path, error: FlatBufferError) -> UserError:
    """The sentence about a file that is damaged, or holds what is not read here."""
    return UserError(
        f"{path} cannot be read as a file of TensorFlow Lite: {error}. Copy or download it "
        "again, or convert the network with 8-bit, float16 or float32 weights."
    )
