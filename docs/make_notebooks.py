"""Writes notebooks/lectures/ from the chapters in docs/learn, and the first cell of every notebook.

    python docs/make_notebooks.py

A chapter is text with cells (MyST), which the site executes and GitHub shows; its notebook opens in
Jupyter and in Colab. Notebooks begin with notebooks/first_cell.py, which finds segjax or installs it.
They are kept without outputs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LEARN = ROOT / "docs" / "learn"
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = ("goncharenko", "zhao", "gaintseva", "landwehr", "fleuret")
"""In the order of the lectures."""

FENCED = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
ONLY_ON_THE_SITE = re.compile(
    r"^\([\w-]+\)=\n|^```\{interactive\}[^\n]*\n```\n\n?", re.MULTILINE
)
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)]+)\)")

METADATA = {
    "accelerator": "GPU",
    "colab": {"provenance": []},
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def cell(kind: str, text: str, number: int) -> dict[str, Any]:
    """Makes a cell.

    Args:
      kind: "code" or "markdown".
      text: what stands in it.
      number: its place in the notebook.

    Returns:
      The cell as it is written to the file, without outputs.
    """
    name = "code" if kind == "code" else "text"
    found: dict[str, Any] = {
        "cell_type": kind,
        "id": f"{name}-{number:02}",
        "metadata": {},
    }
    if kind == "code":
        found |= {"execution_count": None, "outputs": []}
    return found | {"source": text.strip("\n").splitlines(keepends=True)}


def parts(chapter: str) -> Iterator[tuple[str, str]]:
    """Takes a chapter apart.

    Args:
      chapter: its name, of `CHAPTERS`.

    Yields:
      ("markdown", text) and ("code", text) in turn; links lead from notebooks/lectures, and
      anchors and interactive figures, which only the site knows, are gone.
    """
    text = (LEARN / f"{chapter}.md").read_text(encoding="utf-8")
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    for i, part in enumerate(FENCED.split(text)):
        if i % 2:
            yield "code", part
        elif part.strip():
            part = ONLY_ON_THE_SITE.sub("", part)
            yield "markdown", LINK.sub(r"](../../docs/learn/\1)", part)


def notebook(chapter: str) -> dict[str, Any]:
    """Makes the notebook of a chapter.

    Args:
      chapter: its name, of `CHAPTERS`.

    Returns:
      The notebook: the introduction, the first cell of all notebooks, the chapter.
    """
    introduction, *rest = parts(chapter)
    first = ("code", (NOTEBOOKS / "first_cell.py").read_text(encoding="utf-8"))
    cells = [cell(*x, i) for i, x in enumerate((introduction, first, *rest))]
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def begun_alike(path: Path) -> dict[str, Any]:
    """Gives a notebook that is written by hand the first cell of all.

    Args:
      path: of the notebook.

    Returns:
      The notebook; the rest is as it was.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    first = next(x for x in found["cells"] if x["cell_type"] == "code")
    text = (NOTEBOOKS / "first_cell.py").read_text(encoding="utf-8")
    first["source"] = cell("code", text, 0)["source"]
    return found


def files() -> Mapping[Path, str]:
    """All notebooks.

    Returns:
      What their files should hold, by their paths.
    """
    found = {path: begun_alike(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    for number, chapter in enumerate(CHAPTERS, 1):
        path = NOTEBOOKS / "lectures" / f"{number}_{chapter}.ipynb"
        found[path] = notebook(chapter)
    return {
        path: json.dumps(x, indent=1, ensure_ascii=False) + "\n"
        for path, x in found.items()
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
