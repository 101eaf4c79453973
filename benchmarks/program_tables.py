"""Tables of compiled programs, for benchmarks/README.md (`table.py`)."""

from __future__ import annotations

from typing import Any

from results import ratio


def remat_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["a step", "remat", "kept for the backward pass", "temporary, compiled"]]
    for row in rows:
        step = f"{row['config']}, batch {row['batch_size']}"
        sizes = (row.get(key) for key in ("kept_mib", "temporary_mib"))
        shown = ["-" if size is None else f"{size:,.0f} MiB" for size in sizes]
        table.append([step, "yes" if row["remat"] else "no", *shown])
    return table


def tracing_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    parts = ("state", "trace", "lower")
    table = [["a step", "lowered for", *(f"{part}, CPU s" for part in parts)]]
    for row in rows:
        seconds = [f"{row[f'{part}_seconds']:.1f}" for part in parts]
        table.append([row["config"], row["platform"], *seconds])
    return table


def sharding_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["a step", "layout", "memory a device", "of the first", "loss beside it"]
    table = [[*head, "communication", "maps gathered"]]
    for row in rows:
        first = row["layouts"][0]
        for layout in row["layouts"]:
            is_first = layout is first
            moved = ", ".join(
                f"{x['count']} {kind} {x['bytes'] / 2**20:.1f} MiB"
                for kind, x in layout["collectives"].items()
            )
            part = layout["memory_mib"] / first["memory_mib"]
            far = row.get("loss_difference")
            table.append(
                [
                    row["step"] if is_first else "",
                    f"{layout['layout']}: {layout['devices']}",
                    f"{layout['memory_mib']:,.1f} MiB",
                    "" if is_first else f"{part:.2f}",
                    "" if is_first or far is None else f"{far:.1e}",
                    moved or "none",
                    str(len(layout["gathered"])),
                ]
            )
    return table


def plan_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = [
        "a step",
        "machine",
        "batch",
        "memory a device",
        "in use at once, GiB",
        "fits",
    ]
    head += [
        "TFLOP",
        "traffic, GB",
        "estimate, ms",
        "collectives, MB",
        "compiled in, CPU s",
    ]
    table = [head]
    for row in rows:
        beside = ", CPU forms" if row["forms"] else ""
        step = [row["experiment"] + beside, row["topology"]]
        if "error" in row:
            table.append([*step, row["error"], *["-"] * (len(head) - 3)])
            continue
        shown = lambda value, unit, digits=1: (
            "-" if value is None else f"{value / unit:,.{digits}f}"
        )
        moved = sum(x["bytes"] for x in row.get("collectives", {}).values())
        table.append(
            [
                *step,
                str(row["batch_size"]),
                shown(row["memory"]["peak"], 2**30, 2) + " GiB",
                shown(row["memory"].get("live") or None, 2**30, 2),
                "yes" if row["fits"] else "no",
                shown(row.get("flops"), 1e12),
                shown(row.get("bytes_accessed"), 1e9),
                shown(row.get("seconds_estimated"), 1e-3),
                shown(moved, 1e6),
                f"{row['cpu_seconds']:.0f}",
            ]
        )
    return table


def rounded_sums_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    causes = ("summed_in_bfloat16", "summed_in_float32", "maps_in_bfloat16")
    causes += ("another_batch",)
    table = [["a gradient", "devices", *(x.replace("_", " ") for x in causes)]]
    for row in rows:
        errors = [f"{100 * row[x]:.2g} %" for x in causes]
        table.append([row["config"], str(row["devices"]), *errors])
    return table


def programs_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["", "segjax", "program", "ratio (range)", "first image of both"]
    table = [[*head, "model file", "program"]]
    for row in rows:
        names = ("segjax", "program")
        first = " and ".join(f"{row['first_run_seconds'][x]:.1f} s" for x in names)
        table.append(
            [
                f"{row['config']}, {row['side']}x{row['side']}",
                *(f"{1e3 * row['seconds'][x]:.1f} ms" for x in names),
                *(ratio(row), first),
                *(f"{row[f'{x}_bytes'] / 1e6:.2f} MB" for x in ("model", "program")),
            ]
        )
    return table


def serving_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["", "requests/s", "median, 95 %", "peak memory", "faults"]
    table = [[*head, "when it was stopped"]]
    for row in rows:
        sides, end = row["sides"], row["stopped"]
        table.append(
            [
                f"{row['model']}, {row['requests']:,} requests ({row['broken']} broken), "
                f"{row['clients']} clients, {row['sizes']} sizes from {min(sides)} to "
                f"{max(sides)} pixels",
                f"{row['requests_per_second']:.1f}",
                f"{row['median_ms']:.0f} ms, {row['p95_ms']:.0f} ms",
                f"{row['peak_megabytes']:.0f} MB",
                f"{sum(row['faults'].values())}",
                f"{end['begun']} begun, {end['lost']} lost",
            ]
        )
    return table
