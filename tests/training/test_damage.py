"""Damaged checkpoints: a sample of what `benchmarks/damage_checkpoints.py` tries."""

import json

import pytest


@pytest.mark.slow
def test_damaged_checkpoints_cost_a_step_back_and_never_the_run(
    tmp_path, run_benchmark
):
    run_benchmark(
        "damage_checkpoints.py",
        f"--folder={tmp_path / 'runs'}",
        "--every=5",  # of 12 ways to damage a file, so all come, each at some files
        f"--json={tmp_path / 'rows.json'}",
    )
    rows = json.loads((tmp_path / "rows.json").read_text())
    stopped = [row for row in rows if row["resumed"] != "step 6"]
    # A file in the place of the whole folder may be anybody's: whose it is, the user says.
    assert [(row["where"], row["damage"]) for row in stopped] in ([], [(".", "a file")])
    assert {row["resumed"] for row in stopped} <= {"sentence"}
    assert {row["latest"] for row in rows} == {"step 2", "step 4"}
