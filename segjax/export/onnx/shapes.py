"""Primitives that move elements: reshaping, slicing, padding, joining."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.export.onnx.dimensions import Dim, same
from segjax.export.onnx.elementwise import aligned
from segjax.export.onnx.graph import Constant, Graph, Layout, Tensor, Value, as_meant
from segjax.export.onnx.steps import Step
from segjax.export.onnx.types import Unsupported, element, kept

END = np.iinfo(np.int64).max
"""The end of an axis, in slices."""


def layout_of(value: Value) -> Layout:
    """The layout of a value."""
    return as_meant(value.array.ndim) if isinstance(value, Constant) else value.layout


def reshaped(graph: Graph, name: str, sizes: Sequence[Dim]) -> str:
    """Reshapes a tensor; where one size alone is open, it is what remains."""
    fixed = [x if isinstance(x, int) else -1 for x in sizes]
    if fixed.count(-1) > 1:
        return graph.op("Reshape", name, graph.sizes(sizes))
    return graph.op("Reshape", name, np.array(fixed, np.int64))


def reshape(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `reshape`, also of a squeezed and of an expanded array."""
    sizes = step.outputs[0].shape
    return graph.tensor(reshaped(graph, graph.meant(inputs[0]), sizes), len(sizes))


def squeeze(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `squeeze`."""
    rank, gone = len(step.inputs[0].shape), step.params["dimensions"]
    axes = np.array([x % rank for x in gone], np.int64)
    return graph.tensor(
        graph.op("Squeeze", graph.meant(inputs[0]), axes), rank - len(axes)
    )


def expand_dims(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `expand_dims`."""
    axes = np.array(step.params["dimensions"], np.int64)
    name = graph.op("Unsqueeze", graph.meant(inputs[0]), axes)
    return graph.tensor(name, len(step.outputs[0].shape))


def broadcast_in_dim(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `broadcast_in_dim`: axes are put in, and repeated."""
    value, sizes = inputs[0], step.outputs[0].shape
    places, rank = step.params["broadcast_dimensions"], len(step.outputs[0].shape)
    before = step.inputs[0].shape
    if len(before) == rank:  # no axis is new, so that any order of them will do
        layout = layout_of(value)
        name = graph.stored(value, layout)
    else:
        layout = as_meant(rank)
        name = graph.meant(value)
        new = [axis for axis in range(rank) if axis not in places]
        name = graph.op("Unsqueeze", name, np.array(new, np.int64))
    widened = [1] * rank
    for axis, size in zip(places, before, strict=True):
        widened[axis] = size
    if not all(map(same, widened, sizes)):
        name = graph.op("Expand", name, graph.sizes([sizes[axis] for axis in layout]))
    return Tensor(name, layout)


def transpose(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `transpose`: what is stored stays, its axes have other meanings."""
    value, order = inputs[0], step.params["permutation"]
    place = {axis: i for i, axis in enumerate(order)}
    layout = layout_of(value)
    return Tensor(graph.stored(value, layout), tuple(place[axis] for axis in layout))


def concatenate(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `concatenate`."""
    names, layout = aligned(graph, inputs, len(step.outputs[0].shape))
    axis = layout.index(step.params["dimension"])
    return Tensor(graph.op("Concat", *names, axis=axis), layout)


def stack(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `stack`."""
    axis, rank = step.params["axis"], len(step.outputs[0].shape)
    new = np.array([axis % rank], np.int64)
    parts = [graph.op("Unsqueeze", graph.meant(x), new) for x in inputs]
    return graph.tensor(graph.op("Concat", *parts, axis=axis % rank), rank)


def split(graph: Graph, step: Step, inputs: Sequence[Value]) -> list[Value]:
    """Builds `split`."""
    layout = layout_of(inputs[0])
    names = graph.ops(
        "Split",
        len(step.outputs),
        graph.stored(inputs[0], layout),
        graph.sizes([_size(x) for x in step.params["sizes"]]),
        axis=layout.index(step.params["axis"]),
    )
    return [Tensor(name, layout) for name in names]


def _size(size: Dim) -> Dim:
    return int(size) if isinstance(size, np.integer) else size


def cut(
    graph: Graph,
    value: Value,
    ranges: Sequence[tuple[int, Dim, Dim, int]],
    sizes: Sequence[Dim],
) -> Value:
    """Cuts a value along some axes.

    Args:
      graph: of the value.
      value: what is cut.
      ranges: axis, first element, the one behind the last, and step of each.
      sizes: of the value.

    Returns:
      The part.
    """
    layout = layout_of(value)
    ranges = [
        x for x in ranges if x[1] != 0 or not same(x[2], sizes[x[0]]) or x[3] != 1
    ]
    if not ranges:
        return value
    axes = np.array([layout.index(x[0]) for x in ranges], np.int64)
    stops = [END if same(stop, sizes[axis]) else stop for axis, _, stop, _ in ranges]
    name = graph.op(
        "Slice",
        graph.stored(value, layout),
        graph.sizes([start for _, start, _, _ in ranges]),
        graph.sizes(stops),
        axes,
        np.array([x[3] for x in ranges], np.int64),
    )
    return Tensor(name, layout)


def slice_(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `slice`."""
    sizes, params = step.inputs[0].shape, step.params
    steps = params["strides"] or (1,) * len(sizes)
    ranges = zip(
        *(range(len(sizes)), params["start_indices"], params["limit_indices"], steps),
        strict=True,
    )
    return cut(graph, inputs[0], list(ranges), sizes)


def reverse(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `rev`: a slice from the last element to the first."""
    layout, axes = layout_of(inputs[0]), step.params["dimensions"]
    many = len(axes)
    name = graph.op(
        "Slice",
        graph.stored(inputs[0], layout),
        np.full(many, END, np.int64),
        np.full(many, -END, np.int64),
        np.array([layout.index(axis) for axis in axes], np.int64),
        np.full(many, -1, np.int64),
    )
    return Tensor(name, layout)


def pad(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `pad`: negative sizes crop, and gaps between elements are put in first."""
    value, filling = inputs
    config, sizes = step.params["padding_config"], list(step.inputs[0].shape)
    for axis, (_, _, gap) in enumerate(config):
        if gap:
            value = _spread(graph, value, filling, axis, gap, sizes)
            sizes[axis] = (sizes[axis] - 1) * (gap + 1) + 1
    return padded(graph, value, [x[:2] for x in config], sizes, filling)


def padded(
    graph: Graph,
    value: Value,
    pads: Sequence[tuple[Dim, Dim]],
    sizes: Sequence[Dim],
    filling: Value,
) -> Value:
    """Pads each axis before and behind; negative numbers crop.

    Args:
      graph: of the value.
      value: what is padded.
      pads: elements before and behind, of each axis.
      sizes: of the value.
      filling: the number that is put there.

    Returns:
      The padded value.
    """
    negative = lambda x: isinstance(x, int) and x < 0
    crops = [
        (
            axis,
            -before if negative(before) else 0,
            sizes[axis] + after if negative(after) else sizes[axis],
            1,
        )
        for axis, (before, after) in enumerate(pads)
    ]
    value = cut(graph, value, crops, sizes)
    rest = [[0 if negative(x) else x for x in pair] for pair in pads]
    if not any(x != 0 for pair in rest for x in pair):
        return value
    layout = layout_of(value)
    numbers = [rest[axis][side] for side in (0, 1) for axis in layout]
    name = graph.stored(value, layout)
    given = graph.sizes([_size(x) for x in numbers])
    # Some runtimes pad numbers alone.
    return Tensor(graph.op("Pad", name, given, graph.meant(filling)), layout)


def _spread(
    graph: Graph, value: Value, filling: Value, axis: int, gap: int, sizes: list[Dim]
) -> Value:
    """Puts `gap` elements between those of an axis: as columns beside each, then in line."""
    rank = len(sizes)
    name = graph.op("Unsqueeze", graph.meant(value), np.array([axis + 1], np.int64))
    pads = np.zeros(2 * (rank + 1), np.int64)
    pads[rank + 1 + axis + 1] = gap
    name = graph.op("Pad", name, pads, graph.meant(filling))
    longer = [*sizes]
    longer[axis] = sizes[axis] * (gap + 1)
    name = reshaped(graph, name, longer)
    wanted = (sizes[axis] - 1) * (gap + 1) + 1
    return cut(graph, graph.tensor(name, rank), [(axis, 0, wanted, 1)], longer)


def iota(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `iota`."""
    if inputs:
        raise Unsupported("makes an array of a size that is computed")
    dimension, sizes = step.params["dimension"], step.outputs[0].shape
    stop = graph.sizes([sizes[dimension]])
    stop = stop if isinstance(stop, str) else graph.constant(stop)
    count = graph.op("Squeeze", stop, np.zeros(1, np.int64))
    line = graph.op("Range", np.array(0, np.int64), count, np.array(1, np.int64))
    name = graph.op("Cast", line, to=_element(step))
    new = [axis for axis in range(len(sizes)) if axis != dimension]
    if new:
        name = graph.op("Unsqueeze", name, np.array(new, np.int64))
    if any(not same(sizes[axis], 1) for axis in new):
        name = graph.op("Expand", name, graph.sizes(sizes))
    return graph.tensor(name, len(sizes))


def _element(step: Step) -> int:
    return element(kept(step.outputs[0].dtype))


def dim_as_value(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds the number that a size is."""
    name = graph.op("Squeeze", graph.size(step.params["dim"]), np.zeros(1, np.int64))
    return graph.tensor(graph.op("Cast", name, to=_element(step)), 0)


BUILDERS = {
    "reshape": reshape,
    "squeeze": squeeze,
    "expand_dims": expand_dims,
    "broadcast_in_dim": broadcast_in_dim,
    "transpose": transpose,
    "concatenate": concatenate,
    "stack": stack,
    "split": split,
    "slice": slice_,
    "rev": reverse,
    "pad": pad,
    "iota": iota,
    "dim_as_value": dim_as_value,
}
