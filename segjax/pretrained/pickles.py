"""The few instructions of a pickle that named tensors need; nothing is called or imported.

A pickle is a program: its instructions push values, and may name functions to call. Here
names are only compared with a list, and what they would make is made by our own code.
Everything else is refused. Format: https://docs.python.org/3/library/pickletools.html,
protocol 2, which is what PyTorch writes.
"""

from __future__ import annotations

import collections
import struct
from collections.abc import Callable
from typing import IO, Any

from segjax.pretrained.pth_tensors import (
    NOWHERE,
    STORAGES,
    NotTensorsError,
    Storage,
    Tensor,
)

MOST_INSTRUCTIONS = 1_000_000
"""A tensor takes some 50, and each makes at most some hundred bytes."""

MOST_WAITING = 10_000
"""Values on the stack. Pickles put a thousand pairs at a time into a dict."""

LONGEST_TEXT = 1 << 20
LONGEST_NAME = 200


class _Mark:
    """What the instruction MARK leaves on the stack."""


class _Named:
    """A name from the list: of a function, a class, or a kind of storage."""

    def __init__(self, name: str):
        self.name = name


_MARK = _Mark()


def read_pickle(file: IO[bytes]) -> tuple[Any, dict[str, Storage]]:
    """Reads one pickle of numbers, texts, containers, and tensors.

    Args:
      file: at the start of the pickle; it is left behind its end.

    Returns:
      The value, each tensor as a `Tensor`, whose numbers are not read; and the storages
      of all tensors by their keys.

    Raises:
      NotTensorsError: if it holds something else.
      ValueError: if it is damaged, or larger than tensors make it.
    """
    machine = _Machine(file)
    for _ in range(MOST_INSTRUCTIONS):
        code = machine.take(1)
        if code == b".":
            found = machine.pop()
            if machine.stack:
                raise ValueError("its pickle ends too early")
            return found, machine.storages
        if code not in _INSTRUCTIONS:
            kind = NotTensorsError if code in _OF_OTHERS else ValueError
            raise kind(f"its pickle has an instruction {code!r}")
        try:
            _INSTRUCTIONS[code](machine)
        except TypeError:  # too few or too many arguments
            raise ValueError("its pickle makes something in another way") from None
        if len(machine.stack) > MOST_WAITING:
            raise ValueError("its pickle nests or collects too much")
    raise ValueError(f"its pickle has more than {MOST_INSTRUCTIONS:,} instructions")


class _Machine:
    """The stack and the memo of a pickle that is being read."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def take(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) != count:
            raise ValueError("its pickle is cut off")
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        found = self._file.readline(LONGEST_NAME)
        if not found.endswith(b"\n"):
            raise ValueError("a name in its pickle does not end")
        return found[:-1].decode("ascii")

    def text(self, count: int) -> str:
        if count > LONGEST_TEXT:
            raise ValueError(f"a text in its pickle claims {count:,} bytes")
        return self.take(count).decode("utf-8", "surrogatepass")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, kind: type | tuple[type, ...] = object) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("its pickle takes a value that is not there")
        found = self.stack.pop()
        if not isinstance(found, kind):
            raise ValueError(f"its pickle has {_kind(found)} in a wrong place")
        return found

    def pop_marked(self) -> list[Any]:
        """Takes the values above the last mark, and the mark."""
        for i in reversed(range(len(self.stack))):
            if self.stack[i] is _MARK:
                found = self.stack[i + 1 :]
                del self.stack[i:]
                return found
        raise ValueError("its pickle takes a mark that is not there")

    def tuple_of(self, count: int) -> None:
        self.push(tuple([self.pop() for _ in range(count)][::-1]))

    def append(self, items: list[Any]) -> None:
        target = self.pop(list)
        target.extend(items)
        self.push(target)

    def set_items(self, items: list[Any]) -> None:
        target = self.pop(dict)
        for name, value in zip(items[::2], items[1::2], strict=True):
            if type(name) not in (
                str,
                int,
            ):  # what else has a hash may take long for it
                raise NotTensorsError(f"{_kind(name)} as a name")
            if name in target:
                raise ValueError(f'it holds "{name}" twice')
            target[name] = value
        self.push(target)

    def name(self) -> None:
        name = f"{self.line()}.{self.line()}"
        if name not in STORAGES and name not in _MADE:
            raise NotTensorsError(name)
        self.push(_Named(name))

    def make(self) -> None:
        """Makes what a call of a name on the list would make."""
        arguments, named = self.pop(tuple), self.pop(_Named)
        if named.name not in _MADE:
            raise NotTensorsError(f"a call of {named.name}")
        self.push(_MADE[named.name](*arguments))

    def build(self) -> None:
        """Leaves out the attributes of a value, as the metadata of a state dict."""
        state = self.pop((dict, tuple))
        target = self.pop((collections.OrderedDict, Tensor))
        if isinstance(target, Tensor) and target.storage is NOWHERE:
            target.look(*state)
        self.push(target)

    def persistent(self) -> None:
        """Takes the description of a storage."""
        found = self.pop(tuple)
        if (
            len(found) not in (5, 6)
            or found[0] != "storage"
            or found[5:]
            not in (
                (),
                (None,),
            )
        ):
            raise NotTensorsError("a reference to something else than a storage")
        _, named, key, _, size = found[:5]
        if not isinstance(named, _Named) or named.name not in STORAGES:
            raise NotTensorsError(f"a storage that is {_kind(named)}")
        if type(key) is not str or type(size) is not int or size < 0:
            raise ValueError("a storage has no key or no size")
        storage = Storage(key, STORAGES[named.name], size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} has two types or two sizes")
        self.push(storage)

    def get(self, place: int) -> None:
        if place not in self.memo:
            raise ValueError("its pickle looks up a value that is not there")
        self.push(self.memo[place])

    def put(self, place: int) -> None:
        self.memo[place] = self.pop()
        self.push(self.memo[place])


def _kind(value: Any) -> str:
    return value.name if isinstance(value, _Named) else type(value).__name__


def _ordered_dict(*items: Any) -> collections.OrderedDict[Any, Any]:
    if items not in ((), ([],)):  # PyTorch fills it afterwards
        raise NotTensorsError("collections.OrderedDict of values")
    return collections.OrderedDict()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    # The rest is whether it has a gradient, its hooks, and whether it is conjugated.
    if len(rest) > 3 or any(rest[2:]):
        raise NotTensorsError("a tensor that is not plain")
    return Tensor().look(storage, offset, shape, strides)


def _parameter(tensor: Any, *rest: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise NotTensorsError(f"a parameter that is {_kind(tensor)}")
    return tensor


def _size(sizes: Any) -> tuple[Any, ...]:
    if not isinstance(sizes, tuple | list):
        raise ValueError("a torch.Size is not of numbers")
    return tuple(sizes)


_MADE: dict[str, Callable[..., Any]] = {
    **{name.replace("Storage", "Tensor"): Tensor for name in STORAGES},
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.nn.parameter.Parameter": _parameter,
}
"""Names that may be called, and what takes their place."""


def _integer(machine: _Machine) -> None:
    machine.push(
        int.from_bytes(machine.take(machine.number("B")), "little", signed=True)
    )


_OF_OTHERS = (b"i", b"o", b"P", b"\x82", b"\x83", b"\x84", b"\x92", b"\x93")
"""Instructions that name, make or refer to something, in ways that PyTorch does not use."""

_INSTRUCTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: _require_protocol(m.number("B")),
    b"(": lambda m: m.push(_MARK),
    b")": lambda m: m.push(()),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": _integer,
    b"G": lambda m: m.push(m.number(">d")),
    b"X": lambda m: m.push(m.text(m.number("<I"))),
    b"T": lambda m: m.push(m.text(m.number("<I"))),
    b"U": lambda m: m.push(m.text(m.number("B"))),
    b"t": lambda m: m.push(tuple(m.pop_marked())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.pop_marked()),
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.pop_marked()),
    b"h": lambda m: m.get(m.number("B")),
    b"j": lambda m: m.get(m.number("<I")),
    b"q": lambda m: m.put(m.number("B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"c": _Machine.name,
    b"R": _Machine.make,
    b"\x81": _Machine.make,
    b"b": _Machine.build,
    b"Q": _Machine.persistent,
}
"""The instructions, by their codes; texts of Python 2 are among them."""


def _require_protocol(version: int) -> None:
    if version != 2:
        raise NotTensorsError(f"a pickle of protocol {version}, where PyTorch writes 2")
