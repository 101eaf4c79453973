"""Files of TensorFlow Lite, written for tests: tables, and whole networks of random weights."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

CODES = {
    "ADD": 0,
    "AVERAGE_POOL_2D": 1,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 4,
    "DEQUANTIZE": 6,
    "RESIZE_BILINEAR": 23,
    "SOFTMAX": 25,
    "MEAN": 40,
    "ARG_MAX": 56,
}
TYPES = {"f4": 0, "f2": 1, "i4": 2, "u1": 3, "i8": 4, "i1": 9}
ACTIVATIONS = {None: 0, "relu": 1, "relu6": 3}

Number = tuple[str, float]
"""A number of a table: how `struct` writes it, and its value."""


def flatbuffer(value: Mapping[int, Any], identifier: bytes = b"TFL3") -> bytes:
    """Writes a table, with the tables, vectors and strings in it, as a FlatBuffer."""
    data = bytearray(4) + identifier
    struct.pack_into("<I", data, 0, _write(data, value))
    return bytes(data)


def _write(data: bytearray, value: Any) -> int:
    """Writes what an offset leads to, and says where it is."""
    data += bytes(-len(data) % 8)
    if isinstance(value, str | bytes):
        value = np.frombuffer(value.encode() if isinstance(value, str) else value, "u1")
    if isinstance(value, np.ndarray):
        data += bytes(4) + struct.pack("<I", value.size)
        data += np.ascontiguousarray(value).tobytes()
        return len(data) - value.nbytes - 4
    if isinstance(value, list):
        start = len(data)
        data += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for i, entry in enumerate(value):
            _point(data, start + 4 + 4 * i, _write(data, entry))
        return start
    return _table(data, value)


def _table(data: bytearray, fields: Mapping[int, Any]) -> int:
    count = max(fields, default=-1) + 1
    size, places = 4, [0] * count
    for field, value in fields.items():
        places[field] = size
        size += struct.calcsize(value[0]) if isinstance(value, tuple) else 4
    start = len(data)
    data += struct.pack(f"<HH{count}H", 4 + 2 * count, size, *places)
    at = len(data)
    data += struct.pack("<i", at - start) + bytes(size - 4)
    for field, value in fields.items():
        if isinstance(value, tuple):
            struct.pack_into(value[0], data, at + places[field], value[1])
        else:
            _point(data, at + places[field], _write(data, value))
    return at


def _point(data: bytearray, at: int, target: int) -> None:
    struct.pack_into("<I", data, at, target - at)


class File:
    """A file that is put together tensor by tensor and operator by operator."""

    def __init__(self) -> None:
        self.tensors: list[dict[int, Any]] = []
        self.operators: list[dict[int, Any]] = []
        self.buffers: list[dict[int, Any]] = [{}]
        self.inputs, self.outputs = [0], [-1]

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str = "f4",
        values: np.ndarray | None = None,
        scale: Any = (),
        zero_point: Any = (),
        axis: int = 0,
    ) -> int:
        """Adds a tensor, constant with `values`, and returns its number."""
        buffer = 0
        if values is not None:
            buffer = len(self.buffers)
            self.buffers.append({0: np.asarray(values, kind).tobytes()})
        table: dict[int, Any] = {
            0: np.array(shape, "<i4"),
            1: ("<b", TYPES[kind]),
            2: ("<I", buffer),
            3: name,
        }
        if len(np.atleast_1d(scale)):
            scales, zeros = np.atleast_1d(scale), np.atleast_1d(zero_point)
            table[4] = {2: scales.astype("<f4"), 3: zeros.astype("<i8")}
            table[4][6] = ("<i", axis)
        self.tensors.append(table)
        return len(self.tensors) - 1

    def operator(
        self,
        kind: str,
        inputs: tuple[int, ...],
        output: int,
        options: Mapping[int, Any] | None = None,
    ) -> int:
        """Adds an operator, and returns the tensor that it makes."""
        table: dict[int, Any] = {
            0: ("<I", list(CODES).index(kind)),
            1: np.array(inputs, "<i4"),
            2: np.array([output], "<i4"),
        }
        if options is not None:
            table[4] = dict(options)
        self.operators.append(table)
        self.outputs = [output]
        return output

    def to_bytes(self) -> bytes:
        """The bytes of the file."""
        graph = {
            0: self.tensors,
            1: np.array(self.inputs, "<i4"),
            2: np.array(self.outputs, "<i4"),
            3: self.operators,
        }
        codes = [{0: ("<b", code), 3: ("<i", code)} for code in CODES.values()]
        return flatbuffer(
            {0: ("<I", 3), 1: codes, 2: [graph], 3: "of a test", 4: self.buffers}
        )


Change = Callable[[str, Any], Any]
"""Changes what is said of a step: from its name and a property of it to another value."""


def network(
    steps: Any,
    *,
    kind: str = "u1",
    classes: int = 21,
    side: int = 33,
    change: Mapping[str, Mapping[str, Any]] | None = None,
    leave_out: str = "",
) -> tuple[bytes, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Writes a network of random weights.

    Args:
      steps: `segjax.pretrained.tflite_sources.steps_of` a source.
      kind: how weights are stored: "u1", "i1" by channel, "f2" or "f4".
      classes: of the last layer.
      side: of the image, odd.
      change: attributes of steps, by the name of the step, that are to differ.
      leave_out: a step that is passed over.

    Returns:
      The file; and of each layer what its weights mean, as they are laid out there.
    """
    rng, file = np.random.default_rng(0), File()
    quantized = kind in ("u1", "i1")
    of_image = {"scale": 1 / 128, "zero_point": 128} if quantized else {}
    image = file.tensor(
        "image", (1, side, side, 3), "u1" if quantized else "f4", **of_image
    )
    made = {"image": (image, side, 3)}
    weights = {}
    for step in steps:
        if step.name == leave_out:
            made[step.name] = made[step.inputs[0]]
            continue
        step = step._replace(**(change or {}).get(step.name, {}))
        given = [made[name] for name in step.inputs]
        index, now, channels = given[0]
        if step.ours:
            features = classes if step.features is None else step.features
            deep = step.kind == "DEPTHWISE_CONV_2D"
            shape = (features, step.kernel, step.kernel, channels)
            shape = (1, step.kernel, step.kernel, features) if deep else shape
            kernel, meant = constant(
                file, step.name, shape, kind, 3 if deep else 0, rng
            )
            bias = rng.normal(size=features).astype("f4")
            if quantized:
                steps_of_bias = np.rint(bias / 1e-4)
                bias_index = file.tensor("b", (features,), "i4", steps_of_bias, 1e-4, 0)
                bias = (steps_of_bias * np.float32(1e-4)).astype("f4")
            else:
                bias_index = file.tensor("b", (features,), "f4", bias)
            weights[step.name] = meant, bias
            now = -(-now // step.stride)
            strides = {1: ("<i", step.stride), 2: ("<i", step.stride)}
            activation = ("<b", ACTIVATIONS[step.activation])
            rate = ("<i", step.dilation)
            options = (
                {0: ("<b", 0), **strides, 3: ("<i", 1), 4: activation, 5: rate, 6: rate}
                if deep
                else {0: ("<b", 0), **strides, 3: activation, 4: rate, 5: rate}
            )
            out = file.tensor(step.name, (1, now, now, features))
            file.operator(step.kind, (index, kernel, bias_index), out, options)
            made[step.name] = out, now, features
            continue
        inputs = tuple(i for i, _, _ in given)
        if step.kind == "CONCATENATION":
            channels, now = sum(c for _, _, c in given), given[-1][1]
            options = {0: ("<i", 3)}
        elif step.kind == "mean of the map":
            options = {1: ("<i", 1), 2: ("<i", 1), 3: ("<i", now), 4: ("<i", now)}
            options[0], now = ("<b", 1), 1
        elif step.kind == "spread":
            now, options = made["aspp0"][1], {2: ("<b", 1)}
        elif step.kind == "RESIZE_BILINEAR":
            now, options = side, {2: ("<b", 1)}
        else:
            options = {}
        kinds = {"mean of the map": "AVERAGE_POOL_2D", "spread": "RESIZE_BILINEAR"}
        out = file.tensor(step.name, (1, now, now, channels))
        file.operator(kinds.get(step.kind, step.kind), inputs, out, options)
        made[step.name] = out, now, channels
    out = file.tensor("labels", (1, now, now), "i8")
    file.operator("ARG_MAX", (file.outputs[0],), out)
    return file.to_bytes(), weights


def constant(
    file: File,
    name: str,
    shape: tuple[int, ...],
    kind: str,
    axis: int,
    rng: np.random.Generator,
) -> tuple[int, np.ndarray]:
    """Adds weights, and returns their tensor and what they mean."""
    if kind in ("u1", "i1"):
        values = rng.integers(0, 256, shape)
        scale, zero = np.float32(0.01), np.array([120])
        if kind == "i1":
            values -= 128
            scale = rng.uniform(0.001, 0.02, shape[axis]).astype("f4")
            zero = np.zeros(shape[axis], int)
        index = file.tensor(name, shape, kind, values, scale, zero, axis)
        sides = [1] * len(shape)
        sides[axis] = -1 if kind == "i1" else 1
        steps = (values - zero.reshape(sides)).astype("f4")
        return index, steps * np.reshape(scale, sides)
    values = rng.normal(size=shape).astype(kind)
    index = file.tensor(name, shape, kind, values)
    if kind == "f2":
        wide = file.tensor(f"{name}/wide", shape)
        before = file.outputs
        file.operator("DEQUANTIZE", (index,), wide)
        file.outputs, index = before, wide
    return index, values.astype("f4")


def small() -> bytes:
    """A file of a few operators: the first ones of MobileNet v2."""
    rng, file = np.random.default_rng(0), File()
    image = file.tensor("image", (1, 9, 9, 3), "u1", scale=1 / 128, zero_point=128)
    same = {0: ("<b", 0), 1: ("<i", 2), 2: ("<i", 2), 3: ("<b", 3)}
    kernel, _ = constant(file, "Conv", (32, 3, 3, 3), "u1", 0, rng)
    bias = file.tensor("Conv/bias", (32,), "i4", np.arange(32), 0.01, 0)
    stem = file.tensor("stem", (1, 5, 5, 32), "u1", scale=0.02, zero_point=0)
    file.operator("CONV_2D", (image, kernel, bias), stem, same)
    kernel, _ = constant(file, "depthwise", (1, 3, 3, 32), "i1", 3, rng)
    deep = file.tensor("deep", (1, 5, 5, 32))
    one = {0: ("<b", 0), 1: ("<i", 1), 2: ("<i", 1), 3: ("<i", 1), 4: ("<b", 3)}
    file.operator("DEPTHWISE_CONV_2D", (stem, kernel, bias), deep, one)
    kernel, _ = constant(file, "project", (16, 1, 1, 32), "f2", 0, rng)
    project = file.tensor("project", (1, 5, 5, 16))
    file.operator(
        "CONV_2D", (deep, kernel, bias), project, {1: ("<i", 1), 2: ("<i", 1)}
    )
    axes = file.tensor("axes", (2,), "i4", np.array([1, 2]))
    mean = file.tensor("mean", (1, 1, 1, 16))
    file.operator("MEAN", (project, axes), mean, {0: ("<b", 1)})
    file.operator("SOFTMAX", (mean,), file.tensor("softmax", (1, 16)))
    return file.to_bytes()
