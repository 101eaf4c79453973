"""The chapters of the lectures: every slide has a section, and every section is computed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LEARN = ROOT / "docs" / "learn"
SLIDES = LEARN / "slides.md"
CHAPTERS = ("goncharenko", "zhao", "gaintseva", "landwehr", "fleuret")
MOST_STATEMENTS = 22


class Slide(NamedTuple):
    """A row of the list of slides."""

    number: int
    title: str
    holds: str
    section: str
    chapter: str
    heading: str


class Section(NamedTuple):
    """A part of a chapter: its anchor, its heading, and its cells."""

    anchor: str
    heading: str
    cells: list[str]


def slides() -> dict[str, list[Slide]]:
    """The rows of the list, by the chapter under whose heading they stand."""
    _, *parts = re.split(r"^## ", SLIDES.read_text(encoding="utf-8"), flags=re.M)
    row = r"^\| (\d+) \| (.+) \| (.+) \| \[(.+)\]\((\w+)\.md#([\w-]+)\) \|$"
    return {
        chapter: [
            Slide(int(number), *rest)
            for number, *rest in re.findall(row, part, flags=re.M)
        ]
        for chapter, part in zip(CHAPTERS, parts, strict=True)
    }


def sections(chapter: str) -> list[Section]:
    """The sections of a chapter; the first, without an anchor, is its introduction."""
    text = (LEARN / f"{chapter}.md").read_text(encoding="utf-8")
    head, *parts = re.split(r"^\(([\w-]+)\)=\n", text, flags=re.M)
    anchors = ["", *parts[::2]]
    found = []
    for anchor, body in zip(anchors, [head, *parts[1::2]], strict=True):
        heading = re.search(r"^##? (.+)$", body, flags=re.M)
        assert heading is not None
        cells = re.findall(r"^```\{code-cell\}.*\n((?:.*\n)*?)^```$", body, flags=re.M)
        found.append(Section(anchor, heading[1], cells))
    return found


def slug(heading: str) -> str:
    """What follows the # in a link to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_chapter_is_read() -> None:
    pages = {page.stem for page in LEARN.glob("*.md")}
    assert pages == {*CHAPTERS, SLIDES.stem}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_slide_has_its_section_and_every_section_its_slides(chapter: str) -> None:
    rows = slides()[chapter]
    there = {slug(x.heading): x.heading for x in sections(chapter)[1:]}
    assert {row.chapter for row in rows} == {chapter}
    assert {row.heading: row.section for row in rows} == there


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_slides_stand_in_the_order_of_the_lecture(chapter: str) -> None:
    numbers = [row.number for row in slides()[chapter]]
    assert numbers == sorted(numbers)
    assert len({(row.number, row.title) for row in slides()[chapter]}) == len(numbers)


def test_the_list_has_every_row_that_is_written() -> None:
    text = SLIDES.read_text(encoding="utf-8")
    written = len(re.findall(r"^\| \d", text, flags=re.M))
    assert sum(map(len, slides().values())) == written > 150


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_anchors_name_their_chapter_once(chapter: str) -> None:
    anchors = [section.anchor for section in sections(chapter)[1:]]
    assert len(set(anchors)) == len(anchors)
    assert all(anchor.startswith(f"{chapter}-") for anchor in anchors)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_section_asserts_what_it_says_in_few_lines(chapter: str) -> None:
    for section in sections(chapter)[1:]:
        assert section.cells, section.anchor
        code = "".join(section.cells)
        assert re.search(r"^ *(assert |np\.testing\.)", code, re.M), section.anchor
        for cell in section.cells:
            lines = [x for x in cell.splitlines() if x.strip()]
            assert len(lines) <= MOST_STATEMENTS, section.anchor


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_cells_of_a_chapter_run(chapter: str) -> None:
    names: dict[str, object] = {}
    with jax.numpy_rank_promotion("allow"):  # as in a reader's kernel
        for section in sections(chapter):
            for cell in section.cells:
                exec(compile(cell, section.anchor or chapter, "exec"), names)
