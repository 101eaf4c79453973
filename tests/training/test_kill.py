"""`kill -9`: the benchmark's rounds, a few of them."""

import json

import pytest


@pytest.mark.slow
def test_killed_runs_end_as_the_run_that_was_not(cache_dir, tmp_path, run_benchmark):
    rounds = 4
    outcome = tmp_path / "outcome.json"
    run_benchmark(
        "kill_rounds.py",
        f"--rounds={rounds}",
        f"--cache_dir={cache_dir}",
        f"--json={outcome}",
    )
    found = json.loads(outcome.read_text())
    assert found["same"]
    assert found["lost"] == 0
    assert found["kills"] == rounds
    assert any(row["within a save"] for row in found["rounds"])
