"""What a compiled program needs, read from the compiler's own figures and its text."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

ITEMSIZE = {
    **{"pred": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1},
    **{"s16": 2, "u16": 2, "f16": 2, "bf16": 2},
    **{"s32": 4, "u32": 4, "f32": 4},
    **{"s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16},
}
"""Bytes of an element, by XLA's name of its type; others count as nothing."""

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)

COSTLY = (
    *("convolution", "dot", "fusion", "custom-call", "while", "conditional"),
    *("sort", "scatter", "gather", "select-and-scatter", "reduce-window", "copy"),
    *("transpose", "rng-bit-generator"),
)
"""Operators that are counted."""

_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([0-9,]*)\](?:\{([^{}]*)\})?")
"""An array of XLA's text: its type, its sizes, and how it lies in memory."""
_OPERATION = re.compile(
    r"^\s*(?:ROOT )?%?[\w.-]+ = (.+?) ([a-z][a-z-]*)\(", re.MULTILINE
)
"""A line of XLA's text: what comes out of which operator."""
_TILE = re.compile(r":T\((\d+),(\d+)\)")
_HOST = ("infeed", "outfeed", "send", "recv")
_NO_BUFFER = frozenset(
    {"parameter", "bitcast", "tuple", "get-tuple-element", "constant", "after-all"}
)
"""Operators whose result lies where another's does."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def memory_of(analysis: Any) -> dict[str, int]:
    """The memory of a program on each device, in bytes.

    Args:
      analysis: of `jax.stages.Compiled.memory_analysis`.

    Returns:
      `arguments` (with those that are donated), `outputs` (without what lies in donated
      arguments), `temporaries`, `program`; `peak`, their sum, and `live`, the most of it that
      is in use at once, where the compiler counts it.
    """
    found = {
        "arguments": int(analysis.argument_size_in_bytes),
        "outputs": int(analysis.output_size_in_bytes - analysis.alias_size_in_bytes),
        "temporaries": int(analysis.temp_size_in_bytes),
        "program": int(analysis.generated_code_size_in_bytes),
    }
    live = int(getattr(analysis, "peak_memory_in_bytes", 0))
    return {**found, "peak": sum(found.values()), "live": live}


def lacking_memory(sentence: str) -> int | None:
    """The bytes that a compiler wanted, of its sentence about too little memory.

    Args:
      sentence: of its error.

    Returns:
      Bytes a device; None where it is about something else.

    Example:
      >>> lacking_memory("Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm.")
      22011707392
    """
    found = re.search(r"Used ([0-9.]+)([KMGT]?) of \S+ hbm", sentence)
    return None if found is None else int(float(found[1]) * _UNITS[found[2]])


def collectives_in(text: str) -> dict[str, dict[str, int]]:
    """The communication between devices: how often, and how many bytes come out of it.

    Args:
      text: of the compiled program.

    Returns:
      `count` and `bytes` of each kind that there is.

    Example:
      >>> collectives_in("  %a = (f32[8]{0}, bf16[2,4]{1,0}) all-reduce(%x, %y), to_apply=%add")
      {'all-reduce': {'count': 1, 'bytes': 48}}
    """
    found: dict[str, dict[str, int]] = {}
    for shape, operator in _OPERATION.findall(text):
        # What is begun by one operator and ended by another is counted where it ends.
        name = operator.removesuffix("-done")
        if name in COLLECTIVES:
            row = found.setdefault(name, {"count": 0, "bytes": 0})
            row["count"] += 1
            row["bytes"] += sum(_sizes(*array)[0] for array in _ARRAY.findall(shape))
    return found


def operators_in(text: str) -> dict[str, int]:
    """How often each costly operator is in a program.

    Args:
      text: of the compiled program.

    Returns:
      Counts of those of `COSTLY` that there are.
    """
    counts = collections.Counter(name for _, name in _OPERATION.findall(text))
    return {name: counts[name] for name in COSTLY if counts[name]}


def gathered_in(
    text: str, parameters: Collection[tuple[int, ...]] = ()
) -> list[tuple[int, ...]]:
    """The arrays that devices gather from each other, but for divided parameters.

    Args:
      text: of the compiled program.
      parameters: shapes of those that are divided among devices, and gathered for use.

    Returns:
      The shapes of others, of images and maps, as they are after it.

    Example:
      >>> text = "  %a = (f32[8,2]{1,0}, f32[9,4]{1,0}) all-gather(%x, %y), dimensions={0}"
      >>> gathered_in(text, [(2, 1, 8)])
      [(9, 4)]
    """
    # The compiler is free to turn a kernel round, or to drop sides of 1.
    form = lambda shape: tuple(sorted(side for side in shape if side > 1))
    known = {form(shape) for shape in parameters}
    shapes = [
        tuple(int(side) for side in sides.split(",") if side)
        for found, operator in _OPERATION.findall(text)
        if operator.removesuffix("-done") == "all-gather"
        for _, sides, _ in _ARRAY.findall(found)
    ]
    return [shape for shape in shapes if form(shape) not in known]


def unexpected_in(text: str, parameters: Collection[tuple[int, ...]] = ()) -> list[str]:
    """What ought not to be in a step of training on an accelerator.

    Args:
      text: of the compiled program.
      parameters: shapes of those that are divided among devices, and gathered for use.

    Returns:
      A few words on each: float64, the host, state or maps that are gathered.

    Example:
      >>> unexpected_in("  %a = f64[8]{0} add(%x, %y)")
      ['1 operators in float64']
    """
    operations = _OPERATION.findall(text)
    names = collections.Counter(name for _, name in operations)
    doubles = sum("f64[" in shape for shape, _ in operations)
    calls = len(re.findall(r'custom_call_target="[^"]*(?:callback|host)[^"]*"', text))
    host = calls + sum(names[name] for name in _HOST)
    found = {
        "operators in float64": doubles,
        "transfers from or to the host": host,
        "all-gathers": len(gathered_in(text, parameters)),
        "all-to-alls": names["all-to-all"],
    }
    return [f"{count} {what}" for what, count in found.items() if count]


def padding_in(text: str) -> float | None:
    """The fraction of the memory of results that is padding, on a TPU.

    A TPU keeps the last two axes of an array, as it lies in memory, in tiles such as 8 x 128:
    a map of 64 channels takes the room of 128.

    Args:
      text: of the compiled program.

    Returns:
      In [0, 1), over the results of the program's own operators; None where nothing is tiled.

    Example:
      >>> padding_in("ENTRY %main {\\n  %a = bf16[9,64]{1,0:T(8,128)(2,1)} copy(%x)\\n}")
      0.71875
    """
    _, _, entry = (
        text.partition("\nENTRY ") if not text.startswith("ENTRY ") else ("", "", text)
    )
    logical = physical = 0
    tiled = False
    for shape, operator in _OPERATION.findall(entry):
        if operator in _NO_BUFFER:
            continue
        for array in _ARRAY.findall(shape):
            size, padded = _sizes(*array)
            logical, physical = logical + size, physical + padded
            tiled |= ":T(" in array[2]
    return 1 - logical / physical if tiled and physical else None


def _sizes(dtype: str, sides: str, layout: str) -> tuple[int, int]:
    """The bytes of an array, and those of its room in memory."""
    shape = [int(side) for side in sides.split(",") if side]
    item = ITEMSIZE.get(dtype, 0)
    logical = item * math.prod(shape)
    tile, order = _TILE.search(layout), layout.partition(":")[0]
    if tile is None or len(shape) < 2 or not order:
        return logical, logical
    for axis, step in zip(
        map(int, order.split(",")), (int(tile[2]), int(tile[1])), strict=False
    ):
        shape[axis] = -(-shape[axis] // step) * step
    return logical, item * math.prod(shape)


def report_of(
    compiled: Any, parameters: Collection[tuple[int, ...]] = ()
) -> dict[str, Any]:
    """Reads all figures of a compiled program.

    Args:
      compiled: a `jax.stages.Compiled`.
      parameters: shapes of those that are divided among devices.

    Returns:
      JSON, of one device: `memory` (`memory_of`), `flops`, `bytes_accessed` and
      `seconds_estimated` (null where the compiler does not count them), `collectives`,
      `operators`, `unexpected`, `padding`.
    """
    costs: Mapping[str, float] = compiled.cost_analysis() or {}
    text = compiled.as_text()
    known = lambda name: costs.get(name) if costs.get(name, 0) > 0 else None
    return {
        "memory": memory_of(compiled.memory_analysis()),
        "flops": known("flops"),
        "bytes_accessed": known("bytes accessed"),
        "seconds_estimated": known("optimal_seconds"),
        "collectives": collectives_in(text),
        "operators": operators_in(text),
        "unexpected": unexpected_in(text, parameters),
        "padding": padding_in(text),
    }
