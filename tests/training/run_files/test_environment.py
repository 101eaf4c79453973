"""environment.json: what a run was made with, one entry for each start."""

import json
import subprocess

import jax
import pytest

from segjax.training.run_files import environment
from segjax.training.run_files.environment import add_environment, describe_checkout
from segjax.training.sharding import Devices


def git(folder, *arguments):
    names = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", *names, "-C", str(folder), *arguments]
    subprocess.run(command, check=True, capture_output=True)


def test_each_start_adds_an_entry_without_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "very secret")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=somewhere")
    monkeypatch.setattr("sys.argv", ["segjax", "--config=a.py"])
    for _ in range(2):
        add_environment(tmp_path, Devices())
    text = (tmp_path / "environment.json").read_text()
    first, second = json.loads(text)
    assert first["packages"]["jax"] == jax.__version__
    assert first["command"] == ["segjax", "--config=a.py"]
    assert first["devices"] == f"{jax.device_count()} x cpu"
    assert first["variables"]["XLA_FLAGS"] == "--xla_dump_to=somewhere"
    assert first["packages"] == second["packages"]
    assert "secret" not in text

    (tmp_path / "environment.json").write_text("{")  # damaged: it begins anew
    add_environment(tmp_path, Devices())
    assert len(json.loads((tmp_path / "environment.json").read_text())) == 1


def test_what_is_not_committed_is_kept_as_a_diff(tmp_path, monkeypatch):
    assert describe_checkout(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / "net.py").write_text("depth = 3\n")
    git(tmp_path, "add", "net.py")
    git(tmp_path, "commit", "-m", "first")
    assert describe_checkout(tmp_path)["diff"] == ""
    (tmp_path / "net.py").write_text("depth = 4\n")
    (tmp_path / "new.py").write_text("a secret")
    found = describe_checkout(tmp_path)
    assert len(found["commit"]) == 40
    assert "-depth = 3\n+depth = 4\n" in found["diff"]
    assert found["untracked"] == ["new.py"]
    assert "a secret" not in json.dumps(found)
    monkeypatch.setattr(environment, "LONGEST_DIFF", 10)
    assert len(describe_checkout(tmp_path)["diff"]) == 10


@pytest.mark.parametrize("failure", [FileNotFoundError, PermissionError])
def test_git_may_be_missing(tmp_path, monkeypatch, failure):
    def run(*_, **__):
        raise failure

    monkeypatch.setattr(environment.subprocess, "run", run)
    assert describe_checkout(tmp_path) is None
