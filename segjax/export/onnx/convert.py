"""Traced functions become ONNX graphs: one table from primitives of JAX to builders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from segjax.errors import UserError
from segjax.export.onnx import (
    control,
    convolution,
    elementwise,
    indexing,
    reductions,
    shapes,
)
from segjax.export.onnx.dimensions import Dim, Symbols
from segjax.export.onnx.graph import OPSET, Constant, Graph, Value
from segjax.export.onnx.steps import Atom, Known, Step, Unknown, steps_of
from segjax.export.onnx.types import Unsupported, element, kept

IR_VERSION = 8
"""That of the releases that brought opset 17."""

IMAGE = "image"
"""The name of the input."""

BUILDERS = {
    **elementwise.BUILDERS,
    **shapes.BUILDERS,
    **indexing.BUILDERS,
    **convolution.BUILDERS,
    **reductions.BUILDERS,
}


def to_model(
    traced: Any,
    weights: Sequence[Any],
    image: tuple[tuple[Dim, ...], np.dtype],
    outputs: Sequence[str],
) -> Any:
    """Converts a function of weights and an image.

    Args:
      traced: the function, as `jax.jit(...).trace(...).jaxpr` has it; its arguments are the
        arrays and then the image.
      weights: the arrays.
      image: shape `[B, H, W, C]`, of sizes or expressions, and type of the image.
      outputs: names of its results, in their order.

    Returns:
      An `onnx.ModelProto` with an input "image".

    Raises:
      UserError: a primitive that ONNX has nothing for, with the layer that it is of.
    """
    shape, dtype = image
    graph = Graph(Symbols(IMAGE, shape))
    atom = Unknown(shape, dtype)
    name = IMAGE
    if kept(dtype) != dtype:
        name = graph.op("Cast", IMAGE, to=element(kept(dtype)))
    arguments: list[Atom] = [*map(Known, weights), atom]
    given: list[Value] = [*map(Constant, weights), graph.tensor(name, len(shape))]
    results = emit(graph, traced, arguments, given, "")
    infos = []
    for output, value, aval in zip(outputs, results, traced.out_avals, strict=True):
        graph.within("")
        found = graph.meant(value)
        if kept(aval.dtype) != aval.dtype:
            found = graph.op("Cast", found, to=element(aval.dtype))
        node = helper.make_node("Identity", [found], [output], name=output)
        graph.nodes.append(node)
        infos.append(_info(output, aval.dtype, aval.shape))
    made = helper.make_graph(
        graph.nodes,
        "network",
        [_info(IMAGE, dtype, shape)],
        infos,
        list(graph.initializers.values()),
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION)


def _constant(atom: Known) -> Constant:
    array = np.asarray(atom.array)
    return Constant(array.astype(kept(array.dtype), copy=False))


def _info(name: str, dtype: Any, shape: Sequence[Dim]) -> Any:
    sizes = [x if isinstance(x, int) else str(x) for x in shape]
    return helper.make_tensor_value_info(name, element(dtype), sizes)


def emit(
    graph: Graph,
    traced: Any,
    arguments: Sequence[Atom],
    given: Sequence[Value],
    layer: str,
) -> list[Value]:
    """Adds a function to a graph.

    Args:
      graph: to which its nodes are added.
      traced: the function.
      arguments: what it is given, arrays among it.
      given: the values of the graph for those that are no arrays; others are not looked at.
      layer: of the module that calls it.

    Returns:
      Its results.

    Raises:
      UserError: a primitive that ONNX has nothing for.
    """
    steps, results = steps_of(traced, arguments, layer)
    values = {
        atom: value
        for atom, value in zip(arguments, given, strict=True)
        if isinstance(atom, Unknown)
    }

    def read(atom: Atom) -> Value:
        return _constant(atom) if isinstance(atom, Known) else values[atom]

    for step in steps:
        graph.within(step.layer)
        inputs = []
        try:
            inputs = [read(atom) for atom in step.inputs]
            made = _build(graph, step, inputs)
        except Unsupported as error:
            raise UserError(
                f"The network cannot be written as ONNX: {step.layer or 'it'} {error} "
                f"(the primitive {step.primitive.name} of JAX). Export it with "
                "--format=stablehlo, or replace that layer."
            ) from error
        several = made if isinstance(made, list) else [made]
        values |= zip(step.outputs, several, strict=True)
    return [read(atom) for atom in results]


def _build(graph: Graph, step: Step, inputs: list[Value]) -> Value | list[Value]:
    name = step.primitive.name
    if name in control.BUILDERS:
        return control.BUILDERS[name](graph, step, inputs, emit)
    if name not in BUILDERS:
        raise Unsupported("uses what this writer does not know")
    return BUILDERS[name](graph, step, inputs)
