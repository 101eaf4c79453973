"""Writes the tables of README.md and of the pages beside this file.

    python docs/make_tables.py            # writes the tables
    python docs/make_tables.py --check    # exit code 1 if a page is not up to date

Each table stands between two comments, `<!-- NAME -->` and `<!-- end of NAME -->`. In
`results.json` a value is null until it was measured; `measured` says on which hardware
and on which day. `ours` of a model names the experiments that were measured, and `front`
those that the README shows, each with what was measured without a network. `systems.json`
holds the figures of every system, worked out from the layers that its paper or its
authors' release lists, or printed there; `systems.md` puts those of segjax beside them.
`zoo.md` has the sources of weights, as `segjax list sources` does, with what was measured here
(`zoo` of `results.json`).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from segjax import config as config_lib
from segjax.geometry.fields import output_size, receptive_field
from segjax.models.builder import build_model
from segjax.pretrained import figures
from segjax.pretrained.hugging_face import REPOSITORIES
from segjax.pretrained.published import MEBIBYTE, PUBLISHED, licence_of
from segjax.runs.summary import summarize

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results.json"
SYSTEMS = ROOT / "docs" / "systems.json"
SYSTEMS_PAGE = ROOT / "docs" / "systems.md"
MODELS_PAGE = ROOT / "docs" / "models.md"
RESULTS_PAGE = ROOT / "docs" / "results.md"
ZOO_PAGE = ROOT / "docs" / "zoo.md"
FIGURES = ("parameters", "receptive_field", "stride", "side", "output")
"""The figures of a system, in `systems.json` and as `measure_system` finds them."""

COUNTED = "counted here from the published layers; receptive field and sizes likewise"
"""The note on a row's figures, if it has no other."""

Row = Mapping[str, Any]


def measured_results() -> dict[str, list[Row]]:
    """The lists of `results.json`, by name."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def model_table(results: Mapping[str, Sequence[Row]]) -> str:
    """Draws a row for each system; the figures of the network come from the network.

    Args:
      results: lists of `results.json`.

    Returns:
      A Markdown table; a system of which nothing was measured has a dash.
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
    for model in results["models"]:
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
                f"[{model['file']}](../{model['file']}), `{model['config']}`",
                f"{summary['parameters']:,}",
                f"{shown}, all" if summary["sees_whole_image"] else shown,
                str(summary["stride"]),
                f"{cost} at {height}x{width}x{channels}",
                model["papers_number"],
                "; ".join(_in_words(results, name) for name in model["ours"]) or "-",
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


def instance_table(results: Sequence[Row]) -> str:
    """Draws what was measured where objects are found.

    Args:
      results: rows of `results.json`.

    Returns:
      A Markdown table; what is null is a dash.
    """
    rows = [("data", "system", "mask AP50", "mask AP75", "F1@0.5", "measured")]
    for result in results:
        names = ("mask_ap50", "mask_ap75", "f1_at_50")
        numbers = ["-" if result[x] is None else f"{result[x]:.3f}" for x in names]
        measured = result["measured"] or "not measured"
        rows.append((result["data"], result["system"], *numbers, measured))
    return markdown(rows)


def front_table(results: Mapping[str, Sequence[Row]]) -> str:
    """Draws the short table of the README: only what was measured.

    Args:
      results: lists of `results.json`.

    Returns:
      A Markdown table, a row for each of `front`.

    Raises:
      ValueError: if a system or its baseline was not measured.
    """
    rows = [("data", "experiment", "figure", "ours", "without a network", "measured")]
    for shown in results["front"]:
        system = f"`{shown['system']}`"
        data, figure, value, measured = _measured(results, system)
        baseline = "-"
        if shown["baseline"]:
            _, _, other, _ = _measured(results, shown["baseline"], data)
            baseline = f"{other} ({shown['baseline']})"
        rows.append((data, system, figure, value, baseline, measured))
    return markdown(rows)


def _measured(
    results: Mapping[str, Sequence[Row]], system: str, data: str | None = None
) -> tuple[str, str, str, str]:
    """The measurement of a system: data, figure, value, and when and on what."""
    kinds: dict[str, tuple[str, str, str]] = {
        "camvid": ("mean_iou", "mean IoU", "{:.1f} %"),
        "results": ("rand_error", "Rand error", "{:.4f}"),
        "instances": ("mask_ap50", "mask AP50", "{:.3f}"),
    }
    for kind, (key, figure, form) in kinds.items():
        for row in results[kind]:
            on = row.get("data", "CamVid, test")
            if row["system"] == system and data in (None, on):
                if row[key] is None or row["measured"] is None:
                    raise ValueError(f"results.json: {system} was not measured")
                return on, figure, form.format(row[key]), row["measured"]
    raise ValueError(f"results.json has no measured row of {system}")


def _in_words(results: Mapping[str, Sequence[Row]], experiment: str) -> str:
    data, figure, value, _ = _measured(results, f"`{experiment}`")
    return f"{data}: {figure} {value} (`{experiment}`)"


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


def zoo_table(results: Sequence[Row]) -> str:
    """Draws a row for each source of weights whose network is known.

    Args:
      results: rows of `results.json`.

    Returns:
      A Markdown table; what was not measured is a dash.

    Raises:
      ValueError: if a row belongs to no source.
    """
    measured: dict[str, list[str]] = {}
    for row in results:
        text = f"{row['data']}: {row['figure']} ({row['measured']})"
        measured.setdefault(row["source"], []).append(text)
    if unknown := measured.keys() - figures.FIGURES.keys():
        raise ValueError(f"results.json: there is no source {', '.join(unknown)}")
    rows = [("source", "parameters", "published", "measured here", "licence")]
    for name, (parameters, published) in sorted(figures.FIGURES.items()):
        end = ";" if name in REPOSITORIES else ","
        rows.append(
            (
                f"`{name}`",
                f"{parameters:,}",
                published or "-",
                "; ".join(measured.get(name, ())) or "-",
                licence_of(name).partition(end)[0] or "-",
            )
        )
    return markdown(rows)


def files_table() -> str:
    """Draws a row for each file that is fetched by name.

    Returns:
      A Markdown table.
    """
    rows = [("source", "file", "MB", "sha256")]
    for name, file in sorted(PUBLISHED.items()):
        size = f"{file.mebibytes * MEBIBYTE / 1e6:.1f}"
        rows.append((f"`{name}`", f"[{file.name}]({file.url})", size, file.sha256))
    return markdown(rows)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return "x".join(map(str, value))
    return f"{value:,.0f}"


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
      text: of the page.
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
        raise ValueError(f"The page must have one {start} and one {end}")
    return pattern.sub(lambda _: f"{start}\n{table}\n{end}", text)


PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"measured": lambda: front_table(measured_results())},
    MODELS_PAGE: {"models": lambda: model_table(measured_results())},
    RESULTS_PAGE: {
        "camvid": lambda: camvid_table(measured_results()["camvid"]),
        "results": lambda: result_table(measured_results()["results"]),
        "instances": lambda: instance_table(measured_results()["instances"]),
    },
    SYSTEMS_PAGE: {"systems": lambda: system_table(published_systems())},
    ZOO_PAGE: {
        "zoo": lambda: zoo_table(measured_results()["zoo"]),
        "files": files_table,
    },
}
"""The tables of each page, by name."""


def updated(page: Path) -> str:
    """Returns the text of a page of `PAGES` with all its tables up to date."""
    text = page.read_text(encoding="utf-8")
    for name, draw in PAGES[page].items():
        text = insert(text, name, draw())
    return text


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.6f}" if value < 0.001 else f"{value:.4f}"


def main() -> None:
    """Writes the tables, or says which pages are not up to date."""
    parser = argparse.ArgumentParser(description="Writes the tables of the pages.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if one is old"
    )
    check = parser.parse_args().check
    texts = {page: updated(page) for page in PAGES}
    old = [p for p, text in texts.items() if text != p.read_text(encoding="utf-8")]
    for page in old:
        print(f"{page.relative_to(ROOT)}: {'not up to date' if check else 'written'}")
        if not check:
            page.write_text(texts[page], encoding="utf-8")
    sys.exit(1 if check and old else 0)


if __name__ == "__main__":
    main()
