"""Networks of TensorFlow Lite with the rounding of their file, for comparisons.

An 8-bit file rounds the result of every operator to 256 values; the network that is imported does
not, and is the better one. Here the same network rounds at the same places. What is left is how
often LiteRT rounds: XNNPACK's kernels once, its own twice, first to a fraction of a step. In the
first depthwise convolution of DeepLab v3 that moves 18 % of the values by a step, and what follows
spreads it: the two kinds of kernels agree with one another on 99.1 % to 99.8 % of the labels, and
this network with the first of them on 99.0 % to 99.9 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError
from segjax.pretrained import sources
from segjax.pretrained.tflite import Tensor, read_graph
from segjax.pretrained.tflite_networks import Match, match, weights_of
from segjax.pretrained.tflite_sources import GLOBAL_MEAN, steps_of
from segjax.types import Array

Network = Callable[[Mapping[str, Any], Array], dict[str, Array]]
"""Maps variables and an image `[B, H, W, 3]` to outputs."""


def load_rounded(path: str | Path) -> tuple[Network, dict[str, Any]]:
    """Makes the network of an 8-bit file, with the rounding of that file.

    Args:
      path: a file ending in .tflite.

    Returns:
      The network, which does not train, and its variables. Images are those of the
      normalisation "tflite".

    Raises:
      UserError: if the file is damaged, of another network, or rounds nothing.
    """
    found = match(read_graph(path), path)
    model, variables = sources.load(found.source, weights_of(found))
    before, behind = _places(found)
    if not behind:
        raise UserError(
            f"{path} has weights of floats, whose results are not rounded: import it instead."
        )

    def intercept(
        call: Callable[..., Any],
        args: Any,
        options: Any,
        context: nn.module.InterceptorContext,
    ) -> Any:
        if context.method_name != "__call__":
            return call(*args, **options)
        name = "/".join(context.module.path)
        if name in before:
            args = (rounded(args[0], before[name]), *args[1:])
        result = call(*args, **options)
        if name not in behind:
            return result
        if isinstance(result, dict):
            return result | {"logits": rounded(result["logits"], behind[name])}
        return rounded(result, behind[name])

    def network(variables: Mapping[str, Any], image: Array) -> dict[str, Array]:
        with nn.intercept_methods(intercept):
            outputs: Any = model.apply(variables, image, train=False)
        return outputs

    return network, variables


def rounded(x: Array, tensor: Tensor) -> Array:
    """Rounds to the values that a quantised tensor can hold.

    Args:
      x: any shape, floating point.
      tensor: with one scale and one zero point.

    Returns:
      The same shape and dtype.

    Example:
      >>> one = lambda value, kind: np.array([value], kind)
      >>> steps = Tensor("x", (), np.dtype("u1"), one(0.5, "f4"), one(2, "i8"), 0, one(0, "u1"))
      >>> rounded(jnp.array([-9.0, 0.4, 999.0]), steps).tolist()
      [-1.0, 0.5, 126.5]
    """
    limits, scale = np.iinfo(tensor.dtype), float(tensor.scale[0])
    zero = float(tensor.zero_point[0])
    steps = jnp.clip(jnp.round(x / scale) + zero, limits.min, limits.max)
    return (steps - zero) * scale


def _places(found: Match) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors by whose steps our modules' inputs and results are rounded.

    What is no module of ours, a mean or a concatenation, is rounded where the next module
    takes it in.
    """
    steps = steps_of(found.source)
    results = {
        step.name: found.graph.tensor(found.operators[step.name].outputs[0])
        for step in steps
    }
    of_step = {step.name: step for step in steps}
    before: dict[str, Tensor] = {}
    behind: dict[str, Tensor] = {}
    for step in steps:
        result = results[step.name]
        if result.dtype.kind == "f" or result.scale.size != 1:
            continue
        given = of_step.get(step.inputs[0])
        if step.ours:
            behind[step.ours] = result
            if given is not None and given.kind in (GLOBAL_MEAN, "CONCATENATION"):
                before[step.ours] = results[given.name]
        elif step.kind == "ADD":
            project = of_step[step.name.removesuffix("add") + "project"]
            behind[project.ours.removesuffix("/project")] = result
        elif step.kind == "RESIZE_BILINEAR":
            behind[""] = result
    return before, behind
