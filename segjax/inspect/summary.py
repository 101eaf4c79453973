"""The description of an untrained network: layers, sizes, cost, receptive field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.geometry.fields import Layer, output_size, receptive_field
from segjax.geometry.input_sizes import Geometry
from segjax.ops.base.forms import forms
from segjax.training.progress import in_gflop
from segjax.types import Array

EXAMPLES = 5
"""How many accepted sizes are listed."""


def describe(model: nn.Module, input_size: tuple[int, int, int]) -> dict[str, Any]:
    """Describes a network; nothing is compiled.

    Args:
      model: one of `segjax.models`.
      input_size: height, width and channels of an image.

    Returns:
      JSON: `parameters`, `input_size` and `output_size` (height, width, channels),
      `gflops` (of one image, forward), `receptive_field` (pixels that one output pixel
      depends on through the convolutions of the longest path: smallest and largest),
      `sees_whole_image` (whether a global pooling beside that path widens it to the
      whole image), `stride`, `margin`, `halo` (null where the whole image is seen),
      `accepted_sizes`, and `layers`, a row for each layer of the longest path. Of a network
      that finds objects `output_size` are its boxes (slots, 4), and `gflops` is null: it
      depends on how many objects there are. A network without `layers()` or `geometry` has
      the first four alone.
    """
    image = jax.ShapeDtypeStruct((1, *input_size), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), image
    )

    described: Any = model
    finds_objects = hasattr(described, "post_processing")

    def output(variables: Any, image: Array) -> Array:
        outputs: Any = model.apply(variables, image, train=False)
        return outputs["boxes" if finds_objects else "logits"]

    cost = None
    if finds_objects:
        shape = jax.eval_shape(output, variables, image).shape
    else:
        # Fast forms have fewer multiplications on one platform; what is told is the network.
        with forms("plain"):
            lowered = jax.jit(output).lower(variables, image)
        cost = (lowered.cost_analysis() or {})["flops"] / 1e9
        shape = lowered.out_info.shape
    found = {
        "parameters": _count(variables["params"]),
        "input_size": list(input_size),
        "output_size": list(shape[1:]),
        "gflops": cost,
    }
    if not hasattr(described, "layers") or not hasattr(described, "geometry"):
        return found
    layers: tuple[Layer, ...] = described.layers()
    geometry: Geometry = described.geometry
    field = receptive_field(layers)
    height = input_size[0]
    return {
        **found,
        "receptive_field": {"smallest": field.smallest, "largest": field.size},
        "sees_whole_image": not geometry.tiles,
        "stride": geometry.stride,
        "margin": geometry.margin,
        "halo": geometry.halo,
        "accepted_sizes": _accepted_sizes(geometry, height),
        "layers": _rows(layers, height, variables["params"]),
    }


def table(summary: Mapping[str, Any]) -> str:
    """Writes what `summarize` found for people."""
    if "layers" not in summary:
        return _short_table(summary)
    columns = (
        "layer",
        "operation",
        "output",
        "receptive field",
        "stride",
        "parameters",
    )
    rows = [columns] + [
        (
            row["name"],
            row["operation"],
            str(row["output_side"]),
            str(row["receptive_field"]),
            f"{row['stride']:g}",
            f"{row['parameters']:,}" if row["parameters"] else "",
        )
        for row in summary["layers"]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    field, accepted = summary["receptive_field"], summary["accepted_sizes"]
    shown = ", ".join(map(str, accepted["nearest"]))
    sizes = _sizes(summary)
    named, cost = "height, width, channels", summary["gflops"]
    if cost is None:
        named += ", and boxes of objects"
    facts = {
        "parameters": f"{summary['parameters']:,}",
        "sizes": f"{sizes} ({named})",
        "cost": "depends on how many objects there are"
        if cost is None
        else f"{in_gflop(cost)} forward, for one crop",
        "receptive field": f"{field['smallest']} to {field['largest']} pixels",
        "stride": f"{summary['stride']} pixels",
        "accepted sizes": f"{accepted['rule']}; such as {shown}",
        "margin": f"{summary['margin']} pixels lost at each border",
        "halo": f"{summary['halo']} pixels beside a cut that tiles discard",
    }
    if summary["sees_whole_image"]:
        through = "for large objects" if cost is None else "through a global pooling"
        facts["receptive field"] += f", and the whole image {through}"
        facts["halo"] = "none: tiles cannot give what the whole image gives"
    width = max(map(len, facts))
    lines += ["", *(f"{name.ljust(width)}  {value}" for name, value in facts.items())]
    return "\n".join([f"{summary['model']}, its longest path", "", *lines])


def _short_table(summary: Mapping[str, Any]) -> str:
    """Writes what is known of a network that describes neither its layers nor its sizes."""
    facts = {
        "parameters": f"{summary['parameters']:,}",
        "sizes": f"{_sizes(summary)} (height, width, channels)",
        "cost": f"{in_gflop(summary['gflops'])} forward, for one crop",
        "receptive field": "not known: the network has no `layers()` and `geometry`",
    }
    width = max(map(len, facts))
    lines = [f"{name.ljust(width)}  {value}" for name, value in facts.items()]
    return "\n".join([str(summary["model"]), "", *lines])


def _sizes(summary: Mapping[str, Any]) -> str:
    sizes = summary["input_size"], summary["output_size"]
    return " -> ".join("x".join(map(str, size)) for size in sizes)


def _accepted_sizes(geometry: Geometry, side: int) -> dict[str, Any]:
    below = max(geometry.minimum, side - EXAMPLES // 2 * geometry.stride)
    first = geometry.next_accepted(below)
    if geometry.offset is None:
        return {
            "minimum": geometry.minimum,
            "step": 1,
            "offset": 0,
            "rule": f"every side from {geometry.minimum} on",
            "nearest": [side + i for i in range(EXAMPLES)],
        }
    offset = geometry.offset % geometry.stride
    return {
        "minimum": geometry.minimum,
        "step": geometry.stride,
        "offset": offset,
        "rule": f"{geometry.minimum} + {geometry.stride} k",
        "nearest": [first + i * geometry.stride for i in range(EXAMPLES)],
    }


def _rows(
    layers: tuple[Layer, ...], side: int, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    for i, layer in enumerate(layers, 1):
        field = receptive_field(layers[:i])
        rows.append(
            {
                "name": layer.name,
                "operation": _operation(layer),
                "output_side": output_size(layers[:i], side),
                "receptive_field": field.size,
                "stride": field.stride,
                "parameters": _parameters_of(layer.name, params),
            }
        )
    return rows


def _operation(layer: Layer) -> str:
    kind = f"transposed {layer.operation}" if layer.transposed else layer.operation
    text = f"{kind} {layer.kernel}x{layer.kernel}"
    if layer.stride > 1:
        text += f", stride {layer.stride}"
    if layer.dilation > 1:
        text += f", dilation {layer.dilation}"
    if any(layer.pads):
        text += f", padding {layer.padding}"
    return text


def _parameters_of(name: str, params: Mapping[str, Any]) -> int:
    node: Any = params
    for part in name.split("/"):
        if not isinstance(node, Mapping) or part not in node:
            return 0
        node = node[part]
    return _count(node)


def _count(tree: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))
