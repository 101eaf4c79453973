"""Draws the tables of benchmarks/README.md from the JSON files in benchmarks/results.

python benchmarks/table.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from program_tables import (
    plan_rows,
    programs_rows,
    remat_rows,
    rounded_sums_rows,
    serving_rows,
    sharding_rows,
    tracing_rows,
)
from results import FOLDER, ratio

README = Path(__file__).parent / "README.md"
PLAN_PAGE = Path(__file__).parent.parent / "docs" / "plan.md"
MARKS = re.compile(r"(<!-- tables -->\n).*?(\n<!-- end -->)", re.DOTALL)


BESIDE = ("of processor time", "first run of both", "peak memory of both")


def beside(row: dict[str, Any]) -> list[str]:
    """The cells of `BESIDE`: the first run is with compilation."""
    ratio_of_cpu = f"{row['cpu_ratio']:.2f}" if "cpu_ratio" in row else "-"
    first = [f"{seconds:.0f}" for seconds in row["first_run_seconds"].values()]
    peaks = [f"{x:.0f}" for x in row.get("peak_megabytes", {}).values()]
    memory = f"{' and '.join(peaks)} MB" if peaks else "-"
    return [ratio_of_cpu, f"{' and '.join(first)} s", memory]


def unet_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["", "segjax", "PyTorch", "ratio (range)", *BESIDE]
    table = [[*head, "images/s of segjax"]]
    for row in rows:
        ours, theirs = (row["seconds"][name] for name in ("segjax", "torch"))
        name = f"{row['what']}, batch {row['batch']}, {row['side']}x{row['side']}"
        table.append(
            [
                f"{name}, {row['features'][0]} features, {row['padding']}, {row['dtype']}",
                f"{1e3 * ours:.1f} ms",
                f"{1e3 * theirs:.1f} ms",
                ratio(row),
                *beside(row),
                f"{row['batch'] / ours:.1f}",
            ]
        )
    return table


def against_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of two checkouts of segjax."""
    table = [["", "this one", "the other", "ratio (range)", "of processor time"]]
    for row in rows:
        known = ("seconds", "fastest_seconds", "cpu_seconds", "first_run_seconds")
        known += ("loss", "ratio", "ratio_range", "cpu_ratio", "peak_megabytes")
        names = [f"{key} {value}" for key, value in row.items() if key not in known]
        times = [f"{1e3 * seconds:.1f} ms" for seconds in row["seconds"].values()]
        cpu = f"{row['cpu_ratio']:.3f}"
        table.append([", ".join(names), *times, ratio(row), cpu])
    return table


def tiles_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["", "image", "tile (output side)", "megapixels/s"]]
    for row in rows:
        tile = str(row["tile"]) if row["tile"] else "whole"
        speed = f"{row['megapixels_per_second']:.2f}"
        table.append([row["what"], f"{row['side']}x{row['side']}", tile, speed])
    return table


def systems_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["", "segjax", "PyTorch", "ratio (range)", *BESIDE]]
    for row in rows:
        ours, theirs = (row["seconds"][name] for name in ("segjax", "torch"))
        size = f"batch {row['batch']}, {row['side']}x{row['side']}"
        table.append(
            [
                f"{row['system']}, {row['what']}, {size}",
                f"{1e3 * ours:.1f} ms",
                f"{1e3 * theirs:.1f} ms",
                ratio(row),
                *beside(row),
            ]
        )
    return table


def with_peaks(
    rows: list[dict[str, Any]], name: Callable[[dict[str, Any]], str], unit: str
) -> list[list[str]]:
    """Rows beside torchvision with peak memory; times in "s" or "ms"."""
    table = [["", "segjax", "torchvision", "ratio (range)", "peak memory of both"]]
    written = {"s": "{:.2f} s", "ms": "{:.1f} ms"}[unit]
    factor = {"s": 1, "ms": 1e3}[unit]
    for row in rows:
        both = ("segjax", "torch")
        times = [written.format(factor * row["seconds"][library]) for library in both]
        peaks = [f"{row['peak_megabytes'][library]:.0f}" for library in both]
        memory = f"{' and '.join(peaks)} MB"
        table.append([name(row), *times, ratio(row), memory])
    return table


def regions_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    def name(row: dict[str, Any]) -> str:
        where = f" of {row['height']}x{row['width']}x{row['channels']}"
        what = f"{row['what']}, {row['regions']:,} regions"
        return what if row["what"] == "nms" else what + where

    return with_peaks(rows, name, "ms")


def detectors_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    def name(row: dict[str, Any]) -> str:
        size = f"{row['height']}x{row['width']}"
        return f"{row['what']}, batch {row['batch']}, {size}"

    return with_peaks(rows, name, "s")


def forms_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = [
        "form",
        "network",
        "with it",
        "without",
        "gain (range)",
        "gain by the clock",
    ]
    table = [[*head, "largest difference"]]
    for row in rows:
        low, high = row["gain_range"]
        table.append(
            [
                row["form"],
                row["network"],
                f"{row['cpu_seconds']:.2f} s of processor",
                f"{row['cpu_seconds_without']:.2f} s",
                f"**{row['gain']:.2f}** ({low:.2f} to {high:.2f})",
                f"{row['gain_by_the_clock']:.2f}",
                f"{row['difference']:.0e}",
            ]
        )
    return table


def fcn_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["", "work", "one image", "range"]]
    for row in rows:
        low, high = (f"{1e3 * x:.0f}" for x in row["seconds_range"])
        name = f"{row['network']}, {row['side']}x{row['side']}"
        time = f"{1e3 * row['seconds']:.0f} ms"
        table.append([name, f"{row['gflops']:.0f} GFLOP", time, f"{low} to {high} ms"])
    return table


def sliding_window_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["", "patch by patch", "at once", "ratio of time", "ratio of work"]]
    for row in rows:
        times = [f"{row['seconds'][form]:.2f} s" for form in ("patches", "dense")]
        larger = [f"{n}: {r:.0f}" for n, r in row["work_ratio_of_larger"].items()]
        work = f"**{row['work_ratio']:.0f}** ({', '.join(larger)})"
        name = f"{row['network']}, {row['side']}x{row['side']}"
        table.append([name, *times, f"**{row['time_ratio']:.0f}**", work])
    return table


def upsampling_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["", "parameters", "steps", "training"]
    table = [[*head, "global", "class average", "mean IoU", "boundary F1"]]
    metrics = ("pixel_accuracy", "mean_accuracy", "mean_iou", "boundary_f1")
    for row in rows:
        numbers = [f"{100 * row[metric]:.1f}" for metric in metrics]
        name = row["operator"].replace("_", " ")
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.0f} s"
        cost = [f"{row['parameters']:,}", str(row["steps"]), seconds]
        table.append([name, *cost, *numbers])
    return table


def depthwise_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["", "segjax", "XLA's own form", "PyTorch", "ratio (range)"]]
    for row in rows:
        ways = ("segjax", "stock", "torch")
        times = [f"{1e3 * row['seconds'][way]:.1f} ms" for way in ways]
        shape = f"{row['batch']}x{row['side']}x{row['side']}x{row['channels']}"
        name = f"{row['what']}, {shape}, stride {row['stride']}, dilation {row['dilation']}"
        table.append([name, *times, ratio(row)])
    return table


def crf_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Ratios here are those of the peer to segjax: above 1, segjax is faster."""
    head = ["", "steps", "segjax", "pydensecrf", "ratio (range)"]
    more = {
        "without building": "wall_steps",
        "processor time": "cpu_whole",
        "its ratio without building": "cpu_steps",
    }
    table = [[*head, *more]]
    for row in rows:
        whole = row["wall_whole"]
        times = [
            f"{1e3 * whole['seconds'][name]:.0f} ms"
            for name in ("segjax", "pydensecrf")
        ]
        cells = [row["what"], str(row["steps"]), *times, ratio(whole)]
        table.append([*cells, *(f"{row[key]['ratio']:.2f}" for key in more.values())])
    return table


def import_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["", "file", "seconds", "memory"]]
    for row in rows:
        size = f"{row['file_bytes'] / 1e6:.0f} MB"
        memory = f"{row['gigabytes']:.2f} GB"
        table.append([row["source"], size, f"{row['seconds']:.1f}", memory])
    return table


def input_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["", "images a core second", "the other checkout"]
    table = [[*head, "ratio of processor time"]]
    for row in rows:
        rates = [f"{x:.1f}" for x in row["images_per_core_second"].values()]
        table.append([row["what"], *rates, f"**{row['cpu_ratio']:.2f}**"])
    return table


def reading_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["", "processor time", "the other checkout", "ratio (range)"]]
    for row in rows:
        times = (f"{row[key]:.3f} s" for key in ("seconds", "other"))
        low, *_, high = row["ratios"]
        table.append(
            [row["what"], *times, f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})"]
        )
    return table


def empty_pages_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["training images", "steps", "test mean IoU"]
    kinds = ("noise", "constant", "gradient")
    table = [[*head, *(f"most foreground, {kind}" for kind in kinds)]]
    for row in rows:
        worst = [
            max(x for name, x in row["foreground"].items() if name.startswith(kind))
            for kind in kinds
        ]
        cells = [str(row["training_images"]), str(row["steps"])]
        mean_iou = f"{row['test_mean_iou']:.3f}"
        table.append([*cells, mean_iou, *(f"{100 * x:.2f} %" for x in worst)])
    return table


def nuclei_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of trainings, and of the watershed, which all of them share."""
    thresholds = [f"f1@{t}" for t in (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)]
    table = [["training", "minutes", "images", *thresholds, "mean F1"]]
    for row in rows:
        name = row["trained"] if "trained" in row else f"seed {row['seed']}"
        figures = [f"{row[key]:.3f}" for key in (*thresholds, "mean_f1")]
        minutes = str(row.get("minutes_of_training", "-"))
        table.append([name, minutes, str(row["images"]), *figures])
    below = [f"{rows[0][f'watershed/{key}']:.3f}" for key in thresholds]
    name = "Otsu's threshold and a watershed"
    return [*table, [name, "-", str(rows[0]["images"]), *below, "-"]]


def zero_shot_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["source", "input", "images", "mean IoU", "pixels right", "images/s"]]
    for row in rows:
        side = "x".join(map(str, row["input_size"] or ["as it is"]))
        figures = [f"{100 * row[key]:.1f} %" for key in ("mean_iou", "pixel_accuracy")]
        rate = f"{row['images_per_second']:.2f}"
        table.append([row["source"], side, str(row["images"]), *figures, rate])
    return table


def fine_tuning_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["training", "steps", "minutes", "images", "mean IoU", "pixels right"]]
    for row in rows:
        figures = [f"{100 * row[key]:.1f} %" for key in ("mean_iou", "pixel_accuracy")]
        size = [str(row["steps"]), f"{row['minutes']:.1f}", str(row["images"])]
        table.append([f"seed {row['seed']}", *size, *figures])
    return table


def voc_samples_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["source", "images", "mean IoU of the classes in the label", "least"]]
    for name, found in rows[0].items():
        if isinstance(found, dict) and "images" in found:
            each = [image["mean"] for image in found["images"].values()]
            figures = [f"{100 * x:.1f} %" for x in (found["mean"], min(each))]
            table.append([name, str(len(each)), *figures])
    return table


TABLES = {
    "plan": plan_rows,
    "rounded_sums": rounded_sums_rows,
    "sharding": sharding_rows,
    "tracing": tracing_rows,
    "tracing_tpu": tracing_rows,
    "tracing_cuda": tracing_rows,
    "remat": remat_rows,
    "remat_tpu": remat_rows,
    **{f"fine_tuning_{x}": fine_tuning_rows for x in ("cityscapes", "random", "unet")},
    "zero_shot": zero_shot_rows,
    "voc_samples": voc_samples_rows,
    "nuclei": nuclei_rows,
    "nuclei_five": nuclei_rows,
    "empty_pages": empty_pages_rows,
    "forms": forms_rows,
    "input": input_rows,
    "reading": reading_rows,
    "crf": crf_rows,
    "import_weights": import_rows,
    "depthwise": depthwise_rows,
    "unet": unet_rows,
    "fcn": fcn_rows,
    "tiles": tiles_rows,
    "upsampling": upsampling_rows,
    "systems": systems_rows,
    "programs": programs_rows,
    "serving": serving_rows,
    "regions": regions_rows,
    "detectors": detectors_rows,
    "sliding_window": sliding_window_rows,
}


def section(path: Path) -> str:
    """The heading, the conditions, and the table of one file."""
    result = json.loads(path.read_text(encoding="utf-8"))
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items() if v)
    before, after = (result[f"load_{when}"][0] for when in ("before", "after"))
    against = result.get("against")
    if against:
        versions += f"; {result['commit']} beside {against}"
    return (
        f"### {result['what']}, {result['date']}, {result['hardware']}, "
        f"{result['cores']} cores\n\n"
        f"{versions}; load {before:.1f} before and {after:.1f} after "
        f"([JSON](results/{path.name})).\n\n{table(result)}\n"
    )


def table(result: dict[str, Any]) -> str:
    """The table of what one file holds."""
    rows_of = against_rows if result.get("against") else TABLES[result["what"]]
    head, *body = rows_of(result.get("rows", [result]))
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plan_page() -> str:
    """The page about plans, with the table of the newest result."""
    newest = max(FOLDER.glob("*-plan-*.json"))
    result = json.loads(newest.read_text(encoding="utf-8"))
    text = PLAN_PAGE.read_text(encoding="utf-8")
    return MARKS.sub(lambda m: f"{m[1]}\n{table(result)}\n{m[2]}", text)


def main() -> None:
    sections = [section(path) for path in sorted(FOLDER.glob("*.json"), reverse=True)]
    text = README.read_text(encoding="utf-8")
    README.write_text(
        MARKS.sub(lambda m: m[1] + "\n" + "\n".join(sections) + m[2], text),
        encoding="utf-8",
    )
    PLAN_PAGE.write_text(plan_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
