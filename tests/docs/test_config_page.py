"""The page of the keys of a config says what the code says."""

from __future__ import annotations

from pathlib import Path

import make_config_page

from segjax.config import KEYS, OPTIONAL
from segjax.data.semantic.batches import train_batches

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "config_keys.md"


def test_the_page_is_what_the_script_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == make_config_page.page(), (
        "run: python docs/make_config_page.py"
    )


def test_every_key_and_every_group_has_its_place() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [key for key in (*KEYS, *OPTIONAL) if f"| `{key}`" not in text] == []
    for group in ("pipeline", "evaluation", "crf", "ema", "model", "loss", "data"):
        assert f"\n## config.{group}\n" in text


def test_no_key_is_without_a_meaning() -> None:
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    assert [row for row in rows if row.endswith("|  |")] == []


def test_documented_arguments_are_read_over_several_lines() -> None:
    texts = make_config_page.documented(train_batches)
    assert "input_size" in texts
    assert "\n" not in "".join(texts.values())
