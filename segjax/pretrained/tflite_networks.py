"""Which of the known networks a graph of TensorFlow Lite is, and its weights by name.

The graph is followed from the image on, operator by operator: each has to be one that the
network has at that place, of the same kernel, stride, dilation, channels and activation. So a
file that would compute something else is refused, and the first difference is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segjax.errors import UserError
from segjax.pretrained.flatbuffer import FlatBufferError
from segjax.pretrained.tflite import Graph, Operator, damaged, read_graph
from segjax.pretrained.tflite_sources import (
    GLOBAL_MEAN,
    IMAGE,
    NORM,
    SPREAD,
    TFLITE,
    Step,
    steps_of,
)

RANGE = (-1.0, 1.0)
"""Of the images that all known networks take."""

LEEWAY = 1 / 64
"""By which the ends of the range may differ: two grey levels."""

ENDING = ("ARG_MAX", "SOFTMAX")
"""Operators behind the logits that leave the order of the classes as it is."""


class DifferenceError(Exception):
    """A graph is not that of a network; ends a sentence.

    Attributes:
      matched: operators that were as expected before.
    """

    def __init__(self, message: str, matched: int) -> None:
        super().__init__(message)
        self.matched = matched


@dataclass
class Match:
    """A graph whose operators are those of a network.

    Attributes:
      source: a name of `segjax.pretrained.SOURCES`.
      graph: the graph.
      operators: the operator of each step, by its name.
    """

    source: str
    graph: Graph
    operators: dict[str, Operator] = field(default_factory=dict)


def read_tflite(path: Path) -> dict[str, np.ndarray]:
    """Reads the weights of a file of TensorFlow Lite.

    Args:
      path: the file.

    Returns:
      Arrays by the names of the release, of the layout `[out, in, height, width]`; the norms
      that are folded into convolutions are identities.

    Raises:
      UserError: if the file is damaged, or of another network: what differs first is named.
    """
    graph = read_graph(path)
    try:
        return weights_of(match(graph, path))
    except FlatBufferError as error:
        raise damaged(path, error) from error


def match(graph: Graph, path: str | Path) -> Match:
    """Finds the network that a graph is.

    Args:
      graph: the graph.
      path: its file, for the message.

    Returns:
      The source, and its operators by name.

    Raises:
      UserError: if it is none, naming what differs first from the one that is nearest.
    """
    nearest: tuple[str, DifferenceError] | None = None
    for source in TFLITE:
        try:
            return _follow(graph, source)
        except DifferenceError as error:
            if nearest is None or error.matched > nearest[1].matched:
                nearest = source, error
    assert nearest is not None
    raise UserError(
        f"{path} is none of the networks of TensorFlow Lite that are known here "
        f"({', '.join(TFLITE)}). It comes nearest to {nearest[0]}, but {nearest[1]}."
    )


def weights_of(found: Match) -> dict[str, np.ndarray]:
    """The weights of a graph, by the names of the release.

    Raises:
      FlatBufferError: if a tensor is damaged.
    """
    state: dict[str, np.ndarray] = {}
    for step in steps_of(found.source):
        if not step.ours:
            continue
        operator = found.operators[step.name]
        kernel = _constant(found.graph, operator, 1)
        assert kernel is not None
        order = (3, 0, 1, 2) if step.kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
        state[f"{step.name}.weight"] = kernel.transpose(order)
        features = len(state[f"{step.name}.weight"])
        bias = _constant(found.graph, operator, 2)
        bias = np.zeros(features, np.float32) if bias is None else bias
        if not step.has_norm:
            state[f"{step.name}.bias"] = bias
            continue
        norm = f"{step.name}/{NORM}"
        state[f"{norm}.weight"] = np.ones(features, np.float32)
        state[f"{norm}.bias"] = bias
        state[f"{norm}.running_mean"] = np.zeros(features, np.float32)
        state[f"{norm}.running_var"] = np.ones(features, np.float32)
    return state


def _constant(graph: Graph, operator: Operator, place: int) -> np.ndarray | None:
    """A constant input of an operator, also where float16 is first made float32."""
    index = _constant_index(graph, operator, place)
    return None if index is None else graph.tensor(index).floats()


def _constant_index(graph: Graph, operator: Operator, place: int) -> int | None:
    if place >= len(operator.inputs) or operator.inputs[place] < 0:
        return None
    index = operator.inputs[place]
    for other in graph.operators:
        if other.kind == "DEQUANTIZE" and other.outputs == (index,) and other.inputs:
            return other.inputs[0]
    return index


def _follow(graph: Graph, source: str) -> Match:
    """Follows a graph from the image on.

    Raises:
      DifferenceError: at the first operator that is not the network's.
    """
    found, steps = Match(source, graph), steps_of(source)
    waiting = {(step.kind, step.inputs): step for step in steps}
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise DifferenceError(
            f"it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs", 0
        )
    _check_image(graph)
    origin = {graph.inputs[0]: IMAGE}
    for number, operator in enumerate(graph.operators):
        given = [i for i in operator.inputs if i in origin]
        if not given or operator.kind == "SHAPE":
            continue
        origins = tuple(origin[i] for i in given)
        if _passes(graph, operator, given[0], is_last=origins[0] == steps[-1].name):
            step_name = origins[0]
        else:
            kind = _kind(graph, operator, given[0])
            if kind == "ADD":
                origins = tuple(sorted(origins))
            where = f"operator {number}, {_described(graph, operator)},"
            step = waiting.pop((kind, origins), None)
            if step is None:
                expected = dict.fromkeys(
                    x.kind for x in waiting.values() if set(x.inputs) & set(origins)
                )
                instead = " or ".join(expected) or "nothing"
                raise DifferenceError(
                    f"its {where} stands where {instead} is expected",
                    len(found.operators),
                )
            if wrong := _differs(graph, operator, step):
                raise DifferenceError(f"its {where} {wrong}", len(found.operators))
            found.operators[step.name] = operator
            step_name = step.name
        for index in operator.outputs:
            origin[index] = step_name
    if waiting:
        step = next(iter(waiting.values()))
        raise DifferenceError(
            f"it lacks {step.kind} after {step.inputs[0]} ({step.name})",
            len(found.operators),
        )
    if origin.get(graph.outputs[0]) != steps[-1].name:
        raise DifferenceError("its output is not what it computes last", len(steps))
    return found


def _check_image(graph: Graph) -> None:
    """Checks what a graph says of the images that it takes."""
    image = graph.tensor(graph.inputs[0])
    if len(image.shape) != 4 or image.shape[0] != 1 or image.shape[3] != 3:
        raise DifferenceError(f"its images have the shape {list(image.shape)}", 0)
    if image.dtype.kind == "f":
        return
    if image.dtype.itemsize != 1 or not image.scale.size == image.zero_point.size == 1:
        raise DifferenceError(
            f"its images are {image.dtype} without one scale and one zero point", 0
        )
    limits = np.iinfo(image.dtype)
    zero, scale = float(image.zero_point[0]), float(image.scale[0])
    ends = ((limits.min - zero) * scale, (limits.max - zero) * scale)
    if any(abs(a - b) > LEEWAY for a, b in zip(ends, RANGE, strict=True)):
        raise DifferenceError(
            f"its images go from {ends[0]:g} to {ends[1]:g}, not from -1 to 1", 0
        )


def _passes(graph: Graph, operator: Operator, index: int, *, is_last: bool) -> bool:
    """Whether an operator hands on what it is given, but for rounding."""
    if operator.kind in ("QUANTIZE", "DEQUANTIZE"):
        return True
    if is_last and operator.kind in ENDING:
        return True
    if not operator.outputs:
        return False
    before = graph.tensor(index).shape
    after = graph.tensor(operator.outputs[0]).shape
    if operator.kind == "RESIZE_BILINEAR":
        return before == after
    if operator.kind in ("RESHAPE", "SQUEEZE"):
        # One pixel: whatever its shape, the channels are all there is.
        return bool(before and after) and math.prod(before) == before[-1] == after[-1]
    return False


def _kind(graph: Graph, operator: Operator, index: int) -> str:
    """The kind of an operator, as `Step` has it."""
    shape = graph.tensor(index).shape
    if len(shape) != 4:
        return operator.kind
    if operator.kind in ("RESIZE_BILINEAR", "TILE") and shape[1:3] == (1, 1):
        after = graph.tensor(operator.outputs[0]).shape if operator.outputs else ()
        return SPREAD if after[3:] == shape[3:] else operator.kind
    if operator.kind == "AVERAGE_POOL_2D":
        window = operator.number(4, "<i"), operator.number(3, "<i")
        is_whole = window == shape[1:3] and operator.padding == "valid"
        return GLOBAL_MEAN if is_whole else operator.kind
    if operator.kind == "MEAN" and len(operator.inputs) == 2:
        axes = graph.tensor(operator.inputs[1])
        if axes.is_constant and sorted(axes.values().ravel().tolist()) == [1, 2]:
            return GLOBAL_MEAN
    return operator.kind


def _differs(graph: Graph, operator: Operator, step: Step) -> str:
    """What of an operator is not as a step has it; empty where nothing is."""
    if step.ours:
        return _conv_differs(graph, operator, step)
    if step.kind == "RESIZE_BILINEAR":
        if not operator.align_corners or operator.half_pixel_centers:
            return "does not keep corner pixels in place (align_corners)"
        sides = graph.tensor(operator.outputs[0]).shape[1:3]
        if sides != (image := graph.tensor(graph.inputs[0]).shape[1:3]):
            return f"resizes to {list(sides)}, not to the image's {list(image)}"
        return ""
    if step.kind in ("ADD", "CONCATENATION") and operator.activation is not None:
        return f"is followed by {operator.activation}, expected nothing"
    axis = operator.number(0, "<i") if step.kind == "CONCATENATION" else 3
    return "" if axis in (3, -1) else f"joins axis {axis}, expected the channels"


def _conv_differs(graph: Graph, operator: Operator, step: Step) -> str:
    if not operator.inputs or not operator.outputs:
        return "has no inputs"
    index = _constant_index(graph, operator, 1)
    kernel = None if index is None else graph.tensor(index)
    before = graph.tensor(operator.inputs[0]).shape
    if kernel is None or not kernel.is_constant or len(kernel.shape) != 4:
        return "has no constant kernel"
    channels = before[-1] if before else 0
    is_depthwise = step.kind == "DEPTHWISE_CONV_2D"
    features = kernel.shape[3 if is_depthwise else 0]
    wanted = features if step.features is None else step.features
    sides = (step.kernel, step.kernel)
    shape = (1, *sides, wanted) if is_depthwise else (wanted, *sides, channels)
    bias = _constant_index(graph, operator, 2)
    found: Mapping[str, tuple[object, object]] = {
        "a kernel of the shape": (kernel.shape, shape),
        "biases of the shape": (
            shape[3 if is_depthwise else 0 :][:1]
            if bias is None
            else graph.tensor(bias).shape,
            (wanted,),
        ),
        "strides of": (operator.stride, (step.stride, step.stride)),
        "dilations of": (operator.dilation, (step.dilation, step.dilation)),
        "the activation": (operator.activation, step.activation),
        "the padding": (
            operator.padding if step.kernel > 1 else "same",
            "same",
        ),
    }
    for what, (has, expected) in found.items():
        if has != expected:
            return f"has {what} {has}, expected {expected}"
    return ""


def _described(graph: Graph, operator: Operator) -> str:
    name = graph.tensor(operator.outputs[0]).name if operator.outputs else ""
    return f"{operator.kind} ({name.partition(';')[0][:80]})"
