"""The log: rows, resuming, lines that were cut short."""

import json
import os

import pytest

from segjax.errors import UserError
from segjax.training.run_files.writer import Writer, read_rows


def test_rows_are_written_and_read(tmp_path):
    writer = Writer(tmp_path)
    writer.write(1, "train", {"loss": 0.5})
    writer.write(2, "validation", {"mean_iou": None, "x": float("nan")})
    writer.close()
    assert read_rows(tmp_path / "metrics.jsonl") == [
        {"step": 1, "split": "train", "loss": 0.5},
        {"step": 2, "split": "validation", "mean_iou": None, "x": None},
    ]
    assert list((tmp_path / "tensorboard").iterdir())


def test_each_row_is_on_disk_at_once(tmp_path):
    writer = Writer(tmp_path)
    writer.write(1, "train", {"loss": 0.5})
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 1
    writer.close()


def test_rows_after_the_step_of_a_resumed_run_are_dropped(tmp_path):
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        writer = Writer(tmp_path, resumed_from=start)
        for step in steps:
            writer.write(step, "train", {"loss": 10.0 * start + step})
        writer.close()
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [
        (1, 1.0),
        (2, 2.0),
        (3, 23.0),
        (4, 24.0),
    ]


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "split": "train"}\n{"step": 2, "spl')
    assert [row["step"] for row in read_rows(path)] == [1]
    Writer(tmp_path, resumed_from=1).close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1]


def test_lines_that_are_no_rows_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = b'{"step": 1, "split": "train"}'
    bad = (b'{"split": "train"}', b'{"step": 2}', b"3", b"[]", b"\xff{", b"")
    bad += (b'{"step": true, "split": "train"}', b"[" * 100_000)
    for value in (b'"3"', b"[]", b"{}", b"true", b"1" * 400, b"1" * 5000):
        bad += (b'{"step": 2, "split": "train", "loss": %b}' % value,)
    path.write_bytes(b"\n".join([*bad, good]))
    assert read_rows(path) == [{"step": 1, "split": "train"}]


def test_other_lines_than_those_of_later_steps_stay_byte_for_byte(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [b'{"step": 1,"split":"train","note": "mine"}', b"# mine", b"", b"\xff{\r"]
    lines += [b'{"split": "train"}', b"[" * 100_000, b'{"step": 2.0, "split": "train"}']
    later = [b'{"step": 3, "split": "train", "note": "x"}', b'{"step": 2.5}']
    path.write_bytes(b"\n".join([*later, *lines, b'{"step": 2, "spl']))
    Writer(tmp_path, resumed_from=2).close()
    assert path.read_bytes() == b"\n".join([*lines, b""])


def test_a_last_row_without_the_end_of_its_line_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "split": "train"}')
    Writer(tmp_path, resumed_from=1).close()
    assert path.read_bytes() == b'{"step": 1, "split": "train"}\n'


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(
        UserError, match=r"metrics\.jsonl cannot be read \(it is a pipe"
    ):
        read_rows(tmp_path / "metrics.jsonl")


def test_no_log_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_infinite_values_stay_out_of_tensorboard(tmp_path):
    writer = Writer(tmp_path)
    writer.write(1, "train", {"loss": float("inf")})
    writer.close()
    (row,) = read_rows(tmp_path / "metrics.jsonl")
    assert row["loss"] == pytest.approx(float("inf"))


def test_a_log_that_cannot_be_read_is_a_sentence(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be read \(Is a dir"):
        read_rows(tmp_path / "metrics.jsonl")
