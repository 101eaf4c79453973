"""The blocks of a network: where its rate falls by layer, and where gradients are recomputed.

A block is what a network, its backbone or a stage is a sequence of: `down1` of a U-Net,
`backbone/stage3/block2` of a ResNet, one convolution of a VGG.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from flax import traverse_util

SEQUENCES = re.compile(r"backbone|network|stage\d+")
"""Names of modules that hold blocks one after the other, and are none themselves."""


def block_of(path: tuple[str, ...]) -> tuple[str, ...]:
    """The block that a module or a parameter belongs to.

    Example:
      >>> block_of(("backbone", "stage3", "block2", "conv1", "kernel"))
      ('backbone', 'stage3', 'block2')
    """
    depth = 0
    while depth < len(path) - 1 and SEQUENCES.fullmatch(path[depth]):
        depth += 1
    return path[: depth + 1]


def is_block(path: tuple[str, ...]) -> bool:
    """Whether a module at this path is a block, neither part of one nor a sequence of them.

    Example:
      >>> is_block(("backbone", "stem")), is_block(("backbone",)), is_block(("down1", "conv1"))
      (True, False, False)
    """
    return block_of((*path, "")) == path and bool(path)


def blocks_of(init: Callable[[], Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    """Names the blocks of a network in the order in which an image meets them.

    Args:
      init: makes the network's variables; it is only traced.

    Returns:
      For each block the names of its modules, such as ("down1",) or ("conv1", "norm1").
    """
    names: list[tuple[str, ...]] = []

    def note() -> Mapping[str, Any]:
        variables = (
            init()
        )  # Flax keeps the order of creation; a traced function does not
        names.extend(traverse_util.flatten_dict(dict(variables["params"])))
        return variables

    jax.eval_shape(note)
    return _grouped(names)


def _grouped(paths: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Modules by block; one without a kernel, a norm, belongs to the block before it."""
    modules: dict[str, bool] = {}
    for path in paths:
        name = "/".join(block_of(path))
        modules[name] = modules.get(name, False) or path[-1] not in ("scale", "bias")
    blocks: list[tuple[str, ...]] = []
    for name, has_kernel in modules.items():
        if has_kernel or not blocks:
            blocks.append((name,))
        else:
            blocks[-1] += (name,)
    return tuple(blocks)
