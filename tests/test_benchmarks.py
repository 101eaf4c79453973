"""Programs in benchmarks/ whose rows could be void without anybody noticing."""

import runpy
import sys
from pathlib import Path

import jax
import pytest

from segjax.ops.base.forms import lowering_for

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.slow
def test_every_form_is_taken_by_its_network(monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    one_device = lowering_for("cpu", shards=1)  # some forms are for one alone
    with jax.numpy_rank_promotion("allow"), one_device:
        program = runpy.run_path(str(FOLDER / "bench_forms.py"))
        rows = program["FORMS"]
        assert [row.name for row in rows if not program["is_taken"](row)] == []


def test_the_readme_has_the_table_of_each_result(monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    program = runpy.run_path(str(FOLDER / "table.py"))
    section = program["section"]
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    results = sorted((FOLDER / "results").glob("*.json"))
    assert results
    assert [path.name for path in results if section(path) not in text] == []
    page = FOLDER.parent / "docs" / "plan.md"
    assert program["plan_page"]() == page.read_text(encoding="utf-8")
