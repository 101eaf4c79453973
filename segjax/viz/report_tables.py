"""Tables of a report as HTML; every text is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from segjax.viz.report_style import SHADES
from segjax.viz.report_values import Color, ImageRow, Table

_FEW, _MOST = 6, 40
"""Classes up to which a confusion matrix has counts, and up to which it is one."""


def escape(text: object) -> str:
    """Text for HTML, with what cannot be encoded, such as halves of pairs, replaced.

    Example:
      >>> escape('<b class="x">')
      '&lt;b class=&quot;x&quot;&gt;'
    """
    return html.escape(str(text).encode("utf-8", "replace").decode(), quote=True)


def scrolled(table: str, label: str, *, tall: bool = False) -> str:
    """A frame in which a wide table is scrolled, by keyboard, too."""
    return (
        f'<div class="scroll{" tall" * tall}" role=region tabindex=0 '
        f'aria-label="{escape(label)}">{table}</div>'
    )


def facts(values: Mapping[str, object]) -> str:
    """Names and values as a list."""
    rows = (f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items())
    return f"<dl class=facts>{''.join(rows)}</dl>"


def table(values: Table, *, sortable: bool = False) -> str:
    """A table within its frame."""
    body = []
    for i, (name, *cells) in enumerate(values.rows):
        swatch = swatch_of(values.colors[i]) if values.colors else ""
        first = f"<th scope=row>{swatch}<bdi>{escape(name)}</bdi></th>"
        body.append(f"<tr>{first}{''.join(map(_cell, cells))}</tr>")
    numbers = [
        bool(values.rows)
        and all(not isinstance(row[column], str) for row in values.rows)
        for column in range(len(values.header))
    ]
    head = "".join(
        _head(name, is_number, sortable)
        for name, is_number in zip(values.header, numbers, strict=True)
    )
    kind = " class=sortable" if sortable else ""
    return scrolled(
        f"<table{kind}><caption><span>{escape(values.caption)}</span></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>",
        values.caption,
    )


def swatch_of(color: Color) -> str:
    """A small square of a colour."""
    red, green, blue = (int(part) for part in color)
    return (
        '<svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect width="10" '
        f'height="10" fill="#{red:02x}{green:02x}{blue:02x}"/></svg>'
    )


def legend(classes: Sequence[tuple[str, Color]]) -> str:
    """The colours of the classes, as a list."""
    items = (f"<li>{swatch_of(c)}<bdi>{escape(name)}</bdi></li>" for name, c in classes)
    return f"<ul class=legend id=legend>{''.join(items)}</ul>"


def _head(name: str, is_number: bool, sortable: bool) -> str:
    kind = " class=number" if is_number else ""
    text = f"<bdi>{escape(name)}</bdi>"
    if sortable:
        text = f"<button type=button>{text}</button>"
    return f"<th scope=col{kind}>{text}</th>"


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return f"<td class=text>{escape(value)}</td>"
    if not math.isfinite(value):
        return '<td class=number data-value="">-</td>'
    shown = f"{value:,}" if isinstance(value, int) else decimals(value)
    return f"<td class=number data-value={float(value):.6g}>{shown}</td>"


def decimals(value: float) -> str:
    """Writes a number with four decimals, or more where it is small.

    Example:
      >>> decimals(0.3), decimals(12.5), decimals(0.00002)
      ('0.3000', '12.5000', '2e-05')
    """
    tiny = 0 < abs(value) < 0.0005
    return f"{value:.2g}" if tiny else f"{value:,.4f}"


def metric_tables(metrics: Mapping[str, float], split: str) -> str:
    """The metrics of a split: those of all classes, then `iou/<class>` and the like by class."""
    whole = [(k, float(v)) for k, v in metrics.items() if "/" not in k]
    by_class: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        metric, slash, name = key.partition("/")
        if slash:
            by_class.setdefault(name, {})[metric] = float(value)
    kinds = list(dict.fromkeys(kind for row in by_class.values() for kind in row))
    rows: list[tuple[str | float, ...]] = [
        (name, *(row.get(kind, math.nan) for kind in kinds))
        for name, row in by_class.items()
    ]
    tables = table(Table(f"Metrics of {split}", ("metric", "value"), whole))
    if rows:
        by = Table("By class", ("class", *kinds), rows)
        tables += table(by, sortable=True)
    return f"<div class=side>{tables}</div>"


def confusion_table(counts: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix; of more than 40 classes the commonest confusions."""
    counts = np.asarray(counts)
    fractions = counts / np.maximum(counts.sum(1), 1)[:, None]
    if len(names) > _MOST:
        return _commonest(counts, fractions, names)
    few = len(names) <= _FEW
    body = []
    for i, name in enumerate(names):
        cells = []
        for count, fraction in zip(counts[i].tolist(), fractions[i], strict=True):
            shade = round(float(fraction) * SHADES)
            text = f"{fraction:.1%}" if few else f"{100 * fraction:.0f}"
            text = text if few or fraction >= 0.005 else ""
            text += f"<small>{count:,}</small>" if few else ""
            cells.append(f"<td class=shade{shade}>{text}</td>")
        body.append(
            f"<tr><th scope=row><bdi>{escape(name)}</bdi></th>{''.join(cells)}"
            f"<td class=number>{counts[i].sum():,}</td></tr>"
        )
    turned = "" if few else " class=turned"
    head = "".join(
        f"<th scope=col{turned}><bdi>{escape(name)}</bdi></th>" for name in names
    )
    unit = "fraction" if few else "percent"
    caption = f"Rows: true class; columns: predicted class; {unit} of each true class"
    return scrolled(
        f'<table class="confusion{"" if few else " dense"}"><caption><span>{caption}</span></caption>'
        f"<thead><tr><th scope=col>true</th>{head}<th scope=col>pixels</th></tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>",
        "Confusion matrix",
    )


def _commonest(counts: np.ndarray, fractions: np.ndarray, names: Sequence[str]) -> str:
    """The commonest confusions as a list."""
    wrong = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST]
    pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
    rows = [
        (names[i], names[j], int(counts[i, j]), float(fractions[i, j]))
        for i, j in pairs
        if wrong[i, j]
    ]
    header = ("true", "predicted", "pixels", "fraction of the true class")
    return table(Table("The commonest confusions", header, rows), sortable=True)


def image_table(rows: Sequence[ImageRow], encoded: Sequence[Sequence[str]]) -> str:
    """The table of images, sortable; a name opens the view of its image."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.metrics))
    head = _head("image", False, True) + "".join(_head(k, True, True) for k in kinds)
    body = []
    for i, (row, uris) in enumerate(zip(rows, encoded, strict=True)):
        name = f"<bdi>{escape(row.name)}</bdi>"
        if uris:
            name = (
                f"<button type=button class=view data-view=image{i} aria-haspopup=dialog>"
                f'<img src="{uris[0]}" alt="">{name}</button>'
            )
        cells = (row.metrics.get(kind, math.nan) for kind in kinds)
        body.append(f"<tr><th scope=row>{name}</th>{''.join(map(_cell, cells))}</tr>")
    caption = "Images, the worst first"
    return scrolled(
        f'<table class="sortable images"><caption><span>{caption}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>",
        caption,
        tall=True,
    )


def image_views(
    rows: Sequence[ImageRow], encoded: Sequence[Sequence[str]], *, printed: int
) -> str:
    """The views of images with panels; the first few are printed, too."""
    views: list[str] = []
    for i, (row, uris) in enumerate(zip(rows, encoded, strict=True)):
        if not uris:
            continue
        name = escape(row.name)
        panels = "".join(
            f'<figure><img src="{uri}" alt="{escape(panel.caption)}, {name}" '
            f"width={panel.pixels.shape[1]} height={panel.pixels.shape[0]}"
            f"{' class=crisp' if panel.crisp else ''}>"
            f"<figcaption>{escape(panel.caption)}</figcaption></figure>"
            for panel, uri in zip(row.panels, uris[1:], strict=True)
        )
        values = ", ".join(
            f"{escape(kind)} {value if isinstance(value, int) else decimals(value)}"
            for kind, value in row.metrics.items()
            if math.isfinite(value)
        )
        kind = " class=printed" if len(views) < printed else ""
        views.append(
            f"<dialog id=image{i}{kind} aria-labelledby=name{i}><div class=head>"
            f"<h3 id=name{i}><bdi>{name}</bdi></h3><div>"
            "<button type=button data-does=back>Previous</button>"
            "<button type=button data-does=next>Next</button>"
            "<button type=button data-does=close>Close</button></div></div>"
            f"<p class=note>{values}</p><div class=panels>{panels}</div></dialog>"
        )
    return "".join(views)
