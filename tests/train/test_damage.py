"""Damaged checkpoints: a sample of what `benchmarks/damage_checkpoints.py` tries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "every", [31, pytest.param(1, marks=pytest.mark.slow)], ids=str
)
def test_damaged_checkpoints_cost_a_step_back_and_never_the_run(every, tmp_path):
    ended = subprocess.run(
        [
            sys.executable,
            "benchmarks/damage_checkpoints.py",
            f"--folder={tmp_path / 'runs'}",
            f"--every={every}",
            f"--json={tmp_path / 'rows.json'}",
        ],
        cwd=ROOT,
        env=os.environ
        | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["resumed"] for row in rows} == {"step 6"}
    assert {row["latest"] for row in rows} == {"step 2", "step 4"}
