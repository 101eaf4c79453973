"""Factors of the learning rate for parts of a network, by patterns of parameter names."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from segjax.training.leaves import path_name

Multipliers = tuple[tuple[str, float], ...]
"""Pairs of a pattern, such as "*/bias", and the factor of what it matches."""

_SHOWN = 4
"""Names of parameters in a message."""


def with_multipliers(
    optimizer: optax.GradientTransformation, multipliers: Multipliers
) -> optax.GradientTransformation:
    """Multiplies the learning rate of some parameters, weight decay included.

    Caffe's `lr_mult`: the layers that a network adds to its backbone learn ten times as
    fast, biases twice as fast. What an optimizer with groups of parameters computes is
    the same. A parameter of factor 0 is frozen: it has neither an update nor a decay,
    and its gradient counts nowhere, not even in the norm that clipping looks at.

    Args:
      optimizer: turns gradients into updates.
      multipliers: pairs of a pattern and a factor from 0. A pattern is matched
        against the whole path of a parameter, such as "classifier/conv/kernel"; `*` stands
        for anything, slashes too (`fnmatch`). Where several match, their factors
        multiply, whatever their order.

    Returns:
      The optimizer; its state is that of the one that was given, and its update hands on
      what that one's takes besides.

    Raises:
      ValueError: if they are not such pairs; later, from `init`, if a pattern matches no
        parameter.

    Example:
      >>> sgd = with_multipliers(optax.sgd(1.0), (("head/*", 10.0), ("*/bias", 2.0)))
      >>> params = {"head": {"kernel": jax.numpy.ones(1), "bias": jax.numpy.ones(1)}}
      >>> updates, _ = sgd.update(params, sgd.init(params))
      >>> float(updates["head"]["kernel"][0]), float(updates["head"]["bias"][0])
      (-10.0, -20.0)
    """
    _check(multipliers)
    if not multipliers:
        return optimizer

    inner = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> optax.OptState:
        factors(params, multipliers)
        return optimizer.init(params)

    def update(
        gradients: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **more: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        factor = factors(gradients, multipliers)
        # Zeros and not products: a gradient of NaN may stand where something is frozen.
        zero_frozen = lambda f, x: x if f else jax.numpy.zeros_like(x)
        gradients = jax.tree.map(zero_frozen, factor, gradients)
        updates, state = inner.update(gradients, state, params, **more)
        scale = lambda f, x: f * x if f else jax.numpy.zeros_like(x)
        return jax.tree.map(scale, factor, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def factors(params: optax.Params, multipliers: Multipliers) -> Any:
    """Gives each parameter the product of the factors whose patterns match its path.

    Args:
      params: nested dicts of parameters.
      multipliers: pairs of a pattern and a factor.

    Returns:
      A float for each parameter, in the same nesting.

    Raises:
      ValueError: if a pattern matches no parameter; some existing ones are named.
    """
    paths, structure = _paths(params)
    for pattern, _ in multipliers:
        _require_match(pattern, paths, "multipliers")
    product = lambda path: math.prod(
        (factor for pattern, factor in multipliers if fnmatchcase(path, pattern)),
        start=1.0,
    )
    return jax.tree_util.tree_unflatten(structure, [product(path) for path in paths])


def matching(params: optax.Params, patterns: Sequence[str], key: str | None) -> Any:
    """Marks the parameters that one of some patterns matches.

    Args:
      params: nested dicts of parameters.
      patterns: of their paths, as `with_multipliers` has them.
      key: the name of the patterns, for messages; None if they may match nothing.

    Returns:
      A bool for each parameter, in the same nesting.

    Raises:
      ValueError: if a pattern matches no parameter; some existing ones are named.

    Example:
      >>> matching({"conv": {"kernel": 0.5, "bias": 0.0}}, ("*/bias",), "decay_on")
      {'conv': {'bias': True, 'kernel': False}}
    """
    paths, structure = _paths(params)
    for pattern in patterns if key is not None else ():
        _require_match(pattern, paths, key or "")
    marks = [any(fnmatchcase(path, x) for x in patterns) for path in paths]
    return jax.tree_util.tree_unflatten(structure, marks)


def decay_by_layer(blocks: Sequence[Sequence[str]], factor: float) -> Multipliers:
    """Factors of the rate that fall from the last block of a network to its first.

    Args:
      blocks: names of the modules of each block, from the image on.
      factor: of one block to the next.

    Returns:
      Multipliers.

    Example:
      >>> decay_by_layer((("stem",), ("block1",), ("logits",)), 0.5)
      (('stem/*', 0.25), ('block1/*', 0.5), ('logits/*', 1.0))
    """
    last = len(blocks) - 1
    return tuple(
        (f"{name}/*", factor ** (last - i))
        for i, block in enumerate(blocks)
        for name in block
    )


def _paths(params: optax.Params) -> tuple[list[str], Any]:
    """The paths of all parameters, such as "conv/kernel", and the nesting."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    return [path_name(path) for path, _ in leaves], structure


def _require_match(pattern: str, paths: Sequence[str], key: str) -> None:
    """Raises ValueError if a pattern matches no path; some existing ones are named."""
    if not any(fnmatchcase(path, pattern) for path in paths):
        raise ValueError(
            f'{key} has the pattern "{pattern}", which matches no parameter; '
            f"there are {', '.join(_nearest(pattern, paths))}"
        )


def _nearest(pattern: str, paths: Sequence[str]) -> list[str]:
    """A few paths, the most similar ones first."""
    similarity = lambda path: difflib.SequenceMatcher(None, pattern, path).ratio()
    nearest = sorted(paths, key=similarity, reverse=True)
    return nearest[:_SHOWN] + ["..."] * (len(nearest) > _SHOWN)


def _check(multipliers: Multipliers) -> None:
    """Raises ValueError unless they are pairs of a pattern and a factor."""
    allowed = 'pairs of a pattern and a factor, such as (("*/bias", 2.0),)'
    if not isinstance(multipliers, tuple):
        raise ValueError(
            f"multipliers must be a tuple of {allowed}, got {multipliers!r}"
        )
    for pair in multipliers:
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], int | float)
        ):
            raise ValueError(f"multipliers must be {allowed}, got {pair!r}")
        if not 0 <= pair[1] < math.inf:
            raise ValueError(
                f'the multiplier of "{pair[0]}" must be a finite number of at least 0, got '
                f"{pair[1]}"
            )
