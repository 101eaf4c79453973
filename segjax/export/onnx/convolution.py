"""Convolution, matrix products and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.export.onnx.graph import Constant, Graph, Tensor, Value
from segjax.export.onnx.shapes import END, cut, padded
from segjax.export.onnx.steps import Step
from segjax.export.onnx.types import Unsupported, kept


def conv_general_dilated(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `conv_general_dilated`.

    With gaps between the elements of the image it is a transposed convolution. Without those
    it is ONNX's own; negative padding crops the image first.
    """
    params, (image, kernel) = step.params, inputs
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    if params["batch_group_count"] != 1:
        raise Unsupported("convolves groups of a batch")
    pads = [tuple(pair) for pair in params["padding"]]
    if not all(isinstance(x, int) for pair in pads for x in pair):
        raise Unsupported("pads by what the size of the image says")
    if any(gap != 1 for gap in params["lhs_dilation"]):
        return _transposed(graph, step, inputs)
    lhs, sizes = numbers.lhs_spec, step.inputs[0].shape
    cropping = [(0, 0)] * len(sizes)
    for axis, (before, after) in zip(lhs[2:], pads, strict=True):
        cropping[axis] = (min(before, 0), min(after, 0))
    zero = Constant(np.zeros((), np.float32))
    image = padded(graph, image, cropping, sizes, zero)
    name = graph.op(
        "Conv",
        graph.stored(image, lhs),
        graph.stored(kernel, numbers.rhs_spec),
        kernel_shape=[step.inputs[1].shape[axis] for axis in numbers.rhs_spec[2:]],
        strides=list(params["window_strides"]),
        pads=[max(pair[side], 0) for side in (0, 1) for pair in pads],
        dilations=list(params["rhs_dilation"]),
        group=groups,
    )
    return Tensor(name, numbers.out_spec)


def _transposed(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds a convolution of an image with gaps as the adjoint of one with strides.

    Its kernel is flipped, and inputs and outputs change places within each group. What the
    padding adds beyond the reach of the kernel are zeros.
    """
    params, (image, kernel) = step.params, inputs
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    if not isinstance(kernel, Constant):
        raise Unsupported("convolves an image with gaps by a kernel that is computed")
    weights = kernel.array.transpose(numbers.rhs_spec)  # [O, I / groups, ...]
    out, inner, *window = weights.shape
    flipped = np.flip(weights, tuple(range(2, weights.ndim)))
    blocks = flipped.reshape(groups, out // groups, inner, *window)
    weights = blocks.swapaxes(1, 2).reshape(groups * inner, out // groups, *window)
    crops, more = [], [(0, 0)] * (2 + len(window))
    for axis, ((before, after), taps, dilation) in enumerate(
        zip(params["padding"], window, params["rhs_dilation"], strict=True)
    ):
        reach = dilation * (taps - 1)
        crops.append((max(reach - before, 0), max(reach - after, 0)))
        more[numbers.out_spec[2 + axis]] = (
            max(before - reach, 0),
            max(after - reach, 0),
        )
    name = graph.op(
        "ConvTranspose",
        graph.stored(image, numbers.lhs_spec),
        weights,
        kernel_shape=window,
        strides=list(params["lhs_dilation"]),
        pads=[pair[side] for side in (0, 1) for pair in crops],
        dilations=list(params["rhs_dilation"]),
        group=groups,
    )
    found: Value = Tensor(name, numbers.out_spec)
    sizes = list(step.outputs[0].shape)
    if any(pair != (0, 0) for pair in more):
        found = padded(graph, found, more, sizes, Constant(np.zeros((), np.float32)))
    if any(stride != 1 for stride in params["window_strides"]):
        steps = zip(numbers.out_spec[2:], params["window_strides"], strict=True)
        ranges = [(axis, 0, END, stride) for axis, stride in steps]
        found = cut(graph, found, ranges, sizes)
    return found


def dot_general(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `dot_general`: a matrix product where it is one, otherwise a sum by letters."""
    (contract, batch) = step.params["dimension_numbers"]
    ranks = [len(x.shape) for x in step.inputs]
    free = [
        [axis for axis in range(rank) if axis not in (*summed, *shared)]
        for rank, summed, shared in zip(ranks, contract, batch, strict=True)
    ]
    rank = len(step.outputs[0].shape)
    if len(contract[0]) == 1 and len(free[1]) == 1 and not batch[0]:
        left = graph.stored(inputs[0], (*free[0], *contract[0]))
        right = graph.stored(inputs[1], (*contract[1], *free[1]))
        return graph.tensor(graph.op("MatMul", left, right), rank)
    if all(len(x) == 1 for x in (*contract, *free)):
        left = graph.stored(inputs[0], (*batch[0], *free[0], *contract[0]))
        right = graph.stored(inputs[1], (*batch[1], *contract[1], *free[1]))
        return graph.tensor(graph.op("MatMul", left, right), rank)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    terms: list[list[str]] = [[""] * ranks[0], [""] * ranks[1]]
    for one, other in zip(
        (*contract[0], *batch[0]), (*contract[1], *batch[1]), strict=True
    ):
        terms[0][one] = terms[1][other] = next(letters)
    for term in terms:
        term[:] = [letter or next(letters) for letter in term]
    result = [terms[0][axis] for axis in (*batch[0], *free[0])]
    result += [terms[1][axis] for axis in free[1]]
    equation = f"{''.join(terms[0])},{''.join(terms[1])}->{''.join(result)}"
    names = [graph.meant(x) for x in inputs]
    return graph.tensor(graph.op("Einsum", *names, equation=equation), rank)


def reduce_window_max(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `reduce_window_max`."""
    return _windows(graph, step, inputs, "MaxPool")[0]


def reduce_window_sum(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
    """Builds `reduce_window_sum`: means, times the elements of a window."""
    found, size = _windows(graph, step, inputs, "AveragePool", count_include_pad=1)
    many = np.array(size, np.float32)
    return Tensor(graph.op("Mul", found.name, many), found.layout)


def _windows(
    graph: Graph, step: Step, inputs: Sequence[Value], kind: str, **attributes: Any
) -> tuple[Tensor, int]:
    """Pools over windows of two axes, and says how many elements a window has."""
    params = step.params
    window, rank = params["window_dimensions"], len(step.inputs[0].shape)
    axes = [axis for axis in range(rank) if window[axis] != 1]
    dilated = any(x != 1 for x in params["base_dilation"])
    whole = [params["window_strides"][a] == 1 for a in range(rank) if a not in axes]
    if rank != 4 or len(axes) > 2 or dilated or not all(whole):
        raise Unsupported("pools over windows that are not of rows and columns")
    if kept(step.outputs[0].dtype) != np.float32:
        raise Unsupported("pools integers")
    axes = (axes + [a for a in (1, 2, 0, 3) if a not in axes])[:2]
    layout = (*(a for a in range(rank) if a not in axes), *sorted(axes))
    read = lambda name: [params[name][a] for a in sorted(axes)]
    pads = read("padding")
    if kind == "MaxPool":
        attributes["dilations"] = read("window_dilation")
    name = graph.op(
        kind,
        graph.stored(inputs[0], layout),
        kernel_shape=read("window_dimensions"),
        strides=read("window_strides"),
        pads=[pair[side] for side in (0, 1) for pair in pads],
        **attributes,
    )
    return Tensor(name, layout), math.prod(read("window_dimensions"))


BUILDERS = {
    "conv_general_dilated": conv_general_dilated,
    "dot_general": dot_general,
    "reduce_window_max": reduce_window_max,
    "reduce_window_sum": reduce_window_sum,
}
