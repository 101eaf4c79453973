"""Loops and branches, whose bodies are graphs of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from segjax.export.onnx.graph import Graph, Value
from segjax.export.onnx.steps import Atom, Step, Unknown
from segjax.export.onnx.types import Unsupported, element, kept

Emit = Callable[[Graph, Any, Sequence[Atom], Sequence[Value], str], list[Value]]
"""Adds a function to a graph: of it, its arguments, their values, and the layer."""


def scan(graph: Graph, step: Step, inputs: Sequence[Value], emit: Emit) -> list[Value]:
    """Builds `scan`, `lax.map` among it, as ONNX's own."""
    params = step.params
    consts, carried = params["num_consts"], params["num_carry"]
    first = consts + carried
    sequences = list(inputs[first:])
    atoms = list(step.inputs)
    body = graph.body()
    values: list[Value] = list(inputs[:consts])
    infos = []
    arguments = [*atoms[:consts]]
    for i, atom in enumerate(atoms[consts:]):
        shape = atom.shape if i < carried else atom.shape[1:]
        name = body.new_name("given")
        values.append(body.tensor(name, len(shape)))
        arguments.append(Unknown(shape, atom.dtype))
        infos.append(_info(name, atom.dtype))
    given = [graph.meant(x) for x in inputs[consts:first]]
    scanned = [graph.meant(x) for x in sequences]
    if not sequences:  # only counts
        count = np.zeros(int(params["length"]), np.int64)
        scanned = [graph.constant(count)]
        infos.append(_info(body.new_name("count"), np.dtype(np.int64)))
    results = emit(body, params["jaxpr"], arguments, values, step.layer)
    outputs = _results(body, results, step.outputs)
    direction = [int(params["reverse"])]
    directions = {"scan_input_directions": direction * len(scanned)}
    if stacked := len(outputs) - carried:
        directions["scan_output_directions"] = direction * stacked
    made = graph.ops(
        "Scan",
        len(outputs),
        *given,
        *scanned,
        body=helper.make_graph(body.nodes, "body", infos, outputs),
        num_scan_inputs=len(scanned),
        **directions,
    )
    return [
        graph.tensor(name, len(x.shape))
        for name, x in zip(made, step.outputs, strict=True)
    ]


def while_loop(
    graph: Graph, step: Step, inputs: Sequence[Value], emit: Emit
) -> list[Value]:
    """Builds `while` as ONNX's `Loop`."""
    params, atoms = step.params, list(step.inputs)
    conditions, bodies = params["cond_nconsts"], params["body_nconsts"]
    first = conditions + bodies
    carried = [Unknown(x.shape, x.dtype) for x in atoms[first:]]

    def ends(into: Graph, values: Sequence[Value]) -> str:
        arguments = [*atoms[:conditions], *carried]
        given = [*inputs[:conditions], *values]
        test = params["cond_jaxpr"]
        (found,) = emit(into, test, arguments, given, step.layer)
        return into.meant(found)

    body = graph.body()
    infos = [_info(body.new_name("trip"), np.dtype(np.int64))]
    infos.append(_info(body.new_name("goes_on"), np.dtype(np.bool_)))
    values: list[Value] = []
    for atom in carried:
        name = body.new_name("given")
        values.append(body.tensor(name, len(atom.shape)))
        infos.append(_info(name, atom.dtype))
    results = emit(
        body,
        params["body_jaxpr"],
        [*atoms[conditions:first], *carried],
        [*inputs[conditions:first], *values],
        step.layer,
    )
    outputs = _results(body, results, step.outputs)
    tensors = [
        body.tensor(info.name, len(x.shape))
        for info, x in zip(outputs, step.outputs, strict=True)
    ]
    again = body.op("Identity", ends(body, tensors))
    outputs.insert(0, _info(again, np.dtype(np.bool_)))
    made = graph.ops(
        "Loop",
        len(step.outputs),
        None,
        ends(graph, inputs[first:]),
        *[graph.meant(x) for x in inputs[first:]],
        body=helper.make_graph(body.nodes, "body", infos, outputs),
    )
    return [
        graph.tensor(name, len(x.shape))
        for name, x in zip(made, step.outputs, strict=True)
    ]


def cond(graph: Graph, step: Step, inputs: Sequence[Value], emit: Emit) -> list[Value]:
    """Builds `cond` of two branches as ONNX's `If`."""
    branches = step.params["branches"]
    if len(branches) != 2:
        raise Unsupported("chooses among several branches")
    which, *given = inputs
    graphs = []
    for branch in branches:
        body = graph.body()
        results = emit(body, branch, step.inputs[1:], given, step.layer)
        outputs = _results(body, results, step.outputs)
        graphs.append(helper.make_graph(body.nodes, "branch", [], outputs))
    test = graph.op("Cast", graph.meant(which), to=element(np.bool_))
    made = graph.ops(
        "If", len(step.outputs), test, else_branch=graphs[0], then_branch=graphs[1]
    )
    return [
        graph.tensor(name, len(x.shape))
        for name, x in zip(made, step.outputs, strict=True)
    ]


def _results(
    body: Graph, values: Sequence[Value], atoms: Sequence[Unknown]
) -> list[Any]:
    """The results of a body, each by a name of its own."""
    return [
        _info(body.op("Identity", body.meant(value)), atom.dtype)
        for value, atom in zip(values, atoms, strict=True)
    ]


def _info(name: str, dtype: Any) -> Any:
    return helper.make_tensor_value_info(name, element(kept(dtype)), None)


BUILDERS = {"scan": scan, "while": while_loop, "cond": cond}
