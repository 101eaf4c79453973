"""The folder of a run: its lock, its config, and what keeps from writing it."""

import json
import os

import pytest

from segjax.errors import UserError
from segjax.training.run_files.workdir import (
    lock,
    make_workdir,
    read_config,
    write_config,
    write_or_check_config,
)
from segjax.training.run_files.writer import Writer


def test_a_lock_is_free_again_after_its_holder(tmp_path):
    with (
        lock(tmp_path),
        pytest.raises(UserError, match="Another process"),
        lock(tmp_path),
    ):
        pass
    with lock(tmp_path):
        pass


def test_a_lock_that_cannot_be_opened_is_a_sentence(tmp_path):
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(UserError, match=r"cannot be written .*directory"),
        lock(tmp_path),
    ):
        pass


def test_config_is_written_whole(tmp_path, smoke):
    write_config(tmp_path, smoke)
    assert read_config(tmp_path).to_dict() == smoke.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_config_that_cannot_be_written_is_a_sentence(tmp_path, smoke):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_config(tmp_path, smoke)


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "metrics.jsonl", "checkpoints", "checkpoints/2"),
        *("tensorboard", "pictures"),
    ],
)
def test_a_link_in_the_place_of_what_is_written_is_named(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / name).parent.mkdir(parents=True)
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"run/{name} is a link, through which nothing"):
        make_workdir(tmp_path / "run")
    (tmp_path / "link").symlink_to("other")
    (tmp_path / "other").mkdir()
    make_workdir(tmp_path / "link")


def test_links_at_the_names_of_partial_files_are_not_written_through(tmp_path, smoke):
    for name in (".lock", "config.partial", "metrics.partial"):
        (tmp_path / f"precious{name}").write_bytes(b"precious")
        (tmp_path / name).symlink_to(f"precious{name}")
    with lock(tmp_path):
        write_or_check_config(tmp_path, smoke)
        Writer(tmp_path).close()
    assert {path.read_bytes() for path in tmp_path.glob("precious*")} == {b"precious"}
    assert read_config(tmp_path).to_dict() == smoke.to_dict()
    assert not (tmp_path / "metrics.jsonl").is_symlink()


def test_the_log_of_a_copy_of_hard_links_is_a_file_of_its_own(tmp_path):
    Writer(tmp_path).close()
    (tmp_path / "copy").mkdir()
    os.link(tmp_path / "metrics.jsonl", tmp_path / "copy/metrics.jsonl")
    writer = Writer(tmp_path / "copy")
    writer.write(1, "train", {"loss": 1.0})
    writer.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir=.*file/run cannot be written"):
        make_workdir(tmp_path / "file" / "run")


@pytest.mark.parametrize("there", [[], ["config.json"], ["checkpoints/7/"]])
def test_a_log_that_no_run_has_written_is_refused(tmp_path, smoke, there):
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else write_config(
            tmp_path, smoke
        )
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1, "accuracy": 0.9}\n')
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError, match=r"metrics\.jsonl is not the log of .* Move it"):
        make_workdir(tmp_path)
    assert sorted(os.listdir(tmp_path)) == before
    (tmp_path / "metrics.jsonl").rename(tmp_path / "mine.jsonl")  # as it was advised
    make_workdir(tmp_path)


def test_a_pipe_in_the_place_of_a_log_or_a_config_is_not_waited_for(tmp_path, smoke):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=r"metrics\.jsonl is not the log of a run"):
        make_workdir(tmp_path)
    os.mkfifo(tmp_path / "config.json")
    for use in (read_config, lambda workdir: write_or_check_config(workdir, smoke)):
        with pytest.raises(UserError, match=r"config\.json is missing"):
            use(tmp_path)
    with pytest.raises(UserError, match=r"cannot be written \(it is a pipe"):
        write_config(tmp_path, smoke)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff\xfe", b"3", b"\x80", b'{"a.b": 1}', b"[" * 100_000),
        b'{"a":' * 600 + b"1" + b"}" * 600,
    ],
    ids=lambda content: str(content[:9]),
)
def test_a_damaged_config_without_checkpoints_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json.* No checkpoint keeps a copy"):
        read_config(tmp_path)


def test_a_config_with_a_wrong_key_or_type_is_reported_with_its_file(tmp_path, smoke):
    write_config(tmp_path, smoke)
    path = tmp_path / "config.json"
    whole = json.loads(path.read_text())
    for key, value, sentence in (
        ("model", 3, r"config\.model is 3; it must be a group"),
        ("seed", "x", r"config\.seed must be an integer"),
        ("modell", {}, 'unknown key "modell"'),
    ):
        path.write_text(json.dumps(whole | {key: value}))
        with pytest.raises(UserError, match=rf"config\.json: .*{sentence}"):
            read_config(tmp_path)


def test_a_config_with_a_byte_order_mark_is_read(tmp_path, smoke):
    write_config(tmp_path, smoke)
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_config(tmp_path).to_dict() == smoke.to_dict()


def test_fewer_steps_than_were_saved_are_refused(tmp_path, smoke):
    write_or_check_config(tmp_path, smoke)
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    before = (tmp_path / "config.json").read_bytes()
    smoke.num_steps = 6
    with pytest.raises(UserError, match=r"num_steps is 6, .* checkpoint of step 7"):
        write_or_check_config(tmp_path, smoke)
    assert (tmp_path / "config.json").read_bytes() == before
    smoke.num_steps = 7
    write_or_check_config(tmp_path, smoke)
    assert json.loads((tmp_path / "config.json").read_text())["num_steps"] == 7


def test_values_of_the_crf_may_change_as_training_does_not_know_them(tmp_path, smoke):
    write_or_check_config(tmp_path, smoke)
    smoke.crf = {"w1": 5.0}
    write_or_check_config(tmp_path, smoke)
    assert read_config(tmp_path).crf.w1 == 5.0
    smoke.crf.w1 = 3.0
    write_or_check_config(tmp_path, smoke)
    assert read_config(tmp_path).crf.w1 == 3.0
