"""Primitives that put elements of an axis together, or in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.export.onnx.graph import Graph, Tensor, Value
from segjax.export.onnx.shapes import layout_of
from segjax.export.onnx.steps import Step
from segjax.export.onnx.types import Unsupported, cast, element, kept

_OPERATORS = {
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
    "reduce_or": "ReduceMax",
    "reduce_and": "ReduceMin",
}


def reduction(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds sums, maxima and the like over axes."""
    (value,), axes = inputs, step.params["axes"]
    if not axes:
        return value
    layout, operator = layout_of(value), _OPERATORS[step.primitive.name]
    name = graph.stored(value, layout)
    places = [layout.index(axis) for axis in axes]
    is_bool = step.outputs[0].dtype == np.bool_
    if is_bool:
        name = graph.op("Cast", name, to=element(np.int32))
    if operator == "ReduceSum":  # the one that takes its axes as an input, in opset 17
        name = graph.op(operator, name, np.array(places, np.int64), keepdims=0)
    else:
        name = graph.op(operator, name, axes=places, keepdims=0)
    if is_bool:
        name = graph.op("Cast", name, to=element(np.bool_))
    return Tensor(name, _without(layout, axes))


def _without(layout: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The layout of what is left when axes are gone."""
    left = sorted(set(layout) - set(axes))
    return tuple(left.index(axis) for axis in layout if axis in left)


def arg_reduction(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `argmax` and `argmin`; of equal elements the first counts."""
    layout, (axis,) = layout_of(inputs[0]), step.params["axes"]
    kind = {"argmax": "ArgMax", "argmin": "ArgMin"}[step.primitive.name]
    name = graph.stored(inputs[0], layout)
    name = graph.op(kind, name, axis=layout.index(axis), keepdims=0)
    name = graph.op("Cast", name, to=element(kept(step.outputs[0].dtype)))
    return Tensor(name, _without(layout, (axis,)))


def cumsum(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `cumsum`."""
    layout = layout_of(inputs[0])
    axis = np.array(layout.index(step.params["axis"]), np.int64)
    name = graph.stored(inputs[0], layout)
    reverse = int(step.params["reverse"])
    return Tensor(graph.op("CumSum", name, axis, reverse=reverse), layout)


def sort(graph: Graph, step: Step, inputs: Sequence[Value]) -> list[Value]:
    """Builds `sort` by one key, along an axis; of equal keys the first stays first."""
    axis, rank = step.params["dimension"], len(step.inputs[0].shape)
    if step.params["num_keys"] != 1:
        raise Unsupported("sorts by several keys")
    names = [graph.meant(x) for x in inputs]
    size = graph.sizes([step.inputs[0].shape[axis]])
    key, dtype = names[0], kept(step.inputs[0].dtype)
    if dtype == np.bool_:
        key = graph.op("Cast", key, to=element(np.int32))
    ordered, places = graph.ops("TopK", 2, key, size, axis=axis, largest=0, sorted=1)
    if dtype == np.bool_:
        ordered = graph.op("Cast", ordered, to=element(np.bool_))
    others = [graph.op("GatherElements", x, places, axis=axis) for x in names[1:]]
    return [graph.tensor(name, rank) for name in (ordered, *others)]


def top_k(graph: Graph, step: Step, inputs: Sequence[Value]) -> list[Value]:
    """Builds `top_k`."""
    rank = len(step.inputs[0].shape)
    axis = step.params.get("axis", rank - 1) % rank
    count = np.array([step.params["k"]], np.int64)
    values, places = graph.ops("TopK", 2, graph.meant(inputs[0]), count, axis=axis)
    places = cast(graph, places, step.outputs[1].dtype)
    return [graph.tensor(name, rank) for name in (values, places)]


BUILDERS = {
    **dict.fromkeys(_OPERATORS, reduction),
    **dict.fromkeys(("argmax", "argmin"), arg_reduction),
    "cumsum": cumsum,
    "sort": sort,
    "top_k": top_k,
}
