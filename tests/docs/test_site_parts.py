"""The pages of docs/ as Sphinx reads them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FRONT = ROOT / "docs" / "index.md"


def part(name: str) -> ModuleType:
    """A module of docs/site_parts."""
    path = ROOT / "docs" / "site_parts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"site_parts_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_door_of_the_front_page_is_a_part_of_the_navigation() -> None:
    added = {"Look up": "- [The reference](api/segjax.rst)."}
    text = part("markdown").with_navigation(
        FRONT.read_text(encoding="utf-8"), "docs/index", added
    )
    assert added["Look up"] in text
    trees = re.findall(
        r"```\{toctree\}\n:hidden:\n:caption: (.+)\n\n(.+?)```", text, re.S
    )
    assert [caption for caption, _ in trees] == ["Learn", "Do", "Look up", "Understand"]
    entries = [line for _, body in trees for line in body.split()]
    assert "/docs/first_run" in entries
    assert "/notebooks/01_unet_em" in entries
    assert "/CHANGELOG" in entries
    assert "/docs/api/segjax" in entries
    assert len(entries) == len(set(entries))


def test_a_section_without_pages_gets_no_navigation() -> None:
    text = part("markdown").with_navigation("# A\n\n## B\n\nwords\n", "docs/index", {})
    assert "toctree" not in text


def test_links_to_folders_lead_to_the_reference_or_become_text() -> None:
    links = "[configs/](../configs), [ops](../segjax/ops), [models](models.md)"
    shown = part("markdown").without_folders(links, ROOT / "docs", ROOT)
    ops = "[ops](/docs/api/segjax.ops.rst)"
    assert shown == f"configs/, {ops}, [models](models.md)"
    address = "[there](https://example.org)"
    assert part("markdown").without_folders(address, ROOT, ROOT) == address


def test_formulas_become_mathml() -> None:
    pytest.importorskip("sphinx", reason="needs the extra `docs`")
    formula = part("formulas").render(
        r"w_0 \exp\left(-\frac{d^2}{2 \sigma^2}\right)", block=True
    )
    assert formula.startswith("<math")
    assert "<mfrac>" in formula


def test_every_formula_of_the_chapters_can_be_drawn() -> None:
    pytest.importorskip("sphinx", reason="needs the extra `docs`")
    render = part("formulas").render
    found = 0
    for page in sorted((ROOT / "docs" / "learn").glob("*.md")):
        text = re.sub(
            r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S
        )
        for formula in re.findall(r"\$([^$]+)\$", text):
            assert render(formula, block=False).startswith("<math")
            found += 1
    assert found > 10
