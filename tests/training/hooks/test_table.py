"""Hooks: who is told what, and what happens where one fails."""

import gzip
import json
import logging
import re
import sys
import types
from pathlib import Path

import jax
import ml_collections
import pytest

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.runs import train as runs_train
from segjax.runs.train import train
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop
from segjax.training.hooks import (
    EVENTS,
    Hook,
    Hooks,
    RunStart,
    check_hooks,
    make_hooks,
)
from segjax.training.hooks import table as hooks_lib

ROOT = Path(__file__).resolve().parents[3]


class Noted(Hook):
    """Notes what it is told, and fails in one of the events."""

    def __init__(self, fails_in=""):
        self.events, self.fails_in = [], fails_in

    def note(self, event, *arguments):
        self.events.append((event, *arguments))
        if event == self.fails_in:
            raise OSError("the server is gone")

    def on_start(self, run):
        self.note("on_start", run.step)

    def on_log(self, step, metrics):
        self.note("on_log", step, dict(metrics))

    def on_evaluate(self, step, split, metrics, pictures):
        self.note("on_evaluate", step, split, dict(metrics), pictures)

    def on_checkpoint(self, step, folder):
        self.note("on_checkpoint", step, (folder / "about" / "metadata").exists())

    def on_end(self, result):
        self.note("on_end", result)


class Half:
    def on_start(self, run):
        """All that it has."""


def started(tmp_path, step, **given):
    hooks = Hooks(given)
    hooks.start(RunStart(tmp_path, {}, step, 9))
    return hooks


def test_a_hook_that_fails_is_left_out_and_the_others_go_on(tmp_path, caplog):
    bad, good = Noted("on_log"), Noted()
    hooks = started(tmp_path, 0, bad=bad, good=good)
    with caplog.at_level(logging.WARNING, "segjax"):
        hooks.log(1, {"loss": 0.5})
        hooks.log(2, {"loss": 0.25})
        hooks.end(None)
    assert [event[0] for event in bad.events] == ["on_start", "on_log"]
    assert [event[0] for event in good.events] == [
        "on_start",
        "on_log",
        "on_log",
        "on_end",
    ]
    (record,) = caplog.records
    assert "bad fails in on_log and is left out from now on" in record.getMessage()
    assert "the server is gone" in record.getMessage()


def test_only_a_run_that_begins_ends_where_a_hook_cannot_start(tmp_path):
    with pytest.raises(UserError, match="bad fails in on_start: OSError: the server"):
        started(tmp_path, 0, bad=Noted("on_start"))
    good = Noted()
    first, last = Noted(), Noted()
    hooks = Hooks({"first": first, "bad": Noted("on_start"), "last": last})
    with pytest.raises(UserError, match="bad fails in on_start"):
        hooks.start(RunStart(tmp_path, {}, 0, 9))
    hooks.end(None)  # only what was started ends
    assert [event[0] for event in first.events] == ["on_start", "on_end"]
    assert last.events == []
    hooks = started(tmp_path, 4, bad=Noted("on_start"), good=good)
    hooks.log(5, {})
    assert [event[0] for event in good.events] == ["on_start", "on_log"]


def test_a_hook_that_was_not_started_is_told_nothing():
    hook = Noted()
    hooks = Hooks({"hook": hook})
    hooks.log(1, {})
    hooks.end(None)
    assert hook.events == []


def config_with(*hooks):
    return ml_collections.ConfigDict({"hooks": hooks})


def test_hooks_are_names_or_groups_also_as_json_has_them():
    given = config_with(f"{__name__}:Noted", {"name": f"{__name__}:Noted"})
    assert [type(hook).__name__ for hook in make_hooks(given).values()] == ["Noted"] * 2
    stored = config_lib.from_json(config_lib.to_json(given))
    with pytest.raises(UserError, match=r"config\.hooks\[0\].*--allow_code"):
        make_hooks(stored)
    allowed = config_lib.with_leave(stored, [__name__.partition(".")[0]])
    assert len(make_hooks(allowed)) == 2
    assert make_hooks(ml_collections.ConfigDict({})) == {}


@pytest.mark.parametrize("check", [check_hooks, make_hooks])
@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        (("wandbb",), r"config\.hooks\[0\]\.name is 'wandbb'.*Did you mean"),
        (({"name": f"{__name__}:Noted", "speed": 1},), 'unknown key "speed"'),
        ((3,), r"config\.hooks\[0\] is 3; it must be a group"),
        ((f"{__name__}:Half",), "which has no on_log: let it inherit"),
    ],
)
def test_hooks_that_cannot_be_are_refused(hooks, words, check):
    with pytest.raises(UserError, match=words):
        check(config_with(*hooks))


def test_hooks_are_checked_without_making_any(monkeypatch):
    monkeypatch.setattr(Noted, "__init__", lambda self: pytest.fail("made"))
    check_hooks(config_with(f"{__name__}:Noted"))


@pytest.mark.parametrize("hook", ["wandbb", "wandb"])
def test_a_hook_that_cannot_be_made_is_found_before_data_are_opened(
    hook, smoke, tmp_path, monkeypatch
):
    opened = lambda *_: pytest.fail("opened")
    monkeypatch.setattr(SemanticTask, "open_dataset", opened)
    monkeypatch.setitem(sys.modules, "wandb", None)
    smoke.hooks = (hook,)
    with pytest.raises(UserError, match=f'"?{hook}'):
        train(smoke, tmp_path / "run")


def test_one_name_is_not_a_tuple_of_names():
    with pytest.raises(UserError, match=r"config\.hooks is 'wandb': give a tuple"):
        make_hooks(ml_collections.ConfigDict({"hooks": "wandb"}))


def test_a_logger_without_its_package_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        UserError, match=r'hook "wandb" needs the package .* pip install'
    ):
        make_hooks(config_with("wandb"))


def test_all_hooks_of_the_table_have_all_methods():
    for hook in hooks_lib.HOOKS.values():
        assert all(callable(getattr(hook, event)) for event in EVENTS)


def test_a_run_tells_its_hooks_all_and_goes_on_after_one_fails(
    smoke, cache_dir, tmp_path, monkeypatch
):
    """With pictures in TensorBoard, the config as text, and a trace of the second step."""
    noted, bad = Noted(), Noted("on_log")
    monkeypatch.setattr(
        runs_train,
        "make_hooks",
        lambda config: {**make_hooks(config), "a": noted, "b": bad},
    )
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    smoke.hooks = ("tensorboard_pictures",)
    result = train(smoke, tmp_path, cache_dir, profile="2:1")
    names = [event[0] for event in noted.events]
    assert names[:3] == ["on_start", "on_log", "on_log"]
    assert names[-1] == "on_end"
    assert [e[1:] for e in noted.events if e[0] == "on_checkpoint"] == [
        (1, True),
        (2, True),
    ]
    (evaluated,) = (e for e in noted.events if e[0] == "on_evaluate")
    assert evaluated[1:3] == (2, "validation")
    assert evaluated[3] == result.metrics
    assert noted.events[-1] == ("on_end", result)
    assert [event[0] for event in bad.events] == ["on_start", "on_log"]
    metrics = noted.events[1][2]
    assert 0 <= metrics["data_wait_fraction"] <= 1
    assert metrics["images_per_second"] == pytest.approx(
        4 * metrics["steps_per_second"]
    )
    assert metrics["tflops_per_second"] > 0
    assert_trace(tmp_path)
    assert_tensorboard(tmp_path, smoke)


def assert_trace(workdir):
    """The files that xprof and Perfetto open have the traced step, and no other."""
    (trace,) = workdir.glob("profile/plugins/profile/*/*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    events = [e for plane in planes for line in plane.lines for e in line.events]
    steps = [dict(e.stats)["step_num"] for e in events if e.name == "train"]
    assert steps == [2]
    assert any("convolution" in e.name or "fusion" in e.name for e in events)
    (perfetto,) = workdir.glob("profile/plugins/profile/*/perfetto_trace.json.gz")
    with gzip.open(perfetto) as file:
        named = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert "train" in named


def assert_tensorboard(workdir, config):
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in (workdir / "tensorboard").iterdir():
        content = path.read_bytes()
        while content:  # length, its checksum, the event, its checksum
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            content = content[12 + length + 4 :]
            for value in event.summary.value:
                found[value.tag] = value
    text = found["config/text_summary"].tensor.string_val[0].decode()
    stored = json.loads("".join(line[4:] for line in text.splitlines()))
    assert stored == json.loads(config_lib.to_json(config))
    picture = found["pictures/validation_000"].image
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert picture.width > picture.height > 0


class Calls(types.ModuleType):
    """A module that notes how its functions are called."""

    def __init__(self):
        super().__init__("mlflow")
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *a, **k: self.calls.append((name, *a, *k.values()))


def test_the_hook_of_the_page_tells_mlflow_all(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "loggers.md").read_text()
    (code,) = re.findall(r"^```python\n(from .*?)^```$", page, re.M | re.S)
    names, mlflow = {}, Calls()
    exec(compile(code, "loggers.md", "exec"), names)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    hooks = Hooks({"mlflow": names["MLflow"]()})
    hooks.start(RunStart(tmp_path / "run", {"seed": 3}, 0, 9))
    hooks.log(1, {"loss": 0.5})
    hooks.evaluate(2, "validation", {"f1@0.5": 0.25}, dict)
    hooks.checkpoint(2, tmp_path)
    hooks.end(None)
    assert mlflow.calls == [
        ("start_run", "run"),
        ("log_dict", {"seed": 3}, "config.json"),
        ("log_metrics", {"loss": 0.5}, 1),
        ("log_metrics", {"validation/f1_at_0.5": 0.25}, 2),
        ("end_run", "FAILED"),
    ]
