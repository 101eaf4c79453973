"""The short form of the fuzz suite: `make fuzz` is the long one."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
INPUTS, SEED = 250, 1


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own: it forks, which a process with JAX's threads must not.
    return subprocess.run(
        [sys.executable, str(HERE / name), *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_every_damaged_file_is_accepted_or_reported_in_a_sentence(tmp_path):
    ended = run(
        "run.py",
        f"--inputs={INPUTS}",
        f"--seed={SEED}",
        "--jobs=1",
        f"--kept={tmp_path}",
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{INPUTS} inputs in" in ended.stdout


@pytest.mark.slow
def test_the_suite_finds_planted_faults_of_every_kind_and_goes_on():
    ended = run("planted.py")
    assert ended.returncode == 0, ended.stderr
    found, expected, again = json.loads(ended.stdout)
    assert Counter(map(tuple, found)) == {tuple(kind): 3 for kind in expected}
    assert again
