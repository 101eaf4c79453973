"""Addresses where paths are taken: copied, written back, and never a local folder `gs:`."""

import logging
import time
from pathlib import Path

import pytest

from segjax.commands.process_flags import DISTRIBUTED
from segjax.commands.program import Program
from segjax.commands.shared_flags import PATHS
from segjax.errors import UserError
from segjax.main import VERBS
from segjax.output.files import require_writable, whole_file
from segjax.remote import copies, mirror
from segjax.remote import store as store_lib
from segjax.remote.address import is_remote, require_store
from segjax.remote.copies import to_read, to_train_in, to_write, with_copies
from segjax.runs import train as runs_train
from segjax.training import sharding

USED = [
    (verb, name)
    for verb in VERBS
    for name in PATHS
    if name in Program(VERBS).flags_of(verb)
]


@pytest.mark.parametrize(("verb", "name"), USED)
def test_no_verb_takes_an_address_for_a_local_path(
    main, tmp_path, monkeypatch, verb, name
):
    """Of a store that is not known; those that are known are asked for an answer."""
    monkeypatch.chdir(tmp_path)
    noun = verb.split()
    ended = main(*noun, f"--{name}=ftp://host/folder")
    assert ended.code == 1
    assert f"--{name}=ftp://host/folder is an address" in ended.sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cache_dir", "continue_from"])
def test_what_must_be_local_is_said_in_a_sentence(main, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    ended = main("train", "--config=unet_em:smoke", f"--{name}=gs://bucket/folder")
    assert ended.code == 1
    assert f"--{name}=gs://bucket/folder is an address, and here only" in ended.sentence
    assert list(tmp_path.iterdir()) == []


def test_python_makes_no_folder_of_a_scheme_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is an address"):
        require_writable(Path("gs://bucket/run"))
    with (
        pytest.raises(UserError, match="is an address"),
        whole_file(Path("gs://bucket/a")),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_addresses_are_remote():
    assert all(map(is_remote, ("gs://b/x", Path("gs://b/x"), "S3://b", "http://a")))
    assert not any(
        map(is_remote, ("runs/a", "C:/runs", "a:b", "/gs/b", None, "x:///y"))
    )
    with pytest.raises(UserError, match="names no bucket"):
        require_store("gs://", "--workdir")


def test_a_missing_package_is_named(memory, monkeypatch):
    def fail(*_, **__):
        raise ImportError("no module")

    monkeypatch.setattr(store_lib.fsspec, "filesystem", fail)
    with (
        pytest.raises(UserError, match=r"needs the Python package s3fs.*segjax\[s3\]"),
        to_read("s3://bucket/x", "--input"),
    ):
        pass


def test_a_store_that_does_not_answer_ends_in_a_sentence(memory, monkeypatch):
    monkeypatch.setattr(store_lib, "PATIENCE", 0.05)
    monkeypatch.setattr(store_lib, "_opened", lambda *_: time.sleep(1))
    with (
        pytest.raises(UserError, match=r"cannot be reached \(no answer within"),
        to_read(memory, "--input"),
    ):
        pass


def test_a_folder_is_read_and_its_copy_is_gone_afterwards(store, memory):
    store.write("a/b.txt", b"content")
    with to_read(memory, "--input") as folder:
        assert folder.name == "run"
        assert (folder / "a/b.txt").read_bytes() == b"content"
    assert not folder.exists()


def test_an_object_is_read_as_a_file_of_its_name(store, memory):
    store.write("a.segjax", b"model")
    with to_read(f"{memory}/a.segjax", "--model") as path:
        assert (path.name, path.read_bytes()) == ("a.segjax", b"model")


def test_nothing_there_is_said(memory):
    with (
        pytest.raises(UserError, match="--input=memory://bucket/run does not exist"),
        to_read(memory, "--input"),
    ):
        pass


def test_what_is_complete_is_written_back_also_after_an_error(store, memory):
    def work():
        with to_write(memory, "--output") as folder:
            (folder / "a").write_text("whole")
            raise UserError(f"{folder}/b cannot be written.")

    with pytest.raises(UserError) as caught:
        work()
    assert str(caught.value) == f"{memory}/b cannot be written."
    assert store.read("a") == b"whole"


def test_a_function_of_paths_takes_addresses(store, memory):
    store.write("in/a", b"1")

    @with_copies(read=["input"], write=["output"])
    def double(input, output, times=2):
        (Path(output) / "x").write_bytes((Path(input) / "a").read_bytes() * times)

    double(f"{memory}/in", output=f"{memory}/out", times=3)
    assert store.read("out/x") == b"111"


def test_paths_that_are_returned_lie_at_the_address(tmp_path):
    moved = {tmp_path / "out": "s3://bucket/out"}
    paths = [tmp_path / "out/a/x.tif", tmp_path / "in/y.tif"]
    found = copies._at_addresses(paths, moved)
    assert [str(x) for x in found] == ["s3://bucket/out/a/x.tif", str(paths[1])]
    assert copies._at_addresses({"step": 3}, moved) == {"step": 3}


def test_a_run_is_copied_back_and_its_lease_given_back(store, memory, caplog):
    caplog.set_level(logging.INFO, "segjax")
    with to_train_in(memory, "--workdir") as folder:
        (folder / "config.json").write_text("{}")
        logging.getLogger("segjax").info("Report: %s/report.html", folder)
    assert list(store.entries()) == ["config.json"]
    assert f"Report: {memory}/report.html" in caplog.text
    assert not folder.exists()


def test_what_cannot_be_copied_back_stays_here(store, memory, monkeypatch):
    def fail(self, *_):
        raise UserError("The store is gone.")

    folders = []

    def work():
        with to_train_in(memory, "--workdir") as folder:
            folders.append(folder)
            (folder / "config.json").write_text("{}")
            monkeypatch.setattr(copies.Store, "send", fail)

    with pytest.raises(UserError, match=r"The store is gone\. What was not") as caught:
        work()
    assert str(folders[0]) in str(caught.value)
    assert (folders[0] / "config.json").read_text() == "{}"


def test_a_process_that_lost_its_lease_is_stopped(store, memory, monkeypatch):
    signals = []
    monkeypatch.setattr(mirror, "RENEWED", 0.02)
    monkeypatch.setattr(mirror.os, "kill", lambda *x: signals.append(x))
    folders = []

    def work():
        with to_train_in(memory, "--workdir") as folder:
            folders.append(folder)
            (folder / "config.json").write_text("{}")
            store.write(".lock/2", b"{}")
            for _ in range(500):
                if signals:
                    break
                time.sleep(0.02)

    with pytest.raises(UserError, match="was taken over by another process"):
        work()
    assert len(signals) == 1
    assert (folders[0] / "config.json").exists()


def test_processes_on_several_machines_are_told_that_they_need_a_shared_folder(
    store, memory, monkeypatch
):
    monkeypatch.setattr(sharding, "gather_texts", lambda text: [text, "node8\n"])
    with (
        pytest.raises(UserError, match=r"on several machines \(.*, node8\)"),
        runs_train._copy_of(memory),
    ):
        pass
    assert list(store.entries()) == []


def test_distributed_is_a_flag_of_the_verbs_that_many_processes_share():
    program = Program(VERBS)
    users = {verb for verb in VERBS if DISTRIBUTED in program.flags_of(verb)}
    assert users == {"train", "evaluate", "predict"}
