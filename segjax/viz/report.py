"""A report of a run or an evaluation: one page of HTML that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from segjax.viz.report_curves import curves
from segjax.viz.report_pictures import encode_rows
from segjax.viz.report_reliability import reliability
from segjax.viz.report_style import SCRIPT, SHADES, STYLE
from segjax.viz.report_tables import (
    confusion_table,
    escape,
    facts,
    image_table,
    image_views,
    legend,
    metric_tables,
    table,
)
from segjax.viz.report_values import ImageRow, ReportContent, Table

MAX_BYTES = 5_000_000
"""Of a report, unless another number is given."""

_PRINTED = 8
"""How many of the worst images are printed with their pictures."""

_OF_WHAT = "<p class=note>Of the process that wrote this page.</p>"


def render_report(content: ReportContent, *, max_bytes: int = MAX_BYTES) -> str:
    """Renders a report.

    The page holds its style, script and pictures, and loads nothing: a policy within it
    forbids that. Pictures are made smaller until the page is small enough; where its tables
    alone are too long, the best images are left out.

    Args:
      content: what it says; names may hold anything.
      max_bytes: of the page in UTF-8.

    Returns:
      HTML.

    Example:
      >>> page = render_report(ReportContent("a <b> run", {"model": "unet"}))
      >>> "a &lt;b&gt; run" in page, "<b>" in page
      (True, False)
    """
    rows = list(content.images)
    while rows and _size(content, rows) > max_bytes // 2:
        rows = rows[: len(rows) // 2]
    room = max_bytes - _size(content, rows)
    return _page(content, rows, encode_rows(rows, room))


def _size(content: ReportContent, rows: Sequence[ImageRow]) -> int:
    """The bytes of the page with all but the pictures themselves."""
    empty = [("",) * (len(row.panels) + 1) if row.panels else () for row in rows]
    return len(_page(content, rows, empty).encode())


def _page(
    content: ReportContent, rows: Sequence[ImageRow], encoded: Sequence[Sequence[str]]
) -> str:
    """The page with some of its images."""
    sections = {
        "Data": "".join(map(table, content.data)),
        "Curves": _framed("curves", curves(content.log)),
        "Metrics": metric_tables(content.metrics, content.split)
        if content.metrics
        else "",
        "Confusion": confusion_table(*content.confusion) if content.confusion else "",
        "Calibration": _framed("curves", reliability(content.calibration))
        if content.calibration is not None
        else "",
        "Objects": "".join(map(table, content.objects)),
        "Images": _images(content, rows, encoded) if rows else "",
        "Config": table(
            Table("Keys and values", ("key", "value"), flat(content.config))
        )
        if content.config
        else "",
        "Environment": _OF_WHAT + facts(content.environment)
        if content.environment
        else "",
    }
    sections = {name: text for name, text in sections.items() if text}
    links = "".join(f'<a href="#{name}">{name}</a>' for name in sections)
    body = "".join(
        f"<section id={name}><h2>{name}</h2>{text}</section>"
        for name, text in sections.items()
    )
    style = STYLE + _shades()
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(SCRIPT)}'; base-uri 'none'; form-action 'none'"
    )
    title = escape(content.title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,">'
        f"<style>{style}</style></head>\n<body><header><h1>{title}</h1>"
        f'{facts(content.facts)}<nav aria-label="Sections">{links}</nav></header>\n'
        f"<main>{body}</main>\n<script>{SCRIPT}</script></body></html>\n"
    )


def _images(
    content: ReportContent, rows: Sequence[ImageRow], encoded: Sequence[Sequence[str]]
) -> str:
    """The table of images, a note before it, and their views."""
    note = content.images_note
    if len(rows) < len(content.images):
        note += f" The {len(rows):,} worst of {len(content.images):,} are listed."
    if any(row.panels for row in rows):
        note += " A name with a picture opens it."
    return (
        f"<p class=note>{escape(note)}</p>{image_table(rows, encoded)}"
        f"{legend(content.legend) if content.legend else ''}"
        f"{image_views(rows, encoded, printed=_PRINTED)}"
    )


def _framed(name: str, text: str) -> str:
    return f"<div class={name}>{text}</div>" if text else ""


def flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Writes the keys of nested groups with dots, as on the command line.

    Example:
      >>> flat({"seed": 0, "model": {"name": "unet"}})
      [('seed', '0'), ('model.name', "'unet'")]
    """
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", repr(value)))
    return rows


def _shades() -> str:
    """The fields of a confusion matrix: the stronger, the larger the fraction."""
    rules = []
    for i in range(SHADES + 1):
        ink = "color: #fff;" if i >= 0.8 * SHADES else ""
        mix = f"color-mix(in srgb, var(--shade) {100 * i // SHADES}%, var(--panel))"
        rules.append(f".shade{i} {{ background: {mix}; {ink} }}\n")
    return "".join(rules)


def _digest(text: str) -> str:
    """The name by which a policy allows a script or style of the page."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
