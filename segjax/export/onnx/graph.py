"""ONNX graphs as they are built: nodes, constants, and in which order tensors have their axes.

Maps are `[B, H, W, C]` in segjax, and ONNX convolves `[B, C, H, W]`. A tensor therefore states
its layout, and operators that work in any order of the axes take it as it is: transpositions
stand only where something needs the other order.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from segjax.export.onnx.dimensions import Dim, Symbols

OPSET = 17
"""That of 2022: onnxruntime from 1.12 on, TensorRT from 8.5 on, OpenVINO from 2023 on."""

Layout = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """A value that is known when the graph is built.

    Attributes:
      array: it.
    """

    array: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A value of which the graph knows the name alone.

    Attributes:
      name: in the graph.
      layout: axis `i` of what is stored is axis `layout[i]` of what is meant.
    """

    name: str
    layout: Layout


Value = Constant | Tensor


def as_meant(rank: int) -> Layout:
    """The layout of tensors whose axes are stored in their own order."""
    return tuple(range(rank))


class Graph:
    """A graph, or the body of a loop inside of one, while nodes are added to it.

    Attributes:
      nodes: in the order in which they are computed.
      symbols: the sizes that are open.
    """

    def __init__(self, symbols: Symbols, parent: Graph | None = None) -> None:
        """Begins an empty graph; the body of a loop sees what is in its parent."""
        self.nodes: list[onnx.NodeProto] = []
        self.symbols = symbols
        self.initializers: dict[str, onnx.TensorProto] = (
            {} if parent is None else parent.initializers
        )
        self._parent = parent
        self._root: Graph = self if parent is None else parent._root
        self._stored: dict[tuple[str, Layout], str] = {}
        self._sizes: dict[str, str] = {}
        self._count = 0
        self._first = (
            0  # the place behind the nodes of sizes, which come before all others
        )
        self._layer = ""

    def body(self) -> Graph:
        """A graph for the body of a loop, or for a branch."""
        graph = Graph(self.symbols, self)
        graph._layer = self._layer
        return graph

    def within(self, layer: str) -> None:
        """States of which layer the next nodes are; their names show it."""
        self._layer = layer

    def new_name(self, stem: str) -> str:
        """A name that no other tensor has."""
        self._root._count += 1
        return "_".join(filter(None, (self._layer, stem, str(self._root._count))))

    def op(self, kind: str, *inputs: str | np.ndarray | None, **attributes: Any) -> str:
        """Adds a node of one output.

        Args:
          kind: the operator.
          *inputs: names of tensors, arrays, or None for an optional input that is left out.
          **attributes: of the operator.

        Returns:
          The name of the output.
        """
        (output,) = self.ops(kind, 1, *inputs, **attributes)
        return output

    def ops(
        self,
        kind: str,
        outputs: int,
        *inputs: str | np.ndarray | None,
        **attributes: Any,
    ) -> list[str]:
        """Adds a node of several outputs, and returns their names; see `op`."""
        names = [
            self.constant(x) if isinstance(x, np.ndarray) else x or "" for x in inputs
        ]
        results = [self.new_name(kind) for _ in range(outputs)]
        node = helper.make_node(kind, names, results, name=results[0], **attributes)
        self.nodes.append(node)
        return results

    def constant(self, array: np.ndarray) -> str:
        """The name of an array in the graph; equal arrays are stored once."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        shape = "x".join(map(str, array.shape))
        name = f"constant_{array.dtype}_{shape}_{digest}"
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def stored(self, value: Value, layout: Layout) -> str:
        """The name under which a value is found with its axes in an order."""
        if isinstance(value, Constant):
            return self.constant(value.array.transpose(layout))
        if value.layout == layout:
            return value.name
        key = value.name, layout
        if (known := self._known(key)) is not None:
            return known
        place = {axis: i for i, axis in enumerate(value.layout)}
        order = [place[axis] for axis in layout]
        self._stored[key] = self.op("Transpose", value.name, perm=order)
        return self._stored[key]

    def _known(self, key: tuple[str, Layout]) -> str | None:
        graph: Graph | None = self
        while graph is not None:
            if key in graph._stored:
                return graph._stored[key]
            graph = graph._parent
        return None

    def meant(self, value: Value) -> str:
        """The name under which a value is found with its axes in their own order."""
        rank = value.array.ndim if isinstance(value, Constant) else len(value.layout)
        return self.stored(value, as_meant(rank))

    def tensor(self, name: str, rank: int) -> Tensor:
        """A tensor whose axes are stored in their own order."""
        return Tensor(name, as_meant(rank))

    def sizes(self, sizes: Sequence[Dim]) -> str | np.ndarray:
        """A list of sizes, int64: an array where all are known, or the name of a tensor."""
        if all(isinstance(size, int) for size in sizes):
            return np.array([int(size) for size in sizes], np.int64)
        parts = [self.size(size) for size in sizes]
        return self.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def size(self, size: Dim) -> str:
        """The name of one size, `[1]` int64."""
        if isinstance(size, int):
            return self.constant(np.array([size], np.int64))
        root, text = self._root, str(size)
        if text not in root._sizes:  # of the whole graph, so that loops see it, too
            layer, root._layer = root._layer, "sizes"
            place = len(root.nodes)
            root._sizes[text] = self.symbols.build(root, text)
            added, root.nodes[place:] = root.nodes[place:], []
            root.nodes[root._first : root._first] = added
            root._first += len(added)
            root._layer = layer
        return root._sizes[text]
