"""Files of PyTorch made by hand, whole and hostile ones, without PyTorch."""

import io
import struct
import zipfile

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ONE = struct.pack("<q", 1) + bytes(4)
"""The number of values of a storage, and the values, in the older form."""

VERSION = b"\x80\x02M\xe9\x03."


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def several(*values):
    return b"(" + b"".join(values) + b"t"


def name(value):
    module, _, last = value.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def call(value, *arguments):
    return name(value) + several(*arguments) + b"R"


def storage(key="0", kind="torch.FloatStorage", size=1):
    described = (text("storage"), name(kind), text(key), text("cpu"), number(size))
    return several(*described) + b"Q"


def tensor(held=None, offset=0, shape=(1,), strides=(1,)):
    sizes = (several(*map(number, shape)), several(*map(number, strides)))
    held = storage() if held is None else held
    rest = (b"\x89", call("collections.OrderedDict"))
    return call("torch._utils._rebuild_tensor_v2", held, number(offset), *sizes, *rest)


def pickled(value, protocol=2):
    return bytes([0x80, protocol]) + value + b"."


def state(*values):
    """A state dict of "w0", "w1", ..."""
    pairs = b"".join(text(f"w{i}") + value for i, value in enumerate(values))
    return pickled(call("collections.OrderedDict") + b"(" + pairs + b"u")


def zipped(*members, folder="archive/", **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for member, content in members:
            archive.writestr(f"{folder}{member}", content)
    return buffer.getvalue()


def new_form(pickle, data=bytes(4), **options):
    members = (("data.pkl", pickle), ("byteorder", b"little"), ("data/0", data))
    return zipped(*members, **options)


def older_form(pickle, keys=("0",), data=ONE, magic=MAGIC, little=True, listed=None):
    order = b"}" + text("little_endian") + (b"\x88" if little else b"\x89") + b"s"
    listed = listed or pickled(b"](" + b"".join(map(text, keys)) + b"e")
    return magic + VERSION + pickled(order) + pickle + listed + data
