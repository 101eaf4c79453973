"""Files of PyTorch: what is read without it, and that nothing in them ever runs."""

import importlib.util
import pickle
import re
import runpy
import struct
import tracemalloc
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from segjax.errors import UserError
from segjax.pretrained.files import read_state

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
made = types.SimpleNamespace(**runpy.run_path(str(HERE / "pth_files.py")))
FORMS = ("zip", "older")


def equal_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        kind = "bfloat16" if name == "bfloat16" else array.dtype
        assert (found[name].dtype, found[name].shape) == (kind, array.shape)
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_what_pytorch_wrote_is_read_bit_for_bit(form):
    with np.load(GOLDEN / "pth.npz") as expected:
        equal_bits(read_state(GOLDEN / f"pth_{form}.pth"), dict(expected))


@pytest.mark.parity
@pytest.mark.parametrize("form", FORMS)
def test_what_pytorch_writes_today_is_read_bit_for_bit(form, tmp_path):
    import torch

    place = GOLDEN / "make_pth.py"
    spec = importlib.util.spec_from_file_location("make_pth", place)
    make_pth = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_pth)
    state = make_pth.state_dict()
    new = {"_use_new_zipfile_serialization": form == "zip"}
    torch.save(state, tmp_path / "a.pth", **new)
    equal_bits(read_state(tmp_path / "a.pth"), make_pth.arrays(state))

    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    weights = layer.state_dict()
    whole = {"model": weights, "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(whole, tmp_path / "b.pth", **new)
    found = read_state(tmp_path / "b.pth")
    equal_bits(found, {name: x.numpy() for name, x in weights.items()})
    torch.save(list(layer.parameters()), tmp_path / "c.pth", **new)
    with pytest.raises(UserError, match=r"\(list, not tensors by name\)"):
        read_state(tmp_path / "c.pth")
    for value, sentence in (
        (torch.eye(3).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.ones(3, device="meta"), "_rebuild_meta_tensor_no_storage"),
        (torch.ones(1).expand(10**6, 10**6), "in the same place"),
        (torch.ones(2, dtype=torch.complex64).conj(), "not plain"),
        (layer, "Linear"),
    ):
        torch.save({"a": value}, tmp_path / "d.pth", **new)
        with pytest.raises(UserError, match=sentence):
            read_state(tmp_path / "d.pth")


@pytest.mark.parametrize("form", [made.new_form, made.older_form])
def test_tensors_as_the_oldest_versions_wrote_them_are_read(form, tmp_path):
    one = made.several(made.number(1))
    described = (made.storage(), made.number(0), one, one)
    tensor = made.call("torch.FloatTensor") + made.several(*described) + b"b"
    given = made.several(b"\x88", b"\x89", b"N")
    parameter = made.call("torch.nn.parameter.Parameter", tensor) + given + b"b"
    plain = made.call("torch._utils._rebuild_tensor", *described)
    path = tmp_path / "a.pth"
    path.write_bytes(form(made.state(tensor, parameter, plain)))
    found = read_state(path)
    zeros = np.zeros(1, np.float32)
    equal_bits(found, {"w0": zeros, "w1": zeros, "w2": zeros})
    assert not found["w0"].flags.writeable


def test_texts_of_python_2_are_names(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(made.new_form(made.pickled(b"}U\x01a" + made.tensor() + b"s")))
    assert read_state(path).keys() == {"a"}


RUN = made.text("touch ran")
STATE = made.state(made.tensor())
DOUBLED = b")q\x00" + b"h\x00\x86q\x00" * 100


def changed(raw, old, new, last=False):
    """Replaces bytes, which are there."""
    place = raw.rindex(old) if last else raw.index(old)
    return raw[:place] + new + raw[place + len(old) :]


def encrypted(raw):
    """Sets the flag of encryption in the directory's first entry."""
    place = raw.index(b"PK\x01\x02") + 8
    return raw[:place] + b"\x01" + raw[place + 1 :]


def overlapping():
    """A directory in which the two storages are one member."""
    both = made.state(made.tensor(), made.tensor(made.storage("1")))
    members = [("data.pkl", both), ("data/0", bytes(4000)), ("data/1", bytes(4000))]
    raw = made.zipped(*members)
    directory = raw.index(b"PK\x01\x02")
    return raw[: raw.index(b"archive/data/1") - 30] + changed(
        raw[directory:],
        struct.pack("<I", directory),
        struct.pack("<I", directory - 4044),
    )


PICKLES = {
    "os.system by REDUCE": (made.call("os.system", RUN), r"os\.system"),
    "posix.system": (made.call("posix.system", RUN), r"posix\.system"),
    "eval of Python 2": (made.call("__builtin__.eval", RUN), r"__builtin__\.eval"),
    "getattr": (made.call("builtins.getattr", RUN), r"builtins\.getattr"),
    "a class": (made.call("torch.nn.modules.linear.Linear"), r"linear\.Linear"),
    "PyTorch's loader": (made.call("torch.storage._load_from_bytes"), "from_bytes"),
    "a longer name": (made.call("collections.OrderedDict.fromkeys"), "fromkeys"),
    "STACK_GLOBAL": (made.text("os") + made.text("system") + b"\x93", "instruction"),
    "INST": (b"(" + RUN + b"ios\nsystem\n", "instruction b'i'"),
    "OBJ": (b"(" + RUN + b"o", "instruction b'o'"),
    "NEWOBJ": (made.name("subprocess.Popen") + made.several(RUN) + b"\x81", "Popen"),
    "NEWOBJ_EX": (b")}\x92", "instruction"),
    "BUILD of a class": (made.name("os.environ") + b"}b", r"os\.environ"),
    "BUILD of a dict": (b"}}b", "dict in a wrong place"),
    "EXT1": (b"\x82\x01", "instruction"),
    "PERSID": (b"Pos.system\n", "instruction b'P'"),
    "a module by BINPERSID": (
        made.several(made.text("module"), b"N", b"N") + b"Q",
        "something else than a storage",
    ),
    "a storage of another class": (
        made.storage(kind="torch.Size"),
        r"a storage that is torch\.Size",
    ),
    "a storage that is called": (made.call("torch.FloatStorage"), "a call of"),
    "a dict that is given values": (
        made.call("collections.OrderedDict", made.several(RUN)),
        "OrderedDict of values",
    ),
    "deep lists": (b"]" * 20_000 + b"a" * 19_999, "nests or collects too much"),
    "marks": (b"(" * 20_000, "nests or collects too much"),
    "tuples that double": (DOUBLED, 'holds tuple under "w0"'),
    "tuples in tuples": (b")" + b"\x85" * 50_000, 'holds tuple under "w0"'),
    "a name that doubles": (b"}" + DOUBLED + b"Ns", "tuple as a name"),
    "a place of the memo": (b"j\xff\xff\xff\xff", "looks up a value"),
    "a text of 4 GB": (b"X\xff\xff\xff\xff", "claims 4,294,967,295 bytes"),
    "an empty stack": (b"\x87", "not there"),
    "no mark": (b"t", "a mark that is not there"),
    "two arguments": (made.call("torch._utils._rebuild_tensor", b"N", b"N"), "way"),
    "a name twice": (b"}(" + 2 * (made.text("a") + b"N") + b"u", 'holds "a" twice'),
    "a tensor without numbers": (made.call("torch.FloatTensor"), "holds Tensor under"),
    "10^12 floats": (
        made.tensor(made.storage(size=10**12), shape=(10**12,)),
        "claim to hold 4,000,000,000,000",
    ),
    "numbers that are not there": (
        made.tensor(made.storage(size=9)),
        "where 36 belong",
    ),
    "a storage outside": (
        made.tensor(made.storage("../data.pkl")),
        "it has no archive",
    ),
    "a storage of -1": (made.tensor(made.storage(size=-1)), "no size"),
    "two types of a storage": (
        made.several(made.storage(), made.storage(kind="torch.IntStorage")),
        "two types",
    ),
    "a tensor beyond": (made.tensor(shape=(2,)), "beyond the 1 values"),
    "an offset beyond": (made.tensor(offset=1), "beyond the 1 values"),
    "an offset of -1": (made.tensor(offset=-1), "not a number from 0"),
    "a size of -1": (made.tensor(shape=(-1,)), "not a number from 0"),
    "a stride of -1": (made.tensor(strides=(-1,)), "not a number from 0"),
    "a stride of 0": (made.tensor(shape=(9,), strides=(0,)), "in the same place"),
    "strides that overlap": (
        made.tensor(made.storage(size=9), shape=(2, 3), strides=(2, 1)),
        "in the same place",
    ),
    "a stride too few": (made.tensor(shape=(1, 1)), "2 sizes and 1 strides"),
    "99 axes": (made.tensor(shape=(1,) * 99, strides=(1,) * 99), "99 sizes"),
    "a huge axis": (made.tensor(shape=(0, 2**62), strides=(1, 1)), "big|large"),
}

FILES = {
    "protocol 4": (made.new_form(made.pickled(b"}", 4)), "protocol 4"),
    "a pickle that is cut": (made.new_form(STATE[:-1]), "cut off"),
    "two pickles": (made.new_form(STATE + STATE), "more than one pickle"),
    "a list": (made.new_form(made.pickled(b"]")), "list, not tensors by name"),
    "numbers as names": (
        made.new_form(made.pickled(b"}K\x00Ns")),
        "not tensors by name",
    ),
    "no data.pkl": (made.zipped(("data/0", b"")), "no data.pkl"),
    "two data.pkl": (
        made.zipped(("a/data.pkl", STATE), ("b/data.pkl", STATE), folder=""),
        "no data.pkl, or several",
    ),
    "TorchScript": (
        made.zipped(("data.pkl", STATE), ("constants.pkl", STATE)),
        "TorchScript",
    ),
    "big-endian": (
        changed(made.new_form(STATE), b"little", b"big..."),
        "big-endian|CRC",
    ),
    "a wrong checksum": (
        made.new_form(STATE, b"1234").replace(b"1234", b"4321"),
        "CRC",
    ),
    "a cut archive": (made.new_form(STATE)[:-9], "not a whole"),
    "encryption": (encrypted(made.new_form(STATE)), "encrypted"),
    "a bomb": (
        made.new_form(STATE, bytes(1 << 28), compression=zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "one member twice": (overlapping(), "larger than it|verlap"),
    "another magic number": (
        made.older_form(STATE, magic=made.MAGIC.replace(b"\x19", b"\x18")),
        "neither form",
    ),
    "older, big-endian": (made.older_form(STATE, little=False), "big-endian"),
    "older, other storages": (made.older_form(STATE, keys=("1",)), "list of storages"),
    "older, keys that double": (
        made.older_form(STATE, listed=made.pickled(b"]" + DOUBLED + b"a")),
        "list of storages",
    ),
    "older, a storage twice": (made.older_form(STATE, keys=("0", "0")), "list of"),
    "older, another size": (
        made.older_form(STATE, data=struct.pack("<q", 2**62) + bytes(4)),
        "another size",
    ),
    "older, cut": (made.older_form(STATE)[:-1], "where"),
    "older, more behind": (made.older_form(STATE) + b"\0", "where"),
    "older, os.system": (
        made.older_form(made.state(made.call("os.system", RUN))),
        r"os\.system",
    ),
    "older, in the first pickle": (
        made.MAGIC[:-1] + made.call("os.system", RUN) + b".",
        r"os\.system",
    ),
    "a tar archive": (bytes(257) + b"ustar" + bytes(250), "oldest form"),
    "Python's own pickle": (pickle.dumps({"a": 1}, 2), "neither form"),
}

HOSTILE = {
    **{k: (made.new_form(made.state(v)), x) for k, (v, x) in PICKLES.items()},
    **FILES,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_one_sentence_and_run_nothing(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw, sentence = HOSTILE[case]
    path = tmp_path / "weights.pth"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read_state(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path} ")
    assert re.search(sentence, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert peak < 1 << 25
    assert [found.name for found in tmp_path.iterdir()] == ["weights.pth"]


def test_a_pickle_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("segjax.pretrained.pickles.MOST_INSTRUCTIONS", 1000)
    path = tmp_path / "a.pth"
    path.write_bytes(made.new_form(made.pickled(b"]" + b"Na" * 600)))
    with pytest.raises(UserError, match="more than 1,000 instructions"):
        read_state(path)


@pytest.mark.parametrize("form", FORMS)
def test_each_flipped_byte_is_a_sentence_or_other_values(form, tmp_path):
    whole = (GOLDEN / f"pth_{form}.pth").read_bytes()
    path = tmp_path / "a.pth"
    rng = np.random.default_rng(0)
    refused = 0
    places = rng.choice(len(whole), 60, replace=False)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_state(path)
        except UserError:
            refused += 1
    assert refused > len(places) / 3
