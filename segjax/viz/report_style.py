"""The look of a report, and its little script: sorting of tables, and the view of an image."""

SHADES = 10
"""Classes `shade0` to `shade10` colour the fields of a confusion matrix."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --panel: #f5f6f8; --ink: #1d2126; --faint: #5c6470; --rule: #d5d9df;
  --accent: #0b5fa5; --shade: #0b5fa5;
  --line0: #0072b2; --line1: #c44d00; --line2: #007f5f; --line3: #b04f8b;
  --line4: #9a6a00; --line5: #2b7fb8; --line6: #666666;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --panel: #1d2127; --ink: #e6e9ed; --faint: #a0a8b3; --rule: #363c45;
    --accent: #7dbcf2; --shade: #2f7fc4;
    --line0: #56b4e9; --line1: #f08a4b; --line2: #2fc498; --line3: #dd93bd;
    --line4: #e6b545; --line5: #9ad0f5; --line6: #b0b0b0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1240px; padding: 1rem 1.25rem 4rem;
  background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.6rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .4rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .4rem 0; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .6rem 0; }
.note { color: var(--faint); max-width: 75ch; }
.scroll { overflow-x: auto; max-width: 100%; margin: .6rem 0 1.2rem; }
.tall { max-height: 80vh; overflow-y: auto; }
.tall thead th { position: sticky; top: 0; z-index: 1; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .2rem 0 .3rem; }
caption span { display: block; position: sticky; left: 0; max-width: calc(100vw - 3rem); }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid var(--rule); vertical-align: middle; }
thead th { background: var(--panel); white-space: nowrap; }
tbody th { font-weight: 500; }
th:has(.swatch) { white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.text { overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .2rem 1rem; margin: .6rem 0; }
.facts dt { color: var(--faint); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.swatch { width: .9em; height: .9em; margin-right: .5em; vertical-align: -.1em; }
.swatch rect { stroke: var(--faint); }
.side { display: flex; flex-wrap: wrap; gap: 0 2.5rem; align-items: flex-start; }
.side > * { min-width: 0; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 1rem; }
figure { margin: 0; }
.curve { background: var(--panel); border-radius: 6px; padding: .6rem .7rem; }
.curve figcaption { font-weight: 600; }
.curve > svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: var(--faint); }
svg path { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.grid { stroke: var(--rule); stroke-width: 1; }
.dashed { stroke-dasharray: 4 3; }
circle.dashed { stroke-dasharray: none; }
path.line0 { stroke: var(--line0); }
circle.line0 { fill: var(--line0); }
path.line1 { stroke: var(--line1); }
circle.line1 { fill: var(--line1); }
path.line2 { stroke: var(--line2); }
circle.line2 { fill: var(--line2); }
path.line3 { stroke: var(--line3); }
circle.line3 { fill: var(--line3); }
path.line4 { stroke: var(--line4); }
circle.line4 { fill: var(--line4); }
path.line5 { stroke: var(--line5); }
circle.line5 { fill: var(--line5); }
path.line6 { stroke: var(--line6); }
circle.line6 { fill: var(--line6); }
path.faint { opacity: .35; stroke-width: 1; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; margin: .3rem 0 0; padding: 0; font-size: .85rem; }
.key { width: 20px; height: 8px; margin-right: .35rem; vertical-align: middle; }
.confusion td { text-align: center; white-space: nowrap; border: 2px solid var(--ground); }
.confusion td small { display: block; opacity: .85; }
.confusion thead th { text-align: center; }
.dense td, .dense th { padding: .15rem .3rem; }
.dense td { min-width: 2.1rem; border-width: 1px; }
.dense thead th.turned { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; vertical-align: top; }
button {
  font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; text-align: inherit;
}
button:focus-visible, a:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
thead button { font-weight: 600; }
thead button::after { content: " \\2195"; color: var(--faint); font-weight: 400; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--accent); }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--accent); }
.images tbody th { min-width: 9rem; max-width: 26rem; overflow-wrap: anywhere; }
.view { display: flex; align-items: center; gap: .7rem; color: var(--accent); font-weight: 500; }
.view img { width: 56px; height: 44px; object-fit: cover; border-radius: 3px; flex: none; }
dialog {
  width: min(1200px, 96vw); max-height: 94vh; border: 1px solid var(--rule); border-radius: 8px;
  background: var(--ground); color: var(--ink); padding: 1rem;
}
dialog::backdrop { background: rgb(0 0 0 / .6); }
.head { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center; justify-content: space-between; }
.head div { display: flex; gap: .5rem; }
.head button { border: 1px solid var(--rule); border-radius: 5px; padding: .15rem .7rem; background: var(--panel); }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 250px), 1fr)); gap: .8rem; margin: .8rem 0 .4rem; }
.panels img { width: 100%; height: auto; max-height: 62vh; object-fit: contain; object-position: top left; display: block; }
.panels img.crisp { image-rendering: pixelated; }
.panels figcaption { font-size: .88rem; color: var(--faint); overflow-wrap: anywhere; }
@media (scripting: none) {
  thead button::after { content: none; }
  dialog { display: block; position: static; margin: 1rem 0; width: 100%; max-height: none; }
  .head div { display: none; }
}
@media (max-width: 600px) {
  body { padding: .5rem .7rem 3rem; }
  th, td { padding: .2rem .45rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .4rem; }
  .images tbody th { min-width: 8.5rem; max-width: 12rem; }
  .view { flex-direction: column; align-items: flex-start; gap: .2rem; }
}
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 11px; }
  nav, .head div { display: none; }
  thead button::after { content: none; }
  .tall { max-height: none; }
  .scroll { overflow: visible; }
  .curve, tr, dialog { break-inside: avoid; }
  dialog.printed { display: block; position: static; width: 100%; max-height: none; margin: .6rem 0; }
  .panels { grid-template-columns: repeat(4, 1fr); }
}
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? parseFloat(cell.dataset.value) : cell.textContent.trim();
  };
  const compare = (a, b) => typeof a === "string"
    ? a.localeCompare(b, undefined, {numeric: true})
    : a - b;
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => {
      const gaps = Number.isNaN(a) - Number.isNaN(b);
      return gaps || (Number.isNaN(a) ? 0 : down ? compare(b, a) : compare(a, b));
    });
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows.map(([, row]) => row));
  }));
}
const views = () => [...document.querySelectorAll("button[data-view]")];
const legend = document.getElementById("legend");
const open = (button) => {
  const dialog = document.getElementById(button.dataset.view);
  if (legend) dialog.append(legend);
  dialog.showModal();
};
for (const button of views()) {
  button.addEventListener("click", () => open(button));
}
for (const dialog of document.querySelectorAll("dialog")) {
  const go = (by) => {
    const buttons = views();
    const next = buttons.findIndex((button) => button.dataset.view === dialog.id) + by;
    if (buttons[next]) {
      dialog.close();
      buttons[next].focus();
      open(buttons[next]);
    }
  };
  dialog.addEventListener("click", (event) => {
    const does = event.target.dataset.does;
    if (does === "close" || event.target === dialog) dialog.close();
    if (does === "next") go(1);
    if (does === "back") go(-1);
  });
  dialog.addEventListener("close", () => {
    const isOpen = document.querySelector("dialog[open]");
    if (legend && !isOpen) document.querySelector("dialog").before(legend);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") go(1);
    if (event.key === "ArrowLeft") go(-1);
  });
}
"""
