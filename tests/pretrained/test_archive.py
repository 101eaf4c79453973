"""Archives of one model: written and read back; damaged and malicious ones are refused."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from segjax.errors import UserError
from segjax.pretrained.archive import (
    CARD,
    CONFIG,
    DIGESTS,
    LARGEST,
    MODEL,
    WEIGHTS,
    read_archive,
    write_archive,
)

MEMBERS = {CARD: b"# A model\n", CONFIG: b"{}", MODEL: b"[1]", WEIGHTS: bytes(300)}


def whole() -> bytes:
    file = io.BytesIO()
    write_archive(file, MEMBERS)
    return file.getvalue()


def digests(members: dict[str, bytes]) -> bytes:
    lines = (f"{hashlib.sha256(x).hexdigest()}  {n}\n" for n, x in members.items())
    return "".join(lines).encode()


def packed(
    members: dict[str, bytes],
    change: Callable[[zipfile.ZipInfo], object] = lambda member: None,
    comment: bytes = b"",
    again: str = "",
) -> bytes:
    """An archive with right digests, each of whose members was changed first."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = comment
        for name, content in {**members, DIGESTS: digests(members)}.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            change(member)
            archive.writestr(member, content)
        if again:
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr(again, b"{}")
    return file.getvalue()


def renamed(name: str) -> bytes:
    """The config has another name."""
    return packed({name if n == CONFIG else n: x for n, x in MEMBERS.items()})


def with_mode(mode: int) -> bytes:
    def change(member: zipfile.ZipInfo) -> None:
        if member.filename == CONFIG:
            member.external_attr = mode << 16

    return packed(MEMBERS, change)


def bomb() -> bytes:
    """A card of 20 MB in a few kB."""
    members = MEMBERS | {CARD: bytes(20_000_000)}
    return packed(members, lambda x: setattr(x, "compress_type", zipfile.ZIP_DEFLATED))


def replaced(old: bytes, new: bytes) -> bytes:
    raw = whole()
    assert old in raw
    return raw.replace(old, new)


def encrypted() -> bytes:
    """The flags of the config say so, where it lies and in the list of members."""
    raw = bytearray(whole())
    for mark, flags, name in ((b"PK\3\4", 6, 30), (b"PK\1\2", 8, 46)):
        at = next(
            i
            for i in range(len(raw))
            if raw[i : i + 4] == mark and raw[i + name :].startswith(CONFIG.encode())
        )
        raw[at + flags] |= 1
    return bytes(raw)


def overlapping() -> bytes:
    """The list of members sends to the config for the model, too."""
    raw = bytearray(whole())
    entries = [i for i in range(len(raw)) if raw[i : i + 4] == b"PK\1\2"]
    config, model = entries[1], entries[2]
    raw[model + 42 : model + 46] = raw[config + 42 : config + 46]
    return bytes(raw)


def claiming(count: int, length: int) -> bytes:
    """The last record claims a list of so many members and bytes."""
    raw = bytearray(whole())
    struct.pack_into("<2HL", raw, len(raw) - 14, count, count, length)
    return bytes(raw)


DAMAGED = {
    "empty": (lambda: b"", "it has 0 bytes"),
    "an image": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(90), "does not end as a model"),
    "a pointer of git-LFS": (lambda: b"version https://git-lfs\n", "git-LFS pointer"),
    "cut": (lambda: whole()[:-200], "does not end as a model"),
    "without its beginning": (lambda: whole()[40:], "not a whole model file"),
    "bytes after the end": (lambda: whole() + b"more", "does not end as a model"),
    "bytes before the beginning": (
        lambda: b"#!/bin/sh\n" + whole(),
        "its members make",
    ),
    "a comment": (lambda: packed(MEMBERS, comment=b"x" * 9), "does not end as a model"),
    "an extra field": (
        lambda: packed(MEMBERS, lambda x: setattr(x, "extra", b"\0\1\4\0abcd")),
        "5 members, which are not",
    ),
    "a changed weight": (lambda: replaced(bytes(300), bytes(299) + b"\1"), WEIGHTS),
    "a changed config": (
        lambda: packed(MEMBERS).replace(digests(MEMBERS)[:20], b"0" * 20),
        DIGESTS,
    ),
    "an absolute path": (lambda: renamed("/onfig.json"), "where README.md, config"),
    "a path out of the folder": (lambda: renamed("../fig.json"), "where README.md"),
    "another member": (lambda: renamed("config.yaml"), "where README.md, config"),
    "a member missing": (
        lambda: packed({n: x for n, x in MEMBERS.items() if n != CARD}),
        "4 members",
    ),
    "a member more": (lambda: packed(MEMBERS | {"run.py": b""}), "6 members"),
    "a member twice": (lambda: packed(MEMBERS, again=CONFIG), "6 members"),
    "a member twice, another missing": (
        lambda: packed({n: x for n, x in MEMBERS.items() if n != MODEL}, again=CONFIG),
        "5 members, which are not",
    ),
    "a symbolic link": (lambda: with_mode(stat.S_IFLNK | 0o777), "is a link"),
    "a folder": (lambda: with_mode(stat.S_IFDIR | 0o755), "is a link or a folder"),
    "a bomb": (bomb, "README.md is compressed"),
    "a huge config": (
        lambda: packed(MEMBERS | {CONFIG: bytes(LARGEST[CONFIG] + 1)}),
        "config.json has 1,048,577 bytes",
    ),
    "encrypted": (encrypted, "config.json is encrypted"),
    "two members in one place": (overlapping, "not a whole model file"),
    "a claim of many members": (lambda: claiming(60_000, 10**9), "60000 members"),
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cells.segjax"
    path.write_bytes(whole())
    assert read_archive(path) == MEMBERS
    with zipfile.ZipFile(path) as archive:  # as `unzip` and `sha256sum --check` see it
        assert archive.read(DIGESTS) == digests(MEMBERS)


def test_the_same_model_is_the_same_file() -> None:
    assert (
        whole() == whole() == packed(MEMBERS, lambda x: setattr(x, "create_system", 3))
    )


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_or_malicious_archive_is_one_sentence(kind, tmp_path: Path) -> None:
    make, words = DAMAGED[kind]
    path = tmp_path / "cells.segjax"
    path.write_bytes(make())
    with pytest.raises(UserError) as caught:
        read_archive(path)
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")
    assert [x.name for x in tmp_path.iterdir()] == ["cells.segjax"]


@pytest.mark.parametrize("cut", range(0, len(whole()), 37))
def test_no_cut_is_taken_for_the_whole(cut: int, tmp_path: Path) -> None:
    (tmp_path / "cells.segjax").write_bytes(whole()[:cut])
    with pytest.raises(UserError, match=r"cells\.segjax"):
        read_archive(tmp_path / "cells.segjax")


def test_members_that_do_not_belong_there_are_not_written() -> None:
    with pytest.raises(ValueError, match="members must be"):
        write_archive(io.BytesIO(), MEMBERS | {"run.py": b""})
    with pytest.raises(ValueError, match=r"config\.json has 1,048,577 bytes"):
        write_archive(io.BytesIO(), MEMBERS | {CONFIG: bytes(LARGEST[CONFIG] + 1)})
