"""Foreign weights become Flax variables: strictly, each tensor and each leaf once.

The layouts are those of PyTorch and Caffe: convolutions `[out, in, kh, kw]`, dense layers
`[out, in]`, channels before rows and columns wherever a map was flattened.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from segjax.errors import UserError

State = Mapping[str, np.ndarray]
"""Foreign tensors by their foreign names."""

Names = Mapping[str, str]
"""Foreign modules, as "layer1.0.conv1", and our paths, as "stage2/block1/conv1/conv"."""

Path = tuple[str, ...]

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
"""Our leaves, and what PyTorch calls them."""

COUNTER = "num_batches_tracked"
"""PyTorch counts the batches of each norm; nothing here depends on it."""

AVERAGED = "n_averaged"
"""PyTorch's `AveragedModel` counts what it has averaged, beside the network."""

LISTED = 4
"""So many names of each kind are spelt out in a report."""


@dataclasses.dataclass
class _Report:
    """The names and values that did not fit."""

    unused: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    shapes: list[str] = dataclasses.field(default_factory=list)
    values: list[str] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        return any(dataclasses.astuple(self))

    def __str__(self) -> str:
        kinds = {
            "not used": sorted(self.unused),
            "missing": self.missing,
            "of another shape": self.shapes,
            "not finite": self.values,
        }
        return "; ".join(
            f"{len(found)} {kind}: {_listed(found)}"
            for kind, found in kinds.items()
            if found
        )


def convert(
    state: State,
    names: Names,
    target: Mapping[str, Any],
    *,
    optional: Callable[[str], bool] = lambda path: False,
    source: str = "The weights",
    hint: Callable[[], str] = str,
) -> dict[str, Any]:
    """Renames and transposes foreign tensors into the variables of a model.

    Args:
      state: foreign tensors by name.
      names: the module of the model that each foreign module is.
      target: collections of the model, arrays or `jax.ShapeDtypeStruct`.
      optional: for a module's path, such as "logits", whether leaves without a tensor may
        be missing from the result.
      source: what the weights are called, for messages.
      hint: gives a last sentence for messages.

    Returns:
      Collections like `target`, of NumPy arrays.

    Raises:
      UserError: unless every tensor is used and every leaf is filled by a tensor of its
        shape with finite values; the message lists both.
    """
    matched = match(state, names, target, optional=optional, source=source, hint=hint)
    leaves = dict(_flatten(target))
    filled: dict[Path, np.ndarray] = {}
    report = _Report()
    for path, name in matched.items():
        leaf = leaves[path]
        filled[path] = as_leaf(np.asarray(state[name]), leaf.shape, leaf.dtype)
        if not np.isfinite(filled[path]).all():
            report.values.append(name)
    if report:
        raise UserError(f"{source} do not fit the model: {report}.")
    return _nest(filled)


def match(
    state: State,
    names: Names,
    target: Mapping[str, Any],
    *,
    optional: Callable[[str], bool] = lambda path: False,
    source: str = "The weights",
    hint: Callable[[], str] = str,
) -> dict[Path, str]:
    """Finds the tensor of each leaf by names and shapes; no value is looked at.

    Args:
      state: as for `convert`, of which `shape` and `dtype` are enough.
      names: as for `convert`.
      target: as for `convert`.
      optional: as for `convert`.
      source: as for `convert`.
      hint: as for `convert`.

    Returns:
      The name of the tensor for each path, as `("params", "logits", "kernel")`.

    Raises:
      UserError: unless every tensor is used and every leaf is filled.
    """
    modules = {path: foreign for foreign, path in names.items()}
    report = _Report()
    matched: dict[Path, str] = {}
    for path, leaf in _flatten(target):
        module = "/".join(path[1:-1])
        name = f"{modules.get(module, module)}.{LEAVES.get(path[-1], path[-1])}"
        if module not in modules or name not in state:
            if not optional(module):
                there = f" (for {module}/{path[-1]})" if module in modules else ""
                report.missing.append(f"{name}{there}")
            continue
        matched[path] = name
        try:
            check_layout(state[name], leaf.shape)
        except ValueError as error:
            report.shapes.append(f"{name} is {list(state[name].shape)}, {error}")
    used = {name for name in state if name.rpartition(".")[2] == COUNTER}
    report.unused = sorted(state.keys() - used - set(matched.values()))
    if report:
        raise UserError(f"{source} do not fit the model: {report}.{hint()}")
    return matched


def to_numpy(value: Any) -> np.ndarray:
    """Takes an array, or a tensor of PyTorch, on any device and with a gradient or not."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):
            # PyTorch gives no bfloat16 to NumPy; float32 holds it.
            value = value.float()
    return np.asarray(value)


def as_leaf(
    tensor: np.ndarray, shape: tuple[int, ...], dtype: Any = np.float32
) -> np.ndarray:
    """Lays a tensor out as the leaf of a model that it is.

    Args:
      tensor: PyTorch's or Caffe's: `[out, in, kh, kw]`, `[out, in]` or `[C]`.
      shape: that of the leaf: `[kh, kw, in, out]`, `[in, out]` or `[C]`. A dense layer
        over a flattened map is a convolution as large as the map.
      dtype: of the leaf.

    Returns:
      The array of that shape, contiguous.

    Raises:
      ValueError: as `check_layout` does.

    Example:
      >>> as_leaf(np.zeros((8, 3 * 2 * 2)), (2, 2, 3, 8)).shape
      (2, 2, 3, 8)
    """
    check_layout(tensor, shape)
    permutation = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(shape), range(len(shape)))
    laid_out = tensor.reshape(_stored(shape)[0]).transpose(*permutation)
    with np.errstate(over="ignore"):  # what becomes infinite is reported
        return np.ascontiguousarray(laid_out, dtype)


def check_layout(tensor: np.ndarray, shape: tuple[int, ...]) -> None:
    """Checks that a foreign tensor is of the layer that a leaf of a model belongs to.

    Raises:
      ValueError: if it is not; ends a sentence that began with its name and shape.
    """
    if tensor.dtype.kind in "biuc":
        raise ValueError(f"of {tensor.dtype} values, expected floats")
    stored, flat = _stored(shape)
    if tensor.shape not in (stored, flat):
        expected = flat if len(shape) == 4 and tensor.ndim == 2 else stored
        raise ValueError(
            f"expected {list(expected)}{_layout(tensor.shape, shape, flat)}"
        )


def _stored(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The two foreign shapes of a leaf: as the same kind of layer, and as the other."""
    if len(shape) == 4:
        height, width, channels, features = shape
        return (features, channels, height, width), (
            features,
            channels * height * width,
        )
    if len(shape) == 2:
        channels, features = shape
        return (features, channels), (features, channels, 1, 1)
    return shape, shape


def _layout(
    found: tuple[int, ...], shape: tuple[int, ...], flat: tuple[int, ...]
) -> str:
    """Says whether a tensor looks like one of another program's."""
    if len(shape) == 1:
        return ""
    if found == shape and len(shape) == 4:
        return (
            ": it is laid out [height, width, in, out]; transpose it to [out, in, "
            "height, width]"
        )
    if found in (shape, flat[::-1]):
        return ": it is laid out [in, out]; transpose it to [out, in]"
    return ""


def prefixed(names: Names, foreign: str, ours: str) -> dict[str, str]:
    """Puts names into a module of another.

    Example:
      >>> prefixed({"conv1": "stem/conv"}, "backbone", "backbone")
      {'backbone.conv1': 'backbone/stem/conv'}
    """
    return {f"{foreign}.{a}": f"{ours}/{b}" for a, b in names.items()}


def modules_of(state: Iterable[str]) -> set[str]:
    """The modules that foreign tensors belong to.

    Example:
      >>> sorted(modules_of(["conv1.weight", "bn1.bias", "bn1.running_var"]))
      ['bn1', 'conv1']
    """
    return {name.rpartition(".")[0] for name in state}


def drop(state: State, skip: Iterable[str], *, source: str) -> dict[str, np.ndarray]:
    """Leaves out the tensors whose names begin with one of some modules.

    Args:
      state: foreign tensors by name.
      skip: modules, as "fc" or "classifier.4".
      source: what the weights are called, for messages.

    Returns:
      The others.

    Raises:
      UserError: if a module of `skip` has no tensor.
    """
    left = dict(state)
    for module in skip:
        found = [
            name for name in state if re.match(re.escape(module) + r"(\.|$)", name)
        ]
        if not found:
            raise UserError(
                f'{source} have no tensor of "{module}" to skip; they have, for example, '
                f"{_listed(list(state))}."
            )
        for name in found:
            left.pop(name, None)
    return left


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _flatten(tree: Mapping[str, Any]) -> list[tuple[Path, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(tuple(key.key for key in path), leaf) for path, leaf in leaves]


def _nest(flat: Mapping[Path, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = leaf
    return tree
