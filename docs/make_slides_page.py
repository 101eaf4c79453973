"""Writes docs/learn/slides.md, the list of all slides, from the lines in the chapters that name them.

    python docs/make_slides_page.py

Below the heading of a section stands which slides it computes and what they hold:
`*Slides 8 and 9 (matrices): Convolution.*`, several one after the other. What no section computes is
named here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

LEARN = Path(__file__).resolve().parent / "learn"
PAGE = LEARN / "slides.md"

LINE = re.compile(r"^## (.+)\n\n\*(Slides? \d.+)\*$", re.MULTILINE)
"""A heading, and the line below it."""

HEAD = """# All slides

Every slide of the five lectures that holds a formula, a table, a matrix, a figure or a statement that can be
computed, and the section that does so. Numbers count the slides in our transcript, which has the text of the slides
and not their pictures: a figure is taken by its title and what is written on it, and drawn anew from its numbers.
Slides that draw one picture step by step share a section.
"""

NAMED = re.compile(
    r"Slides? (\d+(?:(?:, | and | to )\d+)*) \(([^)]+)\): (.*?)(?:\.|(?<=\?))(?= Slides? \d|$)"
)
"""A group of slides in the line below a heading: numbers, what they hold, their title."""


class Lecture(NamedTuple):
    """A lecture.

    Attributes:
      title: heading of its part of the page.
      slides: how many there are.
      left_out: what the slides hold that no section computes, by their number.
    """

    title: str
    slides: int
    left_out: dict[int, str]


LECTURES = {
    "goncharenko": Lecture(
        "Lecture 1, Goncharenko",
        37,
        {1: "cover", 2: "outline", 36: "outline", 37: "the next lecture"},
    ),
    "zhao": Lecture(
        "Lecture 2, Zhao",
        60,
        {
            1: "cover",
            **dict.fromkeys((17, 23), "outline"),
            **dict.fromkeys((26, 33), "title of a part"),
            **dict.fromkeys((58, 59, 60), "references"),
        },
    ),
    "gaintseva": Lecture(
        "Lecture 3, Gaintseva",
        45,
        {1: "cover", 2: "outline", **dict.fromkeys((44, 45), "link to a film")},
    ),
    "landwehr": Lecture("Lecture 4, Landwehr", 43, {1: "cover", 2: "outline"}),
    "fleuret": Lecture("Lecture 5, Fleuret", 16, {1: "cover", 16: "references"}),
}
"""The lectures in their order, by the name of their chapter."""


class Group(NamedTuple):
    """Slides of one title.

    Attributes:
      numbers: as they are written, such as "8 and 9".
      holds: what they hold, such as "matrices".
      title: of the slides, in our words.
      section: the heading that they stand under.
    """

    numbers: str
    holds: str
    title: str
    section: str

    @property
    def all_numbers(self) -> list[int]:
        """Every number by itself."""
        spans = re.findall(r"(\d+)(?: to (\d+))?", self.numbers)
        return [n for a, b in spans for n in range(int(a), int(b or a) + 1)]


def groups(chapter: str) -> list[Group]:
    """Reads which slides the sections of a chapter compute.

    Args:
      chapter: its name, of `LECTURES`.

    Returns:
      The groups, in the order of their first slides.
    """
    text = (LEARN / f"{chapter}.md").read_text(encoding="utf-8")
    found = [
        Group(parts[0], parts[1], parts[2], section)
        for section, line in LINE.findall(text)
        for parts in NAMED.findall(line)
    ]
    return sorted(found, key=lambda group: group.all_numbers)


def slug(heading: str) -> str:
    """What follows the # in a link to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page() -> str:
    """Draws the page.

    Returns:
      Markdown.
    """
    names = [f"[{x.title}]({name}.md)" for name, x in LECTURES.items()]
    parts = [f"{HEAD}\nThe chapters: {'; '.join(names)}.\n"]
    for chapter, lecture in LECTURES.items():
        parts.append(f"\n## {lecture.title}\n\n| slides | title | holds | section |\n")
        parts.append("| --- | --- | --- | --- |\n")
        for numbers, holds, title, section in groups(chapter):
            link = f"[{section}]({chapter}.md#{slug(section)})"
            parts.append(f"| {numbers} | {title} | {holds} | {link} |\n")
        left = ", ".join(f"{n} ({what})" for n, what in lecture.left_out.items())
        parts.append(f"\nOf {lecture.slides} slides left out: {left}.\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
