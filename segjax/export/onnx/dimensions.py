"""Sizes that are open: expressions of `jax.export`, computed by nodes from the shape of an image.

Expressions are read as JAX writes them, "floordiv(height - 1, 2) + 1", which is the language
that `jax.export.symbolic_shape` documents.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from segjax.export.onnx import graph as graphs

Dim = Any
"""An integer, or an expression of `jax.export`."""


def same(one: Dim, other: Dim) -> bool:
    """Whether two sizes are the same for all images."""
    return str(one) == str(other)


class Symbols:
    """The symbols of the shape of one input, such as "batch", "16*height", "16*width", 3."""

    def __init__(self, image: str, shape: tuple[Dim, ...]) -> None:
        """Keeps the name of the input, and its shape."""
        self._image = image
        self._axes: dict[str, tuple[int, int, int]] = {}
        for axis, size in enumerate(shape):
            if isinstance(size, int):
                continue
            (symbol,) = names_of(str(size))
            zero, one = (evaluate(str(size), {symbol: value}) for value in (0, 1))
            self._axes[symbol] = axis, one - zero, zero

    def build(self, graph: graphs.Graph, text: str) -> str:
        """Adds the nodes of an expression, and returns the name of its value, `[1]` int64."""
        return _walk(
            ast.parse(text.replace("^", "**"), mode="eval").body,
            lambda name: self._symbol(graph, name),
            lambda kind, *values: self._node(graph, kind, values),
        )

    def _symbol(self, graph: graphs.Graph, name: str) -> str:
        axis, factor, offset = self._axes[name]
        size = graph.op("Shape", self._image, start=axis, end=axis + 1)
        if offset:
            size = self._node(graph, "Sub", (size, offset))
        return self._node(graph, "Div", (size, factor)) if factor != 1 else size

    def _node(
        self, graph: graphs.Graph, kind: str, values: tuple[str | int, ...]
    ) -> str:
        names = [np.array([x], np.int64) if isinstance(x, int) else x for x in values]
        if kind == "Div":  # rounds down; `Div` rounds to zero
            rest = graph.op("Mod", *names)
            names[0] = graph.op("Sub", names[0], rest)
        return graph.op(kind, *names)


def names_of(text: str) -> list[str]:
    """The symbols in an expression, each once."""
    calls = ("floordiv", "mod", "max", "min")
    tree = ast.walk(ast.parse(text.replace("^", "**"), mode="eval"))
    found = (node.id for node in tree if isinstance(node, ast.Name))
    return sorted({name for name in found if name not in calls})


_INTEGERS: Mapping[str, Callable[..., int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
    "Max": max,
    "Min": min,
}


def evaluate(text: str, values: Mapping[str, int]) -> int:
    """The value of an expression.

    Args:
      text: as JAX writes it.
      values: of its symbols.

    Returns:
      The size.

    Example:
      >>> evaluate("floordiv(height - 1, 2) + 1", {"height": 8})
      4
    """
    tree = ast.parse(text.replace("^", "**"), mode="eval").body
    return _walk(tree, lambda name: values[name], lambda kind, *x: _INTEGERS[kind](*x))


_CALLS = {"floordiv": "Div", "mod": "Mod", "max": "Max", "min": "Min"}
_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}


def _walk(
    node: ast.expr, symbol: Callable[[str], Any], apply: Callable[..., Any]
) -> Any:
    """Computes an expression, whatever its values are."""
    inner = lambda x: _walk(x, symbol, apply)
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return apply("Mul", inner(operand), -1)
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _CALLS:
            return apply(_CALLS[name], *map(inner, arguments))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            value = base = inner(left)
            for _ in range(power - 1):
                value = apply("Mul", value, base)
            return value
        case ast.BinOp(left=left, op=operator, right=right):
            return apply(_OPERATORS[type(operator)], inner(left), inner(right))
    raise ValueError(f"{ast.unparse(node)} is not a size that can be computed")
