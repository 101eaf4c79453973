"""Primitives that read elements, or write them, at places that are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.export.onnx.dimensions import Dim, same
from segjax.export.onnx.elementwise import choose
from segjax.export.onnx.graph import Constant, Graph, Tensor, Value
from segjax.export.onnx.shapes import cut, layout_of
from segjax.export.onnx.steps import Step
from segjax.export.onnx.types import Unsupported, kept


def gather(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `gather` of whole axes and of single elements.

    Places that are known, and the same for all rows or all columns, are read axis by axis, as
    slices where they are in step.
    """
    operand, places = inputs
    numbers, sizes = step.params["dimension_numbers"], step.inputs[0].shape
    mode = str(step.params["mode"]).lower()
    if len(step.inputs[1].shape) == 1:
        return _window(graph, step, operand, places)
    axes = _axes(step, sizes)
    ranks = len(step.inputs[1].shape) - 1
    if _is_in_place(numbers, axes, ranks, len(sizes)):
        if isinstance(places, Constant):
            grid = _grid(places.array, axes, sizes, may_clip="fill" not in mode)
            if grid is not None:
                for axis, line in zip(axes, grid, strict=True):
                    operand = _take(graph, operand, axis, line, sizes)
                return operand
        elif len(axes) == 1 and "fill" not in mode:
            return _line(graph, operand, places, axes[0], sizes[axes[0]])
    return _by_places(graph, step, operand, places, axes, mode)


def _axes(step: Step, sizes: Sequence[Dim]) -> tuple[int, ...]:
    """The axes along which places are given, if the others are read whole."""
    numbers = step.params["dimension_numbers"]
    axes, window = tuple(numbers.start_index_map), step.params["slice_sizes"]
    batching = numbers.operand_batching_dims
    for axis, size in enumerate(window):
        if axis in axes or axis in batching:
            fits = same(size, 1) and axis in (*numbers.collapsed_slice_dims, *batching)
        else:
            fits = same(size, sizes[axis])
            fits = fits and axis not in numbers.collapsed_slice_dims
        if not fits:
            raise Unsupported("reads parts of an axis at places that are computed")
    return axes


def _is_in_place(numbers: Any, axes: Sequence[int], places: int, rank: int) -> bool:
    """Whether the axes of places stand in the result where those of the operand stood."""
    if places != len(axes) or list(axes) != sorted(axes):
        return False
    if numbers.operand_batching_dims:
        return False
    return tuple(numbers.offset_dims) == tuple(x for x in range(rank) if x not in axes)


def _grid(
    places: np.ndarray, axes: Sequence[int], sizes: Sequence[Dim], *, may_clip: bool
) -> list[np.ndarray] | None:
    """The places along each axis, inside of it, where they form a grid; None otherwise."""
    count = len(axes)
    if places.ndim - 1 != count:
        return None
    lines = []
    for i, axis in enumerate(axes):
        if not isinstance(sizes[axis], int):
            return None
        found = places[..., i].clip(0, sizes[axis] - 1)
        if not may_clip and (found != places[..., i]).any():
            return None
        line = np.moveaxis(found, i, -1).reshape(-1, found.shape[i])[0]
        shape = [1] * count
        shape[i] = -1
        if not (found == line.reshape(shape)).all():
            return None
        lines.append(line)
    return lines


def _take(
    graph: Graph, value: Value, axis: int, line: np.ndarray, sizes: Sequence[Dim]
) -> Value:
    """Reads places of one axis, which are known."""
    steps = np.unique(np.diff(line))
    if len(line) == 1 or (len(steps) == 1 and steps[0] > 0):
        step = int(steps[0]) if len(steps) else 1
        start, stop = int(line[0]), int(line[-1]) + 1
        return cut(graph, value, [(axis, start, stop, step)], sizes)
    layout = layout_of(value)
    name = graph.stored(value, layout)
    indices = line.astype(np.int64)
    return Tensor(graph.op("Gather", name, indices, axis=layout.index(axis)), layout)


def _line(graph: Graph, value: Value, places: Value, axis: int, size: Dim) -> Value:
    """Reads places of one axis, which are computed, the nearest for those outside."""
    layout = layout_of(value)
    name = graph.op("Squeeze", graph.meant(places), np.array([1], np.int64))
    inside = _clipped(graph, graph.op("Cast", name, to=_INT64), graph.sizes([size]))
    stored = graph.stored(value, layout)
    return Tensor(graph.op("Gather", stored, inside, axis=layout.index(axis)), layout)


def _clipped(graph: Graph, places: str, limits: str | np.ndarray) -> str:
    """Places, moved into an array."""
    last = graph.op("Sub", limits, np.ones(1, np.int64))
    return graph.op("Min", graph.op("Max", places, np.zeros(1, np.int64)), last)


def _window(graph: Graph, step: Step, operand: Value, places: Value) -> Value:
    """Reads one block, at a place that is moved such that the block lies inside."""
    sizes, window = step.inputs[0].shape, step.params["slice_sizes"]
    numbers = step.params["dimension_numbers"]
    axes = numbers.start_index_map
    if isinstance(places, Constant):
        ranges = []
        for axis, place in zip(axes, places.array.tolist(), strict=True):
            most = sizes[axis] - window[axis]
            start = min(max(place, 0), most) if isinstance(most, int) else place
            ranges.append((axis, start, start + window[axis], 1))
        found = cut(graph, operand, ranges, sizes)
    else:
        found = _block(graph, operand, graph.meant(places), axes, sizes, window)
    gone = list(numbers.collapsed_slice_dims)
    if not gone:
        return found
    name = graph.op("Squeeze", graph.meant(found), np.array(gone, np.int64))
    return graph.tensor(name, len(sizes) - len(gone))


def _block(
    graph: Graph,
    operand: Value,
    start: str,
    axes: Sequence[int],
    sizes: Sequence[Dim],
    window: Sequence[Dim],
) -> Value:
    """Reads one block at a start `[axes]` that is computed."""
    start, span = (
        graph.op("Cast", start, to=_INT64),
        graph.sizes([window[i] for i in axes]),
    )
    most = graph.op("Sub", graph.sizes([sizes[i] for i in axes]), span)
    start = graph.op("Max", graph.op("Min", start, most), np.zeros(1, np.int64))
    stop, layout = graph.op("Add", start, span), layout_of(operand)
    places = np.array([layout.index(axis) for axis in axes], np.int64)
    name = graph.op("Slice", graph.stored(operand, layout), start, stop, places)
    return Tensor(name, layout)


def _by_places(
    graph: Graph,
    step: Step,
    operand: Value,
    places: Value,
    axes: Sequence[int],
    mode: str,
) -> Value:
    """Reads single elements at places that may be computed."""
    numbers, sizes = step.params["dimension_numbers"], step.inputs[0].shape
    batching = list(numbers.operand_batching_dims)
    shared = list(numbers.start_indices_batching_dims)
    whole = [x for x in range(len(sizes)) if x not in (*axes, *batching)]
    index_rank = len(step.inputs[1].shape)
    others = [x for x in range(index_rank - 1) if x not in shared]
    limits = graph.sizes([sizes[axis] for axis in axes])
    indices = graph.stored(places, (*shared, *others, index_rank - 1))
    indices = graph.op("Cast", indices, to=_INT64)
    inside = _clipped(graph, indices, limits)
    name = graph.op(
        "GatherND",
        graph.stored(operand, (*batching, *axes, *whole)),
        inside,
        batch_dims=len(batching),
    )
    if "fill" in mode:
        is_out = graph.op("Not", graph.op("Equal", indices, inside))
        is_out = graph.op("Cast", is_out, to=_INT32)
        is_out = graph.op("ReduceMax", is_out, axes=[-1], keepdims=0)
        is_out = graph.op("Cast", is_out, to=_BOOL)
        for _ in whole:
            is_out = graph.op("Unsqueeze", is_out, np.array([-1], np.int64))
        filling = graph.constant(_filling(step))
        name = choose(graph, step.outputs[0].dtype, is_out, filling, name)
    # Stored are the axes of places, the shared ones first, and then the whole ones.
    rank, offset = len(step.outputs[0].shape), list(numbers.offset_dims)
    of_places = [axis for axis in range(rank) if axis not in offset]
    order = [of_places[i] for i in (*shared, *others)] + offset
    return Tensor(name, tuple(order))


_INT64, _INT32, _BOOL = 7, 6, 9
"""The types of ONNX by number."""


def _filling(step: Step) -> np.ndarray:
    """What stands where a place is outside."""
    dtype, given = kept(step.outputs[0].dtype), step.params["fill_value"]
    if given is None:
        if np.issubdtype(dtype, np.floating):
            given = np.nan
        elif np.issubdtype(step.outputs[0].dtype, np.signedinteger):
            given = np.iinfo(step.outputs[0].dtype).min
        elif dtype == np.bool_:
            given = True
        else:
            given = np.iinfo(step.outputs[0].dtype).max
    return np.array(given, dtype)


_SCATTERS = {"scatter": "none", "scatter-add": "add", "scatter_add": "add"}


def scatter(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `scatter` and `scatter_add` of whole axes and of single elements.

    Places outside of the array are those of one more row, which is cut off again.
    """
    operand, places, updates = inputs
    numbers, sizes = step.params["dimension_numbers"], step.inputs[0].shape
    axes, batching = map(
        list, (numbers.scatter_dims_to_operand_dims, numbers.operand_batching_dims)
    )
    mode, kind = str(step.params["mode"]).lower(), _SCATTERS[step.primitive.name]
    if set(axes) != set(numbers.inserted_window_dims):
        if "clip" in mode and kind == "none" and _is_all(step):
            return updates
        raise Unsupported("writes blocks at places that are computed")
    shared, windows = (
        list(numbers.scatter_indices_batching_dims),
        list(numbers.update_window_dims),
    )
    ranks = [len(x.shape) for x in step.inputs]
    order = (*shared, *(x for x in range(ranks[1] - 1) if x not in shared))
    layout = (
        *(*batching, *axes),
        *(x for x in range(ranks[0]) if x not in (*batching, *axes)),
    )
    target = graph.stored(operand, layout)
    indices = graph.stored(places, (*order, ranks[1] - 1))
    indices = graph.op("Cast", indices, to=_INT64)
    limits, may_miss = graph.sizes([sizes[axis] for axis in axes]), False
    if "clip" in mode:
        indices = _clipped(graph, indices, limits)
    elif "promise" not in mode:
        may_miss = True
        not_below = graph.op("Max", indices, np.zeros(1, np.int64))
        inside = graph.op("Min", not_below, limits)
        beyond = graph.op("Not", graph.op("Equal", indices, inside))
        indices = graph.op("Where", beyond, limits, inside)
        pads = np.zeros((2, ranks[0]), np.int64)
        pads[1, len(batching) : len(batching) + len(axes)] = 1
        target = graph.op("Pad", target, pads.ravel())
    if batching:
        here = _own_places([step.inputs[1].shape[x] for x in order], len(batching))
        indices = graph.op("Concat", here, indices, axis=-1)
    of_places = [x for x in range(ranks[2]) if x not in windows]
    given = graph.stored(updates, (*(of_places[i] for i in order), *windows))
    name = graph.op("ScatterND", target, indices, given, reduction=kind)
    if may_miss:
        cut_axes = np.arange(len(axes), dtype=np.int64) + len(batching)
        name = graph.op("Slice", name, np.zeros(len(axes), np.int64), limits, cut_axes)
    return Tensor(name, layout)


def _is_all(step: Step) -> bool:
    """Whether a block is written that is as large as the array, so that it lies on it."""
    operand, _, updates = (x.shape for x in step.inputs)
    windows = tuple(step.params["dimension_numbers"].update_window_dims)
    is_whole = windows == tuple(range(len(operand))) and len(updates) == len(operand)
    return is_whole and all(map(same, operand, updates))


def _own_places(sizes: Sequence[Dim], count: int) -> np.ndarray:
    """The places of elements along the first axes, `[*sizes, count]`."""
    if not all(isinstance(size, int) for size in sizes):
        raise Unsupported("writes into each image of an open number of images")
    return np.moveaxis(np.indices(sizes)[:count], 0, -1).astype(np.int64)


def dynamic_slice(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `dynamic_slice`; starts are such that the slice lies inside."""
    operand, *starts = inputs
    sizes, window = step.inputs[0].shape, step.params["slice_sizes"]
    axes = [i for i in range(len(sizes)) if not same(sizes[i], window[i])]
    if not axes:
        return operand
    parts = [
        graph.op("Unsqueeze", graph.meant(starts[i]), np.zeros(1, np.int64))
        for i in axes
    ]
    start = graph.op("Concat", *parts, axis=0)
    return _block(graph, operand, start, axes, sizes, window)


BUILDERS = {
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    **dict.fromkeys(_SCATTERS, scatter),
}
