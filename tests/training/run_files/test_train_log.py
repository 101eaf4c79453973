"""train.log: the lines that a terminal shows of a run."""

import contextlib
import io
import logging
import sys

import pytest

from segjax.errors import UserError
from segjax.training.progress import Progress
from segjax.training.run_files.train_log import TrainLog

log = logging.getLogger("segjax")


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


def lines(folder):
    return (folder / "train.log").read_text().splitlines()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_lines_are_kept_as_they_are_shown(tmp_path, monkeypatch, caplog, stream):
    caplog.set_level(logging.INFO, "segjax")
    shown = stream()
    monkeypatch.setattr(sys, "stderr", shown)
    with TrainLog() as kept:
        log.info("Model %s", "unet")  # before the folder is known
        kept.open(tmp_path)
        progress = Progress(2)
        progress.update(1)
        progress.say("step 1/2  validation: mean_iou 0.5")
        progress.update(2)
        print("a warning", file=sys.stderr)
    log.info("Another run")
    assert sys.stderr is shown
    assert "a warning" in shown.getvalue()
    found = lines(tmp_path)
    assert found[0].startswith("--- 20")
    assert found[1:3] == ["Model unet", "step 1/2  validation: mean_iou 0.5"]
    assert found[-1].endswith("a warning")
    assert not any("\x1b" in line or "Another" in line for line in found)


def test_a_resumed_run_adds_to_it_and_its_end_is_told(tmp_path):
    with TrainLog() as kept:
        kept.open(tmp_path)
    with contextlib.suppress(UserError), TrainLog() as kept:
        kept.open(tmp_path)
        raise UserError("The loss is not finite.")
    found = lines(tmp_path)
    assert [line.startswith("--- ") for line in found] == [True, True, False]
    assert found[-1] == "The loss is not finite."


def test_warnings_are_shown_where_nobody_has_set_up_logging(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(log, "handlers", [])
    with TrainLog() as kept:
        kept.open(tmp_path)
        log.warning("Look at this.")
    assert "Look at this." in capsys.readouterr().err
    assert lines(tmp_path)[1:] == ["Look at this."]


def test_nothing_is_written_before_the_folder_is_held(tmp_path):
    with pytest.raises(UserError), TrainLog():
        raise UserError("There is no such data set.")
    assert list(tmp_path.iterdir()) == []
