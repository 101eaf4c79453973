"""Writes the tables of README.md and systems.md: measured, published, computed.

    python docs/make_tables.py

Each table stands between two comments, `<!-- NAME -->` and `<!-- end of NAME -->`. In
`results.json` a value is null until it was measured; `ours` and `measured` say on which
hardware and on which day. `systems.json` holds the figures of every system, worked out
from the layers that its paper or its authors' release lists, or printed there;
`systems.md` puts those of segjax beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from segjax import config as config_lib
from segjax.geometry.fields import output_size, receptive_field
from segjax.models.builder import build_model
from segjax.runs.summary import summarize

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results.json"
SYSTEMS = ROOT / "docs" / "systems.json"
SYSTEMS_PAGE = ROOT / "docs" / "systems.md"
FIGURES = ("parameters", "receptive_field", "stride", "side", "output")
"""What `systems.json` says of a system, and `measure_system` finds."""

COUNTED = "counted here from the published layers; receptive field and sizes likewise"
"""What a row says of its figures, if it says nothing else."""

Row = Mapping[str, Any]


def tables() -> dict[str, str]:
    """Draws every table, as Markdown by name."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {
        "models": model_table(results["models"]),
        "results": result_table(results["results"]),
        "camvid": camvid_table(results["camvid"]),
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
        gflops = summary["gflops"]
        cost = "depends on the objects"
        if gflops is not None:
            cost = f"{gflops:.0f}" if gflops >= 1 else f"{gflops:.2g}"
        paper = model["paper"]
        if model["arxiv"]:
            paper = f"[{paper}](https://arxiv.org/abs/{model['arxiv']})"
        shown = f"{field['smallest']} to {field['largest']}"
        rows.append(
            (
                f"{model['model']}: {paper}",
                f"[{model['file']}]({model['file']}), `{model['config']}`",
                f"{summary['parameters']:,}",
                f"{shown}, all" if summary["sees_whole_image"] else shown,
                str(summary["stride"]),
                f"{cost} at {height}x{width}x{channels}",
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


def camvid_table(results: Sequence[Row]) -> str:
    """Draws what was measured on CamVid, in percent.

    Args:
      results: rows of `results.json`.

    Returns:
      A Markdown table; what is null is a dash.
    """
    names = ("global_accuracy", "class_average", "mean_iou")
    rows = [("system", "global accuracy", "class average", "mean IoU", "measured")]
    for result in results:
        numbers = [
            "-" if result[name] is None else f"{result[name]:.1f}" for name in names
        ]
        measured = result["measured"] or "not measured"
        rows.append((result["system"], *numbers, measured))
    return markdown(rows)


def published_systems() -> list[Row]:
    """The rows of `systems.json`."""
    return json.loads(SYSTEMS.read_text(encoding="utf-8"))["systems"]


def measure_system(system: Row) -> dict[str, Any]:
    """Finds the figures of a system from its network; nothing is compiled.

    Args:
      system: a row of `systems.json`; `layer` is the one that the paper's receptive
        field, stride and side belong to.

    Returns:
      `FIGURES`; those that the row leaves open are None.
    """
    model: Any = build_model(config_lib.from_dict(system["model"]))
    image = jax.ShapeDtypeStruct((1, *system["input"]), "float32")
    outputs, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), image
    )
    layers = model.layers()
    end = 1 + [layer.name for layer in layers].index(system["layer"])
    field = receptive_field(layers[:end])
    found = {
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "receptive_field": field.size,
        "stride": field.stride,
        "side": output_size(layers[:end], system["input"][0]),
        "output": list(outputs["logits"].shape[1:3]),
    }
    return {key: None if system[key] is None else found[key] for key in FIGURES}


def system_table(systems: Sequence[Row]) -> str:
    """Draws a row for each system: what was published, and what segjax has.

    Args:
      systems: rows of `systems.json`.

    Returns:
      A Markdown table; a cell holds one figure where both agree, and both otherwise.
    """
    head = ("system", "input", "parameters", "receptive field", "stride", "side")
    rows: list[Sequence[str]] = [(*head, "output", "which figures these are")]
    for system in systems:
        ours = measure_system(system)
        cells = [
            _figure(system[key])
            if system[key] == ours[key]
            else f"{_figure(system[key])}, here {_figure(ours[key])}"
            for key in FIGURES
        ]
        height, width, channels = system["input"]
        note = system["note"] or COUNTED
        rows.append((system["system"], f"{height}x{width}x{channels}", *cells, note))
    return markdown(rows)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return "x".join(map(str, value))
    return f"{value:,.0f}"


def systems_page(text: str) -> str:
    """Returns the text of `systems.md` with its table up to date."""
    return insert(text, "systems", system_table(published_systems()))


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
    page = SYSTEMS_PAGE.read_text(encoding="utf-8")
    SYSTEMS_PAGE.write_text(systems_page(page), encoding="utf-8")
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
