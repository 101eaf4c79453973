"""The list of what was written: what it states, and what it is when it was damaged."""

import io
import json
import os

import pytest

from segjax.output.folder import Outputs
from segjax.output.manifest import NAME, Manifest, folded


def listed(folder, name, content):
    """Lists and writes a file."""
    manifest = Manifest(folder)
    manifest.own()
    (folder / name).write_bytes(content)
    with (folder / name).open("rb") as file:
        manifest.add(name, file)
    return folder / name


def test_what_was_written_is_known_until_it_is_changed(tmp_path):
    path = listed(tmp_path, "a.png", b"labels")
    assert Manifest(tmp_path).knows(path)
    path.write_bytes(b"corrected")
    assert not Manifest(tmp_path).knows(path)
    assert not Manifest(tmp_path).knows(tmp_path / "b.png")


def test_earlier_content_is_known_as_long_as_it_lies_there(tmp_path):
    path = listed(tmp_path, "a.png", b"first")
    with io.BufferedRandom(io.FileIO(tmp_path / "aside", "x+")) as file:
        file.write(b"second")
        Manifest(tmp_path).add("a.png", file)
    assert path.read_bytes() == b"first"
    assert Manifest(tmp_path).knows(path)
    os.replace(tmp_path / "aside", path)
    assert Manifest(tmp_path).knows(path)


def test_the_same_content_is_listed_once(tmp_path):
    for _ in range(3):
        listed(tmp_path, "a.png", b"labels")
    assert len((tmp_path / NAME).read_bytes().splitlines()) == 2


def test_a_name_that_is_not_text_is_listed(tmp_path):
    name = os.fsdecode(b"\xff\n.png")
    path = listed(tmp_path, name, b"labels")
    assert Manifest(tmp_path).knows(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines, b'{"file": "b.png", "sha'],
        lambda lines: [lines[0], b"\xff\x00", b"[" * 100_000, *lines[1:]],
        lambda lines: [lines[0], b"3", b"{}", b'{"file": 1, "sha256": []}', *lines[1:]],
    ],
    ids=["cut short", "no JSON", "other JSON"],
)
def test_damaged_lines_count_for_nothing_and_the_others_are_read(tmp_path, damage):
    path = listed(tmp_path, "a.png", b"labels")
    lines = (tmp_path / NAME).read_bytes().splitlines()
    (tmp_path / NAME).write_bytes(b"\n".join(damage(lines)))
    assert Manifest(tmp_path).knows(path)
    other = listed(tmp_path, "c.png", b"more")  # on a line of its own
    assert Manifest(tmp_path).knows(other)
    assert Manifest(tmp_path).is_ours


def foreign_text(path, content):
    path.write_bytes(b"mine")


def foreign_link(path, content):
    (path.parent / "target").write_bytes(content)
    path.symlink_to("target")


def foreign_pipe(path, content):
    os.mkfifo(path)


@pytest.mark.parametrize("foreign", [foreign_text, foreign_link, foreign_pipe])
def test_something_else_in_its_place_makes_nothing_known(tmp_path, foreign):
    path = listed(tmp_path, "a.png", b"labels")
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).unlink()
    foreign(tmp_path / NAME, content)
    manifest = Manifest(tmp_path)
    assert not manifest.is_ours
    assert not manifest.knows(path)


def test_a_hard_link_of_it_is_not_written_through(tmp_path):
    path = listed(tmp_path, "a.png", b"labels")
    os.link(tmp_path / NAME, tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    listed(tmp_path, "b.png", b"more")
    assert (tmp_path / "backup").read_bytes() == before
    assert Manifest(tmp_path).knows(path)


def test_lines_are_json(tmp_path):
    listed(tmp_path, "a.png", b"labels")
    rows = [json.loads(x) for x in (tmp_path / NAME).read_text().splitlines()]
    assert rows[0] == {"written_by": "segjax"}
    assert rows[1]["file"] == "a.png"
    assert len(rows[1]["sha256"]) == 64


def test_names_of_one_file_on_some_disk_are_folded_alike():
    assert folded("A.PNG") == folded("a.png")
    assert folded("\u00e9.png") == folded("e\u0301.png") == folded("E\u0301.png")
    assert folded("a.png") != folded("b.png")


def test_what_was_brought_back_after_a_command_was_complete_is_not_known(tmp_path):
    for content in (b"first", b"second"):
        path = listed(tmp_path, "a.png", content)
        manifest = Manifest(tmp_path)
        manifest.complete()
    assert Manifest(tmp_path).knows(path)
    path.write_bytes(b"first")
    assert not manifest.knows(path)
    assert not Manifest(tmp_path).knows(path)


def test_what_is_written_again_is_known_although_it_is_listed_from_before(tmp_path):
    for content in (b"first", b"second", b"first"):
        path = listed(tmp_path, "a.png", content)
    Manifest(tmp_path).complete()
    assert Manifest(tmp_path).knows(path)


def test_a_disk_that_takes_half_a_line_is_full(tmp_path, monkeypatch):
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, line: write(file, line[:-5]))
        with pytest.raises(OSError, match="No space left"):
            listed(tmp_path, "a.png", b"labels")
    path = listed(tmp_path, "a.png", b"labels")
    assert Manifest(tmp_path).knows(path)


def test_a_name_stays_listed_whoever_changed_the_file(tmp_path):
    outputs = Outputs(tmp_path, [("plate/a.png", "a.png")])
    outputs.make_folder()
    with outputs.file("plate/a.png") as file:
        file.write(b"x")
    path = tmp_path / "plate" / "a.png"
    path.write_bytes(b"corrected")
    manifest = Manifest(tmp_path)
    assert manifest.lists(path)
    assert not manifest.knows(path)
    assert not manifest.lists(tmp_path / "a.png")
