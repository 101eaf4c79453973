"""A traced function as one list of primitives, without calls, and without what is known.

What depends on weights alone, such as the turned kernel of a transposed convolution or the
factors of a normalisation, is computed here, in one program of JAX.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from segjax.export.onnx.dimensions import Dim

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
"""Primitives that call a function, and the parameter that holds it."""

SMALL = 1 << 16
"""Values with up to so many elements are computed beforehand whatever they are made of."""


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """A value that is an array.

    Attributes:
      array: it.
    """

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of its elements."""
        return self.array.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Unknown:
    """A value that an image decides.

    Attributes:
      shape: sizes, or expressions of them.
      dtype: of its elements.
    """

    shape: tuple[Dim, ...]
    dtype: np.dtype

    @property
    def is_fixed(self) -> bool:
        """Whether all its sizes are known."""
        return all(isinstance(size, int) for size in self.shape)


Atom = Known | Unknown


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One primitive.

    Attributes:
      primitive: of JAX.
      params: its parameters.
      inputs: values.
      outputs: values.
      layer: path of the module that it belongs to, "UNet/down1/conv1".
    """

    primitive: Any
    params: Mapping[str, Any]
    inputs: tuple[Atom, ...]
    outputs: tuple[Unknown, ...]
    layer: str


def steps_of(
    traced: core.ClosedJaxpr, arguments: Sequence[Atom], layer: str = ""
) -> tuple[list[Step], list[Atom]]:
    """Lists the primitives of a function that its results need.

    Args:
      traced: the function.
      arguments: what it is given, arrays among it.
      layer: of the module that calls it.

    Returns:
      The primitives, and the results.
    """
    steps: list[Step] = []
    results = _inline(traced, arguments, layer, steps)
    steps = _needed(steps, results)
    values = _computed(steps, results)

    def replace(atom: Atom) -> Atom:
        return values.get(atom, atom)

    kept = [
        dataclasses.replace(step, inputs=tuple(map(replace, step.inputs)))
        for step in steps
        if not any(output in values for output in step.outputs)
    ]
    results = [replace(atom) for atom in results]
    return _needed(kept, results), results


def _inline(
    traced: core.ClosedJaxpr, arguments: Sequence[Atom], layer: str, into: list[Step]
) -> list[Atom]:
    """Adds the primitives of a function, those of functions that it calls among them."""
    jaxpr: Any = traced.jaxpr
    constants = [Known(x) for x in traced.consts]
    values: dict[Any, Atom] = dict(zip(jaxpr.constvars, constants, strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)

    def read(x: Any) -> Atom:
        if isinstance(x, core.Literal):
            kind: Any = x.aval
            return Known(np.asarray(x.val, kind.dtype))
        return values[x]

    for equation in jaxpr.eqns:
        name, given = equation.primitive.name, [read(x) for x in equation.invars]
        stack = str(equation.source_info.name_stack)
        place = "/".join(filter(None, (layer, stack)))
        if name in CALLS:
            called = closed(equation.params[CALLS[name]])
            found = _inline(called, given, place, into)
        else:
            new = [Unknown(x.aval.shape, x.aval.dtype) for x in equation.outvars]
            step = Step(
                *(equation.primitive, equation.params, tuple(given), tuple(new), place)
            )
            into.append(step)
            found = list(new)
        values |= zip(equation.outvars, found, strict=True)
    return [read(x) for x in jaxpr.outvars]


def closed(jaxpr: Any) -> core.ClosedJaxpr:
    """A function of a parameter, with the constants that it has."""
    return jaxpr if hasattr(jaxpr, "consts") else core.ClosedJaxpr(jaxpr, ())


def _needed(steps: Sequence[Step], results: Sequence[Atom]) -> list[Step]:
    """The steps that the results need, in their order."""
    wanted, kept = set(results), []
    for step in reversed(steps):
        if any(output in wanted for output in step.outputs):
            kept.append(step)
            wanted.update(step.inputs)
    return kept[::-1]


def _computed(steps: Sequence[Step], results: Sequence[Atom]) -> dict[Atom, Known]:
    """The values of those steps that need no image, by one program."""
    first, later, known = [], [], set[Atom]()
    for step in steps:
        if _is_known(step, known):
            first.append(step)
            known.update(step.outputs)
        else:
            later.append(step)
    if not first:
        return {}
    used = {atom for step in later for atom in step.inputs} | set(results)
    wanted = [x for step in first for x in step.outputs if x in used]
    arrays = list({x: None for s in first for x in s.inputs if isinstance(x, Known)})

    def compute(values: list[Any]) -> list[Any]:
        found: dict[Atom, Any] = dict(zip(arrays, values, strict=True))
        for step in first:
            given = [found[x] for x in step.inputs]
            made = step.primitive.bind(*given, **step.params)
            made = made if step.primitive.multiple_results else [made]
            found |= zip(step.outputs, made, strict=True)
        return [found[x] for x in wanted]

    program = jax.jit(compute)
    answers = program([x.array for x in arrays])
    made = dict.fromkeys(known, Known(None))  # those in between are used by nobody
    return made | {
        x: Known(np.asarray(value)) for x, value in zip(wanted, answers, strict=True)
    }


def _is_known(step: Step, known: set[Atom]) -> bool:
    """Whether a step needs no image, and computing it makes nothing large."""
    if step.primitive.name == "dim_as_value":
        return False
    if not all(isinstance(x, Known) or x in known for x in step.inputs):
        return False
    if not all(x.is_fixed for x in step.outputs):
        return False
    size = lambda x: math.prod(x.shape)
    largest = max(map(size, step.inputs), default=0)
    return all(size(x) <= max(SMALL, largest) for x in step.outputs)
