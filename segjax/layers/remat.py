"""Gradient checkpointing of any network: the maps within its blocks are computed a second time.

Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv 1604.06174. The backward
pass keeps what goes into each block and computes the rest again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import flax.linen as nn
import jax

from segjax.layers.blocks import is_block

STACKS = ("_stack", "_conv_norm")
"""Methods that are blocks of networks whose layers stand in no module: some of those layers."""

SINGLE_LAYERS = (
    *("flax.linen.", "segjax.layers.conv.", "segjax.layers.norm."),
    *("segjax.layers.upsample.", "segjax.layers.unpool."),
)
"""Modules of single layers, of which nothing lies within."""

_within: ContextVar[bool] = ContextVar("_within", default=False)


def with_remat(model: nn.Module) -> nn.Module:
    """Makes a network that computes its blocks again in the backward pass.

    Names, values and initial bits of its parameters are those of the network, and so are its
    outputs and gradients, up to rounding.

    Args:
      model: the network, without parameters.

    Returns:
      The same with less memory in training; of a subclass of its class.
    """
    fields = [x.name for x in dataclasses.fields(model) if x.init]
    given = {name: getattr(model, name) for name in fields if name != "parent"}
    return _with_remat(type(model))(**given)  # type: ignore[arg-type]  # classes have hashes


@functools.cache
def _with_remat(network: type[nn.Module]) -> type[nn.Module]:
    """A subclass of a network's class whose blocks are computed again."""
    call: Any = network.__call__

    @functools.wraps(call)
    def recompute(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with nn.intercept_methods(_recompute_block):
            return call(self, *args, **kwargs)

    names = ("__module__", "__doc__", "__qualname__")
    kept = {name: getattr(network, name) for name in names}
    return type(network.__name__, (network,), {**kept, "__call__": recompute})


def _recompute_block(
    following: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Calls a method, by way of `flax.linen.remat` where it is that of a block."""
    module, method = context.module, context.method_name
    outside = module.scope is None or module.is_initializing()
    if outside or _within.get() or not _is_block(module, method):
        return following(*args, **kwargs)
    leaves, nesting = jax.tree.flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def call(module: nn.Module, *arrays: jax.Array) -> Any:
        given = dict(zip(places, arrays, strict=True))
        all_leaves = [given.get(i, leaf) for i, leaf in enumerate(leaves)]
        args, kwargs = jax.tree.unflatten(nesting, all_leaves)
        token = _within.set(True)
        try:
            return getattr(type(module), method)(module, *args, **kwargs)
        finally:
            _within.reset(token)

    return nn.remat(call)(module, *(leaves[i] for i in places))


def _is_block(module: nn.Module, method: str) -> bool:
    """Whether a method computes a block of several layers."""
    if method in STACKS:
        return True
    single = f"{type(module).__module__}.".startswith(SINGLE_LAYERS)
    path = module.path
    return method == "__call__" and not single and is_block(path)
