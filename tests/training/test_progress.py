"""Progress: a bar on a terminal, lines elsewhere."""

import io

import pytest

from segjax.training import progress
from segjax.training.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_where_there_is_no_terminal(clock):
    stream = io.StringIO()
    bar = Progress(10, 4, stream)
    bar.update(5)
    clock[0] += 4.0
    bar.update(7)
    bar.note(7, {"loss": "0.1235"})
    bar.say("hello")
    bar.close()
    assert stream.getvalue() == (
        "step 7/10  loss 0.1235  0.50 steps/s, 6 s left\nhello\n"
    )


def test_who_only_counts_says_a_line_every_few_seconds(clock):
    stream = io.StringIO()
    bar = Progress(100, 0, stream, unit="pages")
    for page in range(1, 100):
        bar.update(page)
        clock[0] += 0.5
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "pages 22/100  2.00 pages/s, 39 s left"


def test_a_bar_on_a_terminal(clock):
    stream = Terminal()
    bar = Progress(4, 0, stream)
    bar.update(1)
    bar.note(1, {"loss": 0.5})
    clock[0] += 1.0
    bar.update(2)
    text = stream.getvalue()
    assert "\r\x1b[2K" in text
    assert "█" * 12 + "░" * 12 + " 2/4 loss 0.5 1.00 steps/s, 2 s left" in text
    assert "\n" not in text
    bar.say("above")
    assert stream.getvalue().endswith("\r\x1b[2Kabove\n")


def test_a_bar_is_not_redrawn_all_the_time(clock):
    stream = Terminal()
    bar = Progress(1000, 0, stream)
    for step in range(1, 100):
        clock[0] += 0.01
        bar.update(step)
    assert stream.getvalue().count("\r") < 8


def test_the_last_step_is_always_shown(clock):
    stream = Terminal()
    bar = Progress(3, 0, stream)
    for step in (1, 2, 3):
        bar.update(step)
    assert "3/3" in stream.getvalue()


def test_time_left_counts_from_the_resumed_step(clock):
    stream = io.StringIO()
    bar = Progress(1000, 900, stream)
    bar.update(901)
    clock[0] += 10.0
    bar.note(911, {})
    assert "1.00 steps/s, 1 min 29 s left" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (3661, "1 h 1 min")],
)
def test_durations_are_written_for_people(seconds, text):
    assert duration(seconds) == text
