"""Writes the tables of README.md: what was measured from results.json, the rest computed.

    python docs/make_tables.py

Each table stands between two comments, `<!-- NAME -->` and `<!-- end of NAME -->`. In
`results.json` a value is null until it was measured; `ours` and `measured` say on which
hardware and on which day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax import config as config_lib
from segjax.inspect.summary import summarize

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results.json"

Row = Mapping[str, Any]


def tables() -> dict[str, str]:
    """Draws every table, as Markdown by name."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {
        "models": model_table(results["models"]),
        "results": result_table(results["results"]),
    }


def model_table(models: Sequence[Row]) -> str:
    """Draws a row for each system; the figures of the network come from the network.

    Args:
      models: rows of `results.json`.

    Returns:
      A Markdown table.
    """
    rows = [
        (
            "paper",
            "file, config",
            "parameters",
            "receptive field",
            "stride",
            "GFLOP",
            "the paper's number",
            "ours",
        )
    ]
    for model in models:
        summary = summarize(config_lib.load(str(ROOT / model["config"])))
        field = summary["receptive_field"]
        height, width, channels = summary["input_size"]
        link = f"https://arxiv.org/abs/{model['arxiv']}"
        rows.append(
            (
                f"{model['model']}: [{model['paper']}]({link})",
                f"[{model['file']}]({model['file']}), `{model['config']}`",
                f"{summary['parameters']:,}",
                f"{field['smallest']} to {field['largest']}",
                str(summary["stride"]),
                f"{summary['gflops']:.0f} at {height}x{width}x{channels}",
                model["papers_number"],
                model["ours"] or "not measured",
            )
        )
    return markdown(rows)


def result_table(results: Sequence[Row]) -> str:
    """Draws what was measured.

    Args:
      results: rows of `results.json`.

    Returns:
      A Markdown table; what is null is a dash.
    """
    names = ("warping_error", "rand_error", "pixel_error", "mean_iou")
    rows = [
        ("data", "system", *(shown.replace("_", " ") for shown in names), "measured")
    ]
    rows[0] = tuple(cell.replace("iou", "IoU") for cell in rows[0])
    for result in results:
        numbers = (_number(result[name]) for name in names)
        measured = result["measured"] or "not measured"
        rows.append((result["data"], result["system"], *numbers, measured))
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Writes rows of cells as a Markdown table, the first row its head.

    Example:
      >>> print(markdown([("a", "b"), ("1", "2")]))
      | a | b |
      | --- | --- |
      | 1 | 2 |
    """
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def insert(text: str, name: str, table: str) -> str:
    """Puts a table between its two comments.

    Args:
      text: of the README.
      name: of the table.
      table: the table.

    Returns:
      The text with the table in it.

    Raises:
      ValueError: if the comments are missing.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"README.md must have one {start} and one {end}")
    return pattern.sub(lambda _: f"{start}\n{table}\n{end}", text)


def updated(text: str) -> str:
    """Returns the text of a README with all its tables up to date."""
    for name, table in tables().items():
        text = insert(text, name, table)
    return text


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.6f}" if value < 0.001 else f"{value:.4f}"


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
