"""Damage to files: bits, cuts, blocks, lies of headers, types, nesting.

Each mutator takes random numbers and bytes and returns other bytes. Those that know a
format mend its checksums and lengths afterwards, as a hostile writer would, so that the
lie reaches the reader behind them.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Mutator = Callable[[np.random.Generator, bytes], bytes]

EDGES = (0, 1, 2, 255, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
"""Numbers at which sizes, counts and offsets go wrong."""

NUMBERS = (
    *EDGES, -1, -(2**31), -(2**63), 2**64, 10**400, 0.5, -0.0, 1e9, 1e18, -1e300, 1e308,
    math.nan, math.inf, -math.inf,
)  # fmt: skip

_DEEP = "@DEEP@"
VALUES = (
    *NUMBERS, None, True, False, "", "1", "1.5", "nan", "\0", "a\nb\x1b[31m", "\ud800",
    "../../../etc/passwd", "x" * 4000, [], {}, [[]], [None], {"a": {}}, _DEEP,
)  # fmt: skip
"""What stands in JSON where something else belongs."""


def pick(rng: np.random.Generator, things: Any) -> Any:
    """One of a sequence, as it is."""
    return things[int(rng.integers(len(things)))]


def place(rng: np.random.Generator, data: bytes) -> int:
    """A position, three times in four one that holds no zero: files are padded."""
    filled = np.flatnonzero(np.frombuffer(data, np.uint8))
    if len(filled) and rng.random() < 0.75:
        return int(pick(rng, filled))
    return int(rng.integers(max(1, len(data))))


def bits(rng: np.random.Generator, data: bytes) -> bytes:
    """Flips some bits."""
    out = bytearray(data or b"\0")
    for _ in range(int(rng.integers(1, 9))):
        out[place(rng, data)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def cut(rng: np.random.Generator, data: bytes) -> bytes:
    """Keeps the start alone."""
    return data[: int(rng.integers(len(data)))] if data else data


def blocks(rng: np.random.Generator, data: bytes) -> bytes:
    """Deletes, doubles, exchanges, inserts or overwrites a block."""
    at, size = place(rng, data), int(2 ** rng.integers(0, 10))
    block, rest = data[at : at + size], data[at + size :]
    noise = rng.integers(0, 256, size, np.uint8).tobytes()
    middle = pick(
        rng, (b"", block * 2, rest[:size] + block, noise + block, noise, bytes(size))
    )
    return data[:at] + middle + rest


def lies(rng: np.random.Generator, data: bytes) -> bytes:
    """Writes a number of the edges over another, mostly near the start."""
    size = int(pick(rng, (1, 2, 4, 8)))
    number = int(pick(rng, EDGES)) % 256**size
    end = 64 if rng.random() < 0.5 else len(data)
    at = int(rng.integers(max(1, min(end, len(data)))))
    order = pick(rng, ("little", "big"))
    return data[:at] + number.to_bytes(size, order) + data[at + size :]


PLAIN: tuple[Mutator, ...] = (bits, cut, blocks, lies)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks, with their checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b))
        for n, b in chunks
    )


def png(rng: np.random.Generator, data: bytes) -> bytes:
    """Takes a PNG's chunks apart, and mends the checksums."""
    chunks = _chunks(data)
    i = int(rng.integers(len(chunks)))
    name, body = chunks[i]
    what = int(rng.integers(6))
    if name == b"IDAT" and what < 3:
        body = zlib.compress(pick(rng, PLAIN)(rng, zlib.decompress(body)))
    elif what < 4:
        body = pick(rng, (bits, lies))(rng, body)
    chunks[i] = (name, body)
    if what == 4:
        chunks.insert(int(rng.integers(len(chunks) + 1)), chunks[i])
    elif what == 5:
        chunks.pop(i)
    return png_of(chunks)


def cut_rows(rng: np.random.Generator, data: bytes) -> bytes:
    """Takes the last rows out of a PNG, all checksums of which are right."""
    chunks = _chunks(data)
    pixels = zlib.decompress(b"".join(b for n, b in chunks if n == b"IDAT"))
    rest = [c for c in chunks if c[0] not in (b"IDAT", b"IEND")]
    rows = (b"IDAT", zlib.compress(cut(rng, pixels)))
    return png_of([*rest, rows, (b"IEND", b"")])


class _Tiff:
    """Where the pages of a TIFF are, their links and their tags."""

    def __init__(self, data: bytes):
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = data[2:4] in (b"+\0", b"\0+")
        self.offset, count, entry = ("Q", "Q", 20) if self.big else ("I", "H", 12)
        head = struct.calcsize(count)
        self.pages: list[int] = []
        self.links = [8 if self.big else 4]
        self.tags: list[int] = []
        (at,) = struct.unpack_from(self.order + self.offset, data, self.links[0])
        while at and at not in self.pages:
            self.pages.append(at)
            (tags,) = struct.unpack_from(self.order + count, data, at)
            self.tags += [at + head + i * entry for i in range(tags)]
            self.links.append(at + head + tags * entry)
            (at,) = struct.unpack_from(self.order + self.offset, data, self.links[-1])

    def put(self, data: bytes, form: str, at: int, number: int) -> bytes:
        out = bytearray(data)
        struct.pack_into(
            self.order + form, out, at, number % 256 ** struct.calcsize(form)
        )
        return bytes(out)


def tiff(rng: np.random.Generator, data: bytes) -> bytes:
    """Lies in a tag of a TIFF's page, or in what links its pages."""
    file = _Tiff(data)
    if rng.random() < 0.2:
        target = pick(rng, (*file.pages, 0, 1, len(data) - 1, len(data), 2**31))
        return file.put(data, file.offset, pick(rng, file.links), int(target))
    where = int(pick(rng, (0, 2, 4, 8 + 4 * file.big, 8 + 4 * file.big)))
    number = int(pick(rng, (*EDGES, int(rng.integers(400)))))
    form = "H" if where < 4 else file.offset
    return file.put(data, form, pick(rng, file.tags) + where, number)


def cut_tiles(rng: np.random.Generator, data: bytes) -> bytes:
    """Takes the last strips or tiles of a page out of the lists of them."""
    file = _Tiff(data)
    lists = [t for t in file.tags if _tag(file, data, t) in (273, 279, 324, 325)]
    i = 2 * int(rng.integers(len(lists) // 2))
    (count,) = struct.unpack_from(file.order + file.offset, data, lists[i] + 4)
    fewer = int(rng.integers(count))
    for tag in lists[i : i + 2]:
        data = file.put(data, file.offset, tag + 4, fewer)
    return data


def _tag(file: _Tiff, data: bytes, at: int) -> int:
    return struct.unpack_from(file.order + "H", data, at)[0]


def cut_pages(rng: np.random.Generator, data: bytes) -> bytes:
    """Ends the chain of pages early, where a description says how many there are."""
    file = _Tiff(data)
    if len(file.pages) < 2 or not (b"ImageJ=" in data or b"<OME" in data):
        return cut(rng, data)
    return file.put(data, file.offset, pick(rng, file.links[1:-1]), 0)


def loop(rng: np.random.Generator, data: bytes) -> bytes:
    """Lets the last page be followed by one of those before."""
    file = _Tiff(data)
    return file.put(data, file.offset, file.links[-1], pick(rng, file.pages))


def npz(rng: np.random.Generator, data: bytes) -> bytes:
    """Damages an array within the archive, whose checksums are right afterwards."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = pick(rng, sorted(members))
    members[chosen] = pick(rng, (*PLAIN, _npy_header))(rng, members[chosen])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in members.items():
            archive.writestr(zipfile.ZipInfo(name), body)
    return out.getvalue()


def _npy_header(rng: np.random.Generator, data: bytes) -> bytes:
    shape = pick(rng, ("(4294967296, 65536)", "(-1,)", "(2, None)", "(1e9,)", "'x'"))
    kind = pick(rng, ("'<f4'", "'|O'", "'<U999999999'", "'<M8[s]'", "[('a', '<f4')]"))
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return data[:8] + struct.pack("<H", len(text)) + text + data[128:]


def pth(rng: np.random.Generator, data: bytes) -> bytes:
    """Damages the pickle within the archive, whose checksums are right afterwards."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = next(name for name in members if name.endswith("data.pkl"))
    members[chosen] = pick(rng, (*PLAIN, instructions))(rng, members[chosen])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in members.items():
            archive.writestr(zipfile.ZipInfo(name), body)
    return out.getvalue()


def instructions(rng: np.random.Generator, data: bytes) -> bytes:
    """Puts an instruction of pickles between others, or in the place of some."""
    number = int(pick(rng, EDGES)).to_bytes(9, "little")
    codes = (b"(", b")", b"]", b"}", b"N", b"R", b"Q", b"b", b"t", b"\x85", b"u", b"e")
    codes += (
        b"h\0",
        b"\x8a\x09" + number,
        b"cos\nsystem\n",
        b"\x93",
        b"X" + number[:4],
    )
    start = place(rng, data)
    return data[:start] + pick(rng, codes) + data[start + int(rng.integers(4)) :]


def safetensors(rng: np.random.Generator, data: bytes) -> bytes:
    """Damages the JSON at the start, whose length is right afterwards."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json_values(rng, data[8 : 8 + size])
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def json_values(
    rng: np.random.Generator, data: bytes, values: tuple[Any, ...] = VALUES
) -> bytes:
    """Puts other values, types, lengths and depths into JSON."""
    root = [json.loads(data)]
    for _ in range(int(rng.integers(1, 4))):
        spots = _spots(root)
        holder, key = pick(rng, spots)
        what = int(rng.integers(8))
        if what < 5 or values is NUMBERS:
            holder[key] = pick(rng, values)
        elif what == 5:
            other, its = pick(rng, spots)
            holder[key] = other[its]
        elif what == 6 and holder is not root:
            del holder[key]
        elif isinstance(holder, list):
            holder[key : key + 1] = [holder[key]] * int(pick(rng, (2, 3, 300)))
        else:
            holder[str(key) + "x"] = holder.pop(key)
        try:
            text = json.dumps(root[0])
        except (ValueError, RecursionError):  # what holds itself
            return b"[" * 100_000
    deep = "[" * 100_000 + "]" * int(pick(rng, (0, 100_000)))
    return text.replace(f'"{_DEEP}"', deep).encode("utf-8", "surrogatepass")


def _spots(root: list[Any]) -> list[tuple[Any, Any]]:
    """Every place in nested lists and dicts at which a value stands."""
    found: list[tuple[Any, Any]] = []
    todo: list[Any] = [root]
    while todo and len(found) < 2000:
        holder = todo.pop()
        keys = holder.keys() if isinstance(holder, dict) else range(len(holder))
        for key in list(keys):
            found.append((holder, key))
            if isinstance(holder[key], list | dict) and holder[key] is not holder:
                todo.append(holder[key])
    return found


def json_numbers(rng: np.random.Generator, data: bytes) -> bytes:
    """Puts other numbers into JSON, and nothing but numbers."""
    return json_values(rng, data, NUMBERS)


def json_lines(rng: np.random.Generator, data: bytes) -> bytes:
    """Damages one line of JSON."""
    rows = data.splitlines()
    i = int(rng.integers(len(rows)))
    rows[i] = json_values(rng, rows[i])
    return b"\n".join(rows) + b"\n"


def lines(rng: np.random.Generator, data: bytes) -> bytes:
    """Doubles, drops, joins or swaps lines and words; other encodings and separators."""
    rows = data.splitlines(keepends=True) or [b"\n"]
    i, j = (int(rng.integers(len(rows))) for _ in range(2))
    word = pick(
        rng, (b"", b"\0", b"a\x1b[2Jb", b'"', b"\xff\xfe", b"../..", b"x" * 9999)
    )
    what = int(rng.integers(8))
    if what == 0:
        rows.insert(j, rows[i])
    elif what == 1:
        rows.pop(i)
    elif what == 2:
        rows[i], rows[j] = rows[j], rows[i]
    elif what == 3:
        rows[i] = rows[i].replace(pick(rng, (b",", b" ", b"\n", b"a")), word)
    elif what == 4:
        rows[i] = word + rows[i]
    elif what == 5:
        return (
            b"".join(rows).decode("latin-1").encode(pick(rng, ("utf-16", "utf-8-sig")))
        )
    elif what == 6:
        return b"".join(rows).replace(b",", pick(rng, (b";", b"\t", b" ")))
    else:
        return b"".join(rows).replace(b"\n", pick(rng, (b"\r", b"\r\n", b"\n\n", b"")))
    return b"".join(rows)


OF_KIND: dict[str, tuple[Mutator, ...]] = {
    "bytes": PLAIN,
    "png": (*PLAIN, png, png, png, cut_rows),
    "tiff": (*PLAIN, tiff, tiff, tiff, cut_tiles, cut_pages, loop),
    "npz": (*PLAIN, npz, npz),
    "pth": (*PLAIN, pth, pth, pth),
    "pickle": (*PLAIN, instructions, instructions),
    "safetensors": (*PLAIN, safetensors, safetensors),
    "json": (bits, cut, blocks, *(json_values,) * 9),
    "numbers": (json_numbers,),
    "jsonl": (*PLAIN, json_lines, json_lines, json_lines, lines),
    "text": (*PLAIN, lines, lines, lines),
}
"""What is done to a file, by how it can be taken apart."""


def damaged(
    rng: np.random.Generator, kind: str, data: bytes, other: bytes
) -> tuple[str, bytes]:
    """Damages a file once, sometimes twice, or joins it with another.

    Args:
      rng: all that chance decides.
      kind: key of `OF_KIND`.
      data: the file.
      other: a file of the same kind.

    Returns:
      What was done, and the damaged file.
    """
    if kind != "numbers" and rng.random() < 0.05:
        return "splice", cut(rng, data) + other[place(rng, other) :]
    chosen = pick(rng, OF_KIND[kind])
    out = chosen(rng, data)
    if chosen in PLAIN[:1] + PLAIN[2:] and rng.random() < 0.3:
        again = pick(rng, PLAIN)
        return f"{chosen.__name__}+{again.__name__}", again(rng, out)
    return chosen.__name__, out
