"""Primitives that compute each element by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from segjax.export.onnx.graph import Constant, Graph, Layout, Tensor, Value, as_meant
from segjax.export.onnx.steps import Step
from segjax.export.onnx.types import Unsupported, cast, kept, wrap

Formula = Callable[..., str]
"""Of the graph, the step and the names of its inputs; the name of the result."""


def elementwise(formula: Formula) -> Callable[[Graph, Step, Sequence[Value]], Value]:
    """The builder of a formula; it takes tensors in whatever order their axes are stored."""

    def build(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value:
        names, layout = aligned(graph, inputs, len(step.outputs[0].shape))
        return Tensor(formula(graph, step, *names), layout)

    return build


def aligned(
    graph: Graph, inputs: Sequence[Value], rank: int
) -> tuple[list[str], Layout]:
    """The names of tensors in one layout; numbers and tensors of one element fit any.

    Args:
      graph: where transpositions are added, if they are needed.
      inputs: of one rank, or numbers.
      rank: of the result.

    Returns:
      The names, and the layout.
    """
    layouts = [
        x.layout for x in inputs if isinstance(x, Tensor) and len(x.layout) == rank
    ]
    other = (x for x in layouts if x != as_meant(rank))
    layout = next(other, as_meant(rank))
    return [
        graph.meant(x) if _rank(x) != rank else graph.stored(x, layout) for x in inputs
    ], layout


def _rank(value: Value) -> int:
    return value.array.ndim if isinstance(value, Constant) else len(value.layout)


def _op(kind: str, **attributes: Any) -> Formula:
    """The formula of one operator of ONNX."""
    return lambda graph, step, *names: graph.op(kind, *names, **attributes)


def _wrapped(kind: str) -> Formula:
    """That of integer arithmetic, which overflows in the type of JAX."""
    return lambda graph, step, *names: wrap(
        graph, graph.op(kind, *names), step.outputs[0].dtype
    )


def _integer_pow(graph: Graph, step: Step, x: str) -> str:
    power = step.params["y"]
    if power == 2:
        return graph.op("Mul", x, x)
    return graph.op("Pow", x, np.array(power, kept(step.outputs[0].dtype)))


def _rsqrt(graph: Graph, step: Step, x: str) -> str:
    return graph.op("Reciprocal", graph.op("Sqrt", x))


def _not_equal(graph: Graph, step: Step, x: str, y: str) -> str:
    return graph.op("Not", graph.op("Equal", x, y))


def _erfc(graph: Graph, step: Step, x: str) -> str:
    return graph.op("Sub", _one(step), graph.op("Erf", x))


def _one(step: Step) -> np.ndarray:
    return np.array(1, kept(step.outputs[0].dtype))


def _expm1(graph: Graph, step: Step, x: str) -> str:
    return graph.op("Sub", graph.op("Exp", x), _one(step))


def _log1p(graph: Graph, step: Step, x: str) -> str:
    return graph.op("Log", graph.op("Add", x, _one(step)))


def _is_finite(graph: Graph, step: Step, x: str) -> str:
    outside = graph.op("Or", graph.op("IsNaN", x), graph.op("IsInf", x))
    return graph.op("Not", outside)


def _clamp(graph: Graph, step: Step, low: str, x: str, high: str) -> str:
    return graph.op("Min", graph.op("Max", x, low), high)


def choose(graph: Graph, dtype: Any, which: str, yes: str, no: str) -> str:
    """Takes elements of `yes` where `which` is true, and of `no` elsewhere.

    onnxruntime has no `Where` for booleans.

    Args:
      graph: to which the nodes are added.
      dtype: of JAX, of the elements.
      which: the name of a tensor of booleans.
      yes: the name of the one tensor.
      no: the name of the other.

    Returns:
      The name of the result.
    """
    if dtype != np.bool_:
        return graph.op("Where", which, yes, no)
    chosen = graph.op("And", which, yes)
    return graph.op("Or", chosen, graph.op("And", graph.op("Not", which), no))


def _select(graph: Graph, step: Step, which: str, *cases: str) -> str:
    dtype = step.outputs[0].dtype
    if step.inputs[0].dtype == np.bool_:
        return choose(graph, dtype, which, cases[1], cases[0])
    chosen = cases[0]
    for i, case in enumerate(cases[1:], 1):
        is_it = graph.op("Equal", which, np.array(i, np.int32))
        chosen = choose(graph, dtype, is_it, case, chosen)
    return chosen


def _convert(graph: Graph, step: Step, x: str) -> str:
    before, after = step.inputs[0].dtype, step.outputs[0].dtype
    if str(before) == str(after):
        return x
    floats = all(jnp.issubdtype(y, jnp.floating) for y in (before, after))
    return x if floats and kept(before) == kept(after) else cast(graph, x, after)


def _round(graph: Graph, step: Step, x: str) -> str:
    if "EVEN" in str(step.params["rounding_method"]):
        return graph.op("Round", x)
    half = np.array(0.5, kept(step.outputs[0].dtype))
    away = graph.op("Floor", graph.op("Add", graph.op("Abs", x), half))
    return graph.op("Mul", graph.op("Sign", x), away)


def _logical(kind: str) -> Formula:
    """That of `and`, `or`, `xor` and `not`, which opset 17 has for booleans alone."""

    def formula(graph: Graph, step: Step, *names: str) -> str:
        if step.outputs[0].dtype != np.bool_:
            raise Unsupported("computes with the bits of integers")
        return graph.op(kind, *names)

    return formula


FORMULAS: dict[str, Formula] = {
    **{"add": _wrapped("Add"), "sub": _wrapped("Sub"), "mul": _wrapped("Mul")},
    **{"neg": _wrapped("Neg"), "add_any": _wrapped("Add")},
    **{"div": _op("Div"), "rem": _op("Mod", fmod=1), "pow": _op("Pow")},
    **{"max": _op("Max"), "min": _op("Min"), "clamp": _clamp},
    **{"abs": _op("Abs"), "sign": _op("Sign"), "floor": _op("Floor")},
    **{"ceil": _op("Ceil"), "round": _round, "integer_pow": _integer_pow},
    **{"exp": _op("Exp"), "log": _op("Log"), "log1p": _log1p, "expm1": _expm1},
    **{"tanh": _op("Tanh"), "logistic": _op("Sigmoid")},
    **{"sin": _op("Sin"), "cos": _op("Cos")},
    **{"erf": _op("Erf"), "erfc": _erfc},
    **{"sqrt": _op("Sqrt"), "rsqrt": _rsqrt},
    "square": lambda graph, step, x: graph.op("Mul", x, x),
    **{"eq": _op("Equal"), "ne": _not_equal},
    **{"lt": _op("Less"), "le": _op("LessOrEqual")},
    **{"gt": _op("Greater"), "ge": _op("GreaterOrEqual")},
    **{"and": _logical("And"), "or": _logical("Or")},
    **{"xor": _logical("Xor"), "not": _logical("Not")},
    "is_finite": _is_finite,
    "select_n": _select,
    "convert_element_type": _convert,
}


def keep(graph: Graph, step: Step, inputs: Sequence[Value]) -> Value | list[Value]:
    """Builds what changes no value, such as `stop_gradient`."""
    return list(inputs) if len(inputs) > 1 else inputs[0]


BUILDERS = {name: elementwise(formula) for name, formula in FORMULAS.items()} | {
    **dict.fromkeys(("stop_gradient", "copy", "copy_p", "name"), keep),
    **dict.fromkeys(("optimization_barrier", "sharding_constraint"), keep),
}
