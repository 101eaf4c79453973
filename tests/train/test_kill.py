"""`kill -9`: the benchmark's rounds, a few of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "rounds", [2, pytest.param(8, marks=pytest.mark.slow)], ids=str
)
def test_killed_runs_end_as_the_run_that_was_not(rounds, data_dir, tmp_path):
    outcome = tmp_path / "outcome.json"
    ended = subprocess.run(
        [
            sys.executable,
            "benchmarks/kill_rounds.py",
            f"--rounds={rounds}",
            f"--data_dir={data_dir}",
            f"--json={outcome}",
        ],
        cwd=ROOT,
        env=os.environ
        | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(outcome.read_text())
    assert found["same"]
    assert found["lost"] == 0
    assert found["kills"] == rounds
    assert any(row["within a save"] for row in found["rounds"])
