"""The chapters of the lectures: every slide has a section, and every section is computed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import make_slides_page
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LEARN = ROOT / "docs" / "learn"
LECTURES = ROOT.parent / "shared" / "lectures"
CHAPTERS = ("goncharenko", "zhao", "gaintseva", "landwehr", "fleuret")
MOST_STATEMENTS = 22
TITLES = {
    "000": r"^# .+$",
    "003": (
        r"^(?:Image Segmentation|Overview|Problem Setting .+|Network Arch.+|Spatial Down.+"
        r"|Recap: .+|Transposed Convolution(?: Op|s: ).+|The U-Net Arch.+|Special Case .+"
        r"|U-Net Loss .+|Summary: .+)$"
    ),
}
"""How a slide begins in those transcripts that have a title for each."""


class Section(NamedTuple):
    """A part of a chapter: its anchor, its heading, and its cells."""

    anchor: str
    heading: str
    cells: list[str]


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


def test_every_chapter_is_read() -> None:
    pages = {page.stem for page in LEARN.glob("*.md")}
    assert pages == {*CHAPTERS, "slides"}
    assert tuple(make_slides_page.LECTURES) == CHAPTERS


def test_the_list_of_slides_is_what_the_script_writes() -> None:
    written = (LEARN / "slides.md").read_text(encoding="utf-8")
    assert written == make_slides_page.page(), "run: python docs/make_slides_page.py"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_slide_is_missing(chapter: str) -> None:
    lecture = make_slides_page.LECTURES[chapter]
    computed = {
        n for group in make_slides_page.groups(chapter) for n in group.all_numbers
    }
    assert not computed & set(lecture.left_out)
    assert computed | set(lecture.left_out) == set(range(1, lecture.slides + 1))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_section_names_its_slides(chapter: str) -> None:
    there = {section.heading for section in sections(chapter)[1:]}
    assert {group.section for group in make_slides_page.groups(chapter)} == there
    text = (LEARN / f"{chapter}.md").read_text(encoding="utf-8")
    for _, line in make_slides_page.LINE.findall(text):
        assert not make_slides_page.NAMED.sub("", line).strip(), line


@pytest.mark.parametrize(
    ("transcript", "chapter"), [("000", CHAPTERS[0]), ("003", CHAPTERS[3])]
)
def test_there_are_as_many_slides_as_in_the_transcript(
    transcript: str, chapter: str
) -> None:
    found = list(LECTURES.glob(f"{transcript}_*.txt"))
    if not found:
        pytest.skip("needs the transcripts of the lectures")
    text = found[0].read_text(encoding="utf-8")
    assert (
        len(re.findall(TITLES[transcript], text, re.M))
        == make_slides_page.LECTURES[chapter].slides
    )


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


RUN = """
import sys
for number, cell in enumerate(sys.stdin.read().split("\\f")):
    exec(compile(cell, f"cell {number}", "exec"), globals())
"""
"""A reader's kernel: the cells of a chapter in one namespace, in a process of their own."""


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_cells_of_a_chapter_run(chapter: str) -> None:
    cells = "\f".join(cell for section in sections(chapter) for cell in section.cells)
    quick = {
        "JAX_PLATFORMS": "cpu",
        "MPLBACKEND": "agg",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=cells,
        env={**os.environ, **quick},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
