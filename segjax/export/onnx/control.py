"""Loops and branches, whose bodies are graphs of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from segjax.export.onnx.elementwise import choose
from segjax.export.onnx.graph import Graph, Value
from segjax.export.onnx.steps import Atom, Step, Unknown
from segjax.export.onnx.types import Unsupported, element, kept

Emit = Callable[[Graph, Any, Sequence[Atom], Sequence[Value], str], list[Value]]
"""Adds a function to a graph: of it, its arguments, their values, and the layer."""

_COUNT = Unknown((), np.dtype(np.int64))
_TEST = Unknown((), np.dtype(np.bool_))


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
        infos.append(_info(name, arguments[-1]))
    given = [graph.meant(x) for x in inputs[consts:first]]
    scanned = [graph.meant(x) for x in sequences]
    if not sequences:  # only counts
        count = np.zeros(int(params["length"]), np.int64)
        scanned = [graph.constant(count)]
        infos.append(_info(body.new_name("count"), _COUNT))
    results = emit(body, params["jaxpr"], arguments, values, step.layer)
    rows = [Unknown(x.shape[1:], x.dtype) for x in step.outputs[carried:]]
    outputs = _results(body, results, [*step.outputs[:carried], *rows])
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
    return _tensors(graph, made, step.outputs)


def while_loop(
    graph: Graph, step: Step, inputs: Sequence[Value], emit: Emit
) -> list[Value]:
    """Builds `while` as ONNX's `Loop`.

    Of loops that were mapped over axes each goes on by itself: while any does, and what has
    ended stays as it is.
    """
    params, atoms = step.params, list(step.inputs)
    conditions, bodies = params["cond_nconsts"], params["body_nconsts"]
    first = conditions + bodies
    carried = [Unknown(x.shape, x.dtype) for x in atoms[first:]]

    def test(into: Graph, values: Sequence[Value]) -> str:
        arguments = [*atoms[:conditions], *carried]
        given = [*inputs[:conditions], *values]
        condition = params["cond_jaxpr"]
        (found,) = emit(into, condition, arguments, given, step.layer)
        return into.meant(found)

    rank = len(params["cond_jaxpr"].out_avals[0].shape)

    def goes_on(into: Graph, values: Sequence[Value]) -> str:
        found = test(into, values)
        if not rank:
            return found
        number = into.op("Cast", found, to=element(np.int32))
        largest = into.op("ReduceMax", number, keepdims=0)
        return into.op("Cast", largest, to=element(np.bool_))

    body = graph.body()
    infos = [_info(body.new_name("trip"), _COUNT)]
    infos.append(_info(body.new_name("goes_on"), _TEST))
    values: list[Value] = []
    for atom in carried:
        name = body.new_name("given")
        values.append(body.tensor(name, len(atom.shape)))
        infos.append(_info(name, atom))
    results = emit(
        body,
        params["body_jaxpr"],
        [*atoms[conditions:first], *carried],
        [*inputs[conditions:first], *values],
        step.layer,
    )
    if rank:
        results = _where_going(body, test(body, values), rank, results, values, carried)
    outputs = _results(body, results, step.outputs)
    tensors = _tensors(body, [info.name for info in outputs], step.outputs)
    again = body.op("Identity", goes_on(body, tensors))
    outputs.insert(0, _info(again, _TEST))
    made = graph.ops(
        "Loop",
        len(step.outputs),
        None,
        goes_on(graph, inputs[first:]),
        *[graph.meant(x) for x in inputs[first:]],
        body=helper.make_graph(body.nodes, "body", infos, outputs),
    )
    return _tensors(graph, made, step.outputs)


def _where_going(
    body: Graph,
    going: str,
    rank: int,
    results: Sequence[Value],
    values: Sequence[Value],
    carried: Sequence[Unknown],
) -> list[Value]:
    """The new values of those loops that go on, and the old ones of those that have ended."""
    chosen: list[Value] = []
    for atom, new, old in zip(carried, results, values, strict=True):
        more = np.arange(rank, len(atom.shape), dtype=np.int64)
        which = body.op("Unsqueeze", going, more) if len(more) else going
        name = choose(body, atom.dtype, which, body.meant(new), body.meant(old))
        chosen.append(body.tensor(name, len(atom.shape)))
    return chosen


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
    return _tensors(graph, made, step.outputs)


def _tensors(
    graph: Graph, names: Sequence[str], atoms: Sequence[Unknown]
) -> list[Value]:
    """The results of a node, by their names."""
    return [
        graph.tensor(name, len(atom.shape))
        for name, atom in zip(names, atoms, strict=True)
    ]


def _results(
    body: Graph, values: Sequence[Value], atoms: Sequence[Unknown]
) -> list[Any]:
    """The results of a body, each by a name of its own."""
    return [
        _info(body.op("Identity", body.meant(value)), atom)
        for value, atom in zip(values, atoms, strict=True)
    ]


def _info(name: str, atom: Atom) -> Any:
    """The type of a tensor that goes into a body, or out of it; open sizes stay open."""
    sizes = [x if isinstance(x, int) else None for x in atom.shape]
    return helper.make_tensor_value_info(name, element(kept(atom.dtype)), sizes)


BUILDERS = {"scan": scan, "while": while_loop, "cond": cond}
