"""Tables of exported programs and of their service."""

from __future__ import annotations

from typing import Any

from results import ratio


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
