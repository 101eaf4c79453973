"""Copies of remote folders: what travels, in which order, and what is left as it is."""

import pytest

from segjax.errors import UserError
from segjax.remote import mirror as mirror_lib
from segjax.remote.mirror import Mirror
from segjax.remote.store import Store


@pytest.fixture
def sent(monkeypatch):
    """Names of objects in the order in which they are written and removed."""
    monkeypatch.setattr(mirror_lib, "_TRANSFERS", 1)
    names = []
    for method in ("send", "remove"):
        own = getattr(Store, method)

        def noted(self, *arguments, own=own, method=method):
            names.append((method, arguments[-1]))
            return own(self, *arguments)

        monkeypatch.setattr(Store, method, noted)
    return names


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def checkpoint(folder, step, content="arrays"):
    for name, text in (("state/0", content), ("about/metadata", "{}")):
        path = folder / "checkpoints" / str(step) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files_of(folder):
    return sorted(
        x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file()
    )


def test_what_is_copied_there_is_copied_back(store, tmp_path):
    write(tmp_path, **{"config.json": "{}", "pictures__a.png": "picture"})
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "checkpoints/3.orbax-checkpoint-tmp/x").write_text("not yet")
    (tmp_path / ".lock").write_text("")
    Mirror(store, tmp_path).push()
    again = tmp_path / "again"
    assert Mirror(store, again).fetch() == 2
    assert files_of(again) == ["config.json", "pictures/a.png"]
    assert (again / "pictures/a.png").read_text() == "picture"


def test_only_what_has_changed_travels(store, tmp_path, sent):
    write(tmp_path, a="1", b="2")
    mirror = Mirror(store, tmp_path)
    mirror.push()
    sent.clear()
    mirror.push()
    assert sent == []
    write(tmp_path, b="longer")
    mirror.push()
    assert sent == [("send", "b")]


def test_the_seal_of_a_checkpoint_comes_last_and_goes_first(store, tmp_path, sent):
    checkpoint(tmp_path, 1)
    mirror = Mirror(store, tmp_path)
    mirror.push()
    checkpoint(tmp_path, 2)
    for path in sorted((tmp_path / "checkpoints/1").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    mirror.push()
    one, two = "checkpoints/1", "checkpoints/2"
    assert sent == [
        ("send", f"{one}/state/0"),
        ("send", f"{one}/about/metadata"),
        ("send", f"{two}/state/0"),  # the new one is there before the old one goes
        ("send", f"{two}/about/metadata"),
        ("remove", f"{one}/about/metadata"),
        ("remove", f"{one}/state/0"),
    ]


def test_of_a_checkpoint_that_is_being_removed_the_seal_goes_first(
    store, tmp_path, sent
):
    checkpoint(tmp_path, 1)
    mirror = Mirror(store, tmp_path)
    mirror.push()
    sent.clear()
    (tmp_path / "checkpoints/1/state/0").unlink()  # and the seal is still there
    mirror.push()
    assert [name for _, name in sent] == [
        "checkpoints/1/about/metadata",
        "checkpoints/1/state/0",
    ]


def test_what_a_killed_save_left_takes_nothing_with_it(store, tmp_path):
    store.write("checkpoints/2/state/of_before", b"half")
    mirror = Mirror(store, tmp_path)
    mirror.fetch()
    checkpoint(tmp_path, 2)
    mirror.push()
    assert sorted(store.entries()) == files_of(tmp_path)


def test_a_checkpoint_without_its_seal_is_left_out_and_then_removed(store, tmp_path):
    checkpoint(tmp_path / "one", 1)
    Mirror(store, tmp_path / "one").push()
    store.write("checkpoints/2/state/0", b"half")  # its writer was killed
    mirror = Mirror(store, tmp_path / "two")
    mirror.fetch()
    assert files_of(tmp_path / "two") == [
        "checkpoints/1/about/metadata",
        "checkpoints/1/state/0",
    ]
    mirror.push()
    assert sorted(store.entries()) == files_of(tmp_path / "two")


def test_what_others_add_meanwhile_is_left_alone(store, tmp_path):
    mirror = Mirror(store, tmp_path)
    mirror.fetch()
    store.write("notes.txt", b"mine")
    write(tmp_path, a="1")
    mirror.push()
    assert sorted(store.entries()) == ["a", "notes.txt"]


@pytest.mark.parametrize("there", [False, True])
def test_what_others_write_meanwhile_is_not_replaced(store, tmp_path, there):
    if there:
        store.write("a", b"1")
    mirror = Mirror(store, tmp_path)
    mirror.fetch()
    store.write("a", b"theirs")
    write(tmp_path, a="ours, longer")
    with pytest.raises(UserError, match="memory://bucket/run/a was written by others"):
        mirror.push_carefully()
    assert store.read("a") == b"theirs"


def test_results_replace_what_was_there_before(store, tmp_path):
    store.write("a", b"1")
    mirror = Mirror(store, tmp_path)
    mirror.fetch()
    write(tmp_path, a="ours", b="new")
    mirror.push_carefully()
    assert (store.read("a"), store.read("b")) == (b"ours", b"new")


def test_names_of_files_are_not_those_of_folders_or_lead_out():
    for names in (["../x"], ["a/../../x"], ["a//b"], ["a\\b"], ["a", "a/b"]):
        with pytest.raises(UserError, match="cannot be copied to a file of that name"):
            mirror_lib._check_names(names, "s3://bucket/run")
    mirror_lib._check_names(["a/b..c", "a/b", "ab"], "s3://bucket/run")


def test_what_is_never_copied_is_never_removed_either(store, tmp_path):
    names = {".lock/1", ".locked_by_me", "a/.partial-x", "checkpoints/3.x"}
    for name in names:
        store.write(name, b"")
    mirror = Mirror(store, tmp_path)
    mirror.fetch()
    mirror.push()
    assert set(store.entries()) == names
