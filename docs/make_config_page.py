"""Writes docs/config_keys.md: every key that a config may have, from the code that takes it.

    python docs/make_config_page.py            # writes the page
    python docs/make_config_page.py --check    # exit code 1 if it is not up to date

What a key means stands in `segjax.config` and in the docstring of what takes it, and nowhere else.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from segjax.config import KEYS, OPTIONAL
from segjax.runs.listing import KINDS, names
from segjax.runs.overrides import tables

PAGE = Path(__file__).resolve().parent / "config_keys.md"
TASKS = {"semantic": "labelling pixels", "instance": "finding objects"}
"""The tasks, and how the page calls them where their keys differ."""

FLAX = ("parent", "name")
"""Arguments that Flax gives to every module, and no config does."""

HEAD = """# The keys of a config

An experiment is a file of `configs/`, and its keys are those of this page. Each can be changed on the
[command line](command_line.md#experiments-and-presets), as in `--config.pipeline.input_size=256,256`; a misspelt
one ends in a sentence that names the nearest. `segjax list KIND NAME` shows the same for what has a name.

## At the top

{top}
"""

END = """
Written by `python docs/make_config_page.py` from the docstrings.
"""


def documented(function: Callable[..., Any]) -> dict[str, str]:
    """Reads what a docstring says of each argument, or of each attribute of a class.

    Args:
      function: with a docstring in Google's style.

    Returns:
      One line of text for each name, in order.
    """
    text = inspect.getdoc(function) or ""
    found = re.search(r"^(?:Args|Attributes):\n((?:(?:  .*)?\n?)*)", text, re.MULTILINE)
    entries = re.split(r"^  (?=\S)", found[1] if found else "", flags=re.MULTILINE)
    pairs = (entry.partition(":") for entry in entries if ":" in entry)
    return {name.strip("*"): " ".join(said.split()) for name, _, said in pairs}


def keys_table(function: Callable[..., Any], hidden: Collection[str]) -> str:
    """Draws a row for each key of a group that has no name.

    Args:
      function: what takes the keys as arguments.
      hidden: arguments that it gets from elsewhere.

    Returns:
      A Markdown table.
    """
    texts = documented(function)
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    for name, parameter in inspect.signature(function).parameters.items():
        if name in (*hidden, *FLAX):
            continue
        default = parameter.default
        shown = default.__name__ if isinstance(default, type) else repr(default)
        shown = "needed" if default is parameter.empty else f"`{shown}`"
        rows.append(_row(f"`{name}`", shown, texts.get(name, "")))
    return "\n".join(rows)


def names_table(kind: str) -> str:
    """Draws a row for each part of a kind.

    Args:
      kind: a key of `segjax.runs.listing.KINDS`.

    Returns:
      A Markdown table.
    """
    rows = ["| name | what it is |", "| --- | --- |"]
    shipped = {name: text for name, text in names(kind).items() if ":" not in name}
    return "\n".join([*rows, *(_row(f"`{n}`", text) for n, text in shipped.items())])


def groups() -> Mapping[str, str]:
    """Writes a section for every group.

    Returns:
      Markdown by the group, such as "pipeline".
    """
    found: dict[str, str] = {}
    takers = {task: tables(task)[1] for task in TASKS}
    for path in dict.fromkeys(path for by_path in takers.values() for path in by_path):
        of_task = {task: takers[task].get(path) for task in TASKS}
        same = len({id(taker and taker[0]) for taker in of_task.values()}) == 1
        parts: list[str] = []
        for task, taker in of_task.items():
            if taker is not None and (not same or not parts):
                title = "" if same else f"For {TASKS[task]}:\n\n"
                parts.append(title + keys_table(*taker))
        found[".".join(path)] = "\n\n".join(parts)
    for kind, place in KINDS.items():
        if re.fullmatch(r"config(\.\w+)+", place):
            where = place.removeprefix("config.").removesuffix(".name")
            text = f"`{place}` names one of these, whose arguments are the other keys of its "
            text += f"group; `segjax list {kind} NAME` shows them."
            found[where] = f"{text}\n\n{names_table(kind)}"
    return dict(sorted(found.items()))


def page() -> str:
    """Writes the page.

    Returns:
      Markdown.
    """
    rows = ["| key | meaning |", "| --- | --- |"]
    rows += [_row(f"`{key}`", text) for key, text in KEYS.items()]
    rows += [_row(f"`{key}`, optional", text) for key, text in OPTIONAL.items()]
    sections = [f"\n## config.{key}\n\n{text}\n" for key, text in groups().items()]
    return HEAD.format(top="\n".join(rows)) + "".join(sections) + END


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def main() -> None:
    """Writes the page, or says that it is not up to date."""
    parser = argparse.ArgumentParser(description="Writes docs/config_keys.md.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if it is old"
    )
    check, text = parser.parse_args().check, page()
    old = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text
    if old:
        print(f"docs/{PAGE.name}: {'not up to date' if check else 'written'}")
        if not check:
            PAGE.write_text(text, encoding="utf-8")
    sys.exit(1 if check and old else 0)


if __name__ == "__main__":
    main()
