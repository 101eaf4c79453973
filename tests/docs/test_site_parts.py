"""The pages of docs/ as Sphinx reads them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import check_site
import pytest
from site_parts import docstrings, markdown

ROOT = Path(__file__).resolve().parent.parent.parent
FRONT = ROOT / "docs" / "index.md"


def test_each_door_of_the_front_page_is_a_part_of_the_navigation() -> None:
    added = {"Look up": "- [The reference](api/segjax.rst)."}
    text = markdown.with_navigation(
        FRONT.read_text(encoding="utf-8"), "docs/index", added
    )
    assert added["Look up"] in text
    trees = re.findall(
        r"```\{toctree\}\n:hidden:\n:caption: ([^\n]+)\n\n([^`]+)```", text, re.S
    )
    assert [caption for caption, _ in trees] == ["Learn", "Do", "Look up", "Understand"]
    entries = [line for _, body in trees for line in body.split()]
    assert "/docs/first_run" in entries
    assert "/notebooks/01_unet_em" in entries
    assert "/CHANGELOG" in entries
    assert "/docs/api/segjax" in entries
    assert len(entries) == len(set(entries))


def test_a_section_without_pages_gets_no_navigation() -> None:
    text = markdown.with_navigation("# A\n\n## B\n\nwords\n", "docs/index", {})
    assert "toctree" not in text


def test_links_to_folders_lead_to_the_reference_or_become_text() -> None:
    links = "[configs/](../configs), [ops](../segjax/ops), [models](models.md)"
    shown = markdown.without_folders(links, ROOT / "docs", ROOT)
    ops = "[ops](/docs/api/segjax.ops.rst)"
    assert shown == f"configs/, {ops}, [models](models.md)"
    address = "[there](https://example.org)"
    assert markdown.without_folders(address, ROOT, ROOT) == address


def test_formulas_become_mathml() -> None:
    pytest.importorskip("sphinx", reason="needs the extra `docs`")
    formula = importlib.import_module("site_parts.formulas").render(
        r"w_0 \exp\left(-\frac{d^2}{2 \sigma^2}\right)", block=True
    )
    assert formula.startswith("<math")
    assert "<mfrac>" in formula


def test_every_formula_of_the_chapters_can_be_drawn() -> None:
    pytest.importorskip("sphinx", reason="needs the extra `docs`")
    render = importlib.import_module("site_parts.formulas").render
    found = 0
    for page in sorted((ROOT / "docs" / "learn").glob("*.md")):
        text = re.sub(
            r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S
        )
        for _, formula in re.findall(r"(\$\$?)([^$]+)\1", text):
            assert render(formula, block=False).startswith("<math")
            found += 1
    assert found > 10


def test_a_site_with_links_that_lead_somewhere_has_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b/c.html#x%20y">b</a><a href="#z">z</a><p id="z">'
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.html").write_text(
        '<p id="x y"><a href="../a.html">a</a><a href="https://example.org">e</a>'
    )
    assert list(check_site.faults(tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<a href="b.html">b</a>', "there is no b.html"),
        ('<a href="#b">b</a>', "there is no #b"),
        ('<script src="gone.js"></script>', "there is no gone.js"),
        (
            '<script src="https://e.org/x.js"></script>',
            "https://e.org/x.js would be fetched",
        ),
        (
            '<link rel="stylesheet" href="//e.org/x.css">',
            "//e.org/x.css would be fetched",
        ),
    ],
)
def test_what_leads_nowhere_or_comes_over_the_network_is_a_fault(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.html").write_text(text)
    assert list(check_site.faults(tmp_path)) == [f"a.html: {said}"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["The norm |x| of `a`s, `N`^2."],
            ["The norm \\|x\\| of ``a``\\ s, ``N``\\ ^2."],
        ),
        (["Is", "    a + b", "here."], ["Is", "", "::", "", "    a + b", "", "here."]),
        (["| a | b |"], ["", "::", "", "    | a | b |", ""]),
        (["* one `a", "  b`"], ["* one ``a", "  b``"]),
        (["Args:", "  x: *one*."], ["Args:", "  x: \\*one\\*."]),
        (["Example:", "  >>> a | b"], ["Example:", "  >>> a | b"]),
    ],
)
def test_docstrings_are_what_they_are_in_markdown(lines, expected) -> None:
    assert docstrings.as_restructured_text(lines) == expected


def test_the_first_line_of_a_value_is_no_type() -> None:
    pytest.importorskip("sphinx", reason="needs the extra `docs`")
    napoleon = importlib.import_module("sphinx.ext.napoleon")
    lines = ["Areas of objects: both limits included."]
    docstrings._process(None, "data", "SIZES", None, None, lines)
    config = napoleon.Config()
    read = napoleon.GoogleDocstring(lines, config, what="data", name="SIZES").lines()
    assert [x for x in read if x] == ["..", "Areas of objects: both limits included."]
