"""The gallery of operators: one page, made of docstrings, their examples, and benchmark results.

An operator's example is run, and what it names is drawn: small arrays as numbers, larger ones as
pictures, boxes as boxes. Layers have no small numbers to show: what is drawn is the gradient of
one output pixel, which says where it looks. Costs are XLA's count for that very call, and times
where `benchmarks/results` has some.
"""

from __future__ import annotations

import doctest
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from segjax import layers, ops
from site_parts.gallery_pictures import Panel, drawn, gradient_panels

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGE = "docs/gallery"
MARK = "<!-- operators -->"
"""Where on the page they come."""

MOST_PANELS = 6
GROUPS = {
    "convolution": "Convolution",
    "pooling": "Pooling",
    "resizing": "Resizing",
    "normalization": "Normalisation",
    "attention": "Attention",
    "regions": "Boxes and regions",
    "crf": "Conditional random fields",
}
LAYERS = {
    "ASPP": "layers.ASPP(features=4, rates=(2, 4, 6))",
    "BatchNorm": "layers.BatchNorm()",
    "Conv": "layers.Conv(4, padding=2, dilation=2)",
    "ConvNorm": "layers.ConvNorm(4, kernel_size=(5, 5))",
    "DenseCRF": "layers.DenseCRF(num_classes=4, sigma_alpha=4.0, sigma_gamma=2.0, method='exact')",
    "FPN": "layers.FPN(features=4)",
    "GroupNorm": "layers.GroupNorm(groups=2)",
    "InvertedResidual": "layers.InvertedResidual(4, expanded=12, kernel=5)",
    "PyramidPooling": "layers.PyramidPooling(bins=(1, 2, 3, 6))",
    "SeparableConvNorm": "layers.SeparableConvNorm(4, dilation=3)",
    "SqueezeExcitation": "layers.SqueezeExcitation(features=2)",
    "UpConv": "layers.UpConv(4)",
    "Upsample": "layers.Upsample(factor=4, taps=8)",
}
"""How each layer is made for its picture; all get a map of 25 x 25 with 4 channels."""


class Example(NamedTuple):
    """An example that was run.

    Attributes:
      code: as it stands in the docstring.
      panels: what it named, in order.
      calls: of the operator: function, arguments, keywords.
    """

    code: str
    panels: list[Panel]
    calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]


def public(package: ModuleType) -> dict[str, Any]:
    """What a package exports.

    Args:
      package: `segjax.ops` or `segjax.layers`.

    Returns:
      Functions or classes by name.
    """
    found = {name: getattr(package, name) for name in dir(package) if name[0] != "_"}
    start = f"{package.__name__}."
    return {
        name: thing
        for name, thing in found.items()
        if getattr(thing, "__module__", "").startswith(start)
    }


def run_example(name: str, operator: Callable[..., Any]) -> Example:
    """Runs the example of a docstring.

    Args:
      name: of the operator.
      operator: itself.

    Returns:
      The example, with what can be drawn.

    Raises:
      ValueError: if the docstring has none.
    """
    parts = doctest.DocTestParser().get_examples(inspect.getdoc(operator) or "")
    if not parts:
        raise ValueError(f"the docstring of {name} has no example for the gallery")
    calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def recorded(*args: Any, **keywords: Any) -> Any:
        calls.append((operator, args, keywords))
        result = operator(*args, **keywords)
        results.append(result)
        return result

    results: list[Any] = []
    names = {**vars(inspect.getmodule(operator) or ops), name: recorded}
    before = set(names)
    for part in parts:
        exec(compile(part.source, f"<{name}>", "exec"), names)
    shown = [(key, names[key]) for key in names if key not in before]
    flat = jax.tree.leaves([results[-1]]) if results else []
    known = {id(value) for _, value in shown}
    shown += [("result", leaf) for leaf in flat if id(leaf) not in known]
    panels = [
        Panel(title, np.asarray(value))
        for title, value in shown
        if isinstance(value, np.ndarray | jax.Array) and value.ndim > 0 and value.size
    ]
    code = "".join(part.source for part in parts)
    return Example(code.rstrip(), panels[:MOST_PANELS], calls)


def cost(example: Example) -> str:
    """What XLA counts for the operator's last call in an example.

    Args:
      example: of `run_example`.

    Returns:
      A sentence; "On the host, in NumPy." where nothing can be compiled.
    """
    if not example.calls:
        return ""
    function, args, keywords = example.calls[-1]
    leaves, tree = jax.tree.flatten((args, keywords))
    is_array = [isinstance(x, jax.Array) for x in leaves]

    def call(arrays: list[jax.Array]) -> Any:
        given = iter(arrays)
        both = [
            next(given) if array else leaf
            for leaf, array in zip(leaves, is_array, strict=True)
        ]
        args, keywords = jax.tree.unflatten(tree, both)
        return function(*args, **keywords)

    arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
    try:
        counted = jax.jit(call).lower(arrays).cost_analysis()
    except (TypeError, ValueError, jax.errors.JAXTypeError):
        counted = None
    if not arrays or not counted:
        return "On the host, in NumPy."
    operations, moved = counted.get("flops", 0), counted.get("bytes accessed", 0)
    return f"The call of the example: {operations:,.0f} operations, {moved:,.0f} bytes read and written, by XLA's count."


def times(results: Path) -> dict[str, str]:
    """Sentences about operators whose time was measured.

    Args:
      results: the folder `benchmarks/results`.

    Returns:
      By the name of the operator.
    """
    found: dict[str, list[str]] = {}

    def note(
        name: str, what: str, seconds: dict[str, float], file: dict[str, Any]
    ) -> None:
        written = ", ".join(
            f"{1000 * s:.3g} ms with {who}" for who, s in seconds.items()
        )
        place = f"{file['hardware']}, {file['cores']} cores, {file['date']}"
        found.setdefault(name, []).append(f"{what}: {written} ({place}).")

    for path in sorted(results.glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        for row in file.get("rows", ()):
            if file["what"] == "regions":
                what = f"{row['what']}, {row['regions']:,} regions"
                note(row["what"].split()[0], what, row["seconds"], file)
            elif file["what"] == "crf":
                what = f"{row['what']}, {row['steps']} steps"
                note("dense_crf", what, row["wall_whole"]["seconds"], file)
            elif file["what"] == "depthwise" and row["what"] == "forward":
                what = f"depthwise, {row['batch']} x {row['side']} x {row['side']} x {row['channels']}"
                note("conv", f"{what}, stride {row['stride']}", row["seconds"], file)
    return {name: " ".join(lines[:4]) for name, lines in found.items()}


def source_of(thing: Any) -> str:
    """The sentence in which a docstring, or that of its module, names where it is from.

    Args:
      thing: a function or a class.

    Returns:
      The sentence, or "" if neither names a paper.
    """
    for text in (inspect.getdoc(thing), inspect.getdoc(inspect.getmodule(thing))):
        for paragraph in re.split(r"\n\s*\n", text or ""):
            if re.search(r"arXiv \d{4}\.\d{4,5}|\b(19|20)\d\d\b", paragraph):
                joined = " ".join(paragraph.split())
                sentences = re.split(r"(?<=[a-z0-9)`][.:]) (?=[A-Z])", joined)
                named = [x for x in sentences if re.search(r"\b(19|20)\d\d\b|arXiv", x)]
                return " ".join(named).removeprefix("Source: ")
    return ""


def _entry(package: str, name: str, thing: Any, lines: list[str]) -> str:
    module = thing.__module__
    first = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    head = [
        f"({package}-{name.lower().replace('_', '-')})=",
        f"### {name}",
        "",
        first,
        "",
    ]
    source = source_of(thing)
    foot = [f"Reference: [segjax.{package}.{name}](/docs/api/{module}.rst)."]
    if source:
        foot.append(f"Source: {source}")
    return "\n".join([*head, *lines, "", " ".join(foot), ""])


def markdown(pictures: Path, results: Path, relative: str) -> str:
    """Makes the whole list.

    Args:
      pictures: folder for the pictures.
      results: the folder `benchmarks/results`.
      relative: the way from the page to the pictures.

    Returns:
      Markdown; a section for each group, and in it one for each operator.
    """
    pictures.mkdir(parents=True, exist_ok=True)
    measured = times(results)
    sections: dict[str, list[str]] = {title: [] for title in GROUPS.values()}
    for name, operator in public(ops).items():
        example = run_example(name, operator)
        drawn(example.panels).save(pictures / f"{name}.png", optimize=True)
        lines = [
            f"![Arrays of the example of {name}]({relative}/{name}.png)\n",
            f"```python\n{example.code}\n```\n",
            "Cost: " + " ".join(x for x in (cost(example), measured.get(name)) if x),
        ]
        group = GROUPS[operator.__module__.split(".")[2]]
        sections[group].append(_entry("ops", name, operator, lines))
    written = []
    for name, layer in public(layers).items():
        panels, count, shape = gradient_panels(
            name, eval(LAYERS[name], {"layers": layers})
        )
        drawn(panels).save(pictures / f"{name}.png", optimize=True)
        lines = [
            f"![Where one output pixel of {name} looks]({relative}/{name}.png)\n",
            f"```python\n{LAYERS[name]}\n```\n",
            f"Cost: {count:,} parameters on 4 channels; `[1, 25, 25, 4]` becomes `{shape}`.",
        ]
        written.append(_entry("layers", name, layer, lines))
    sections["Layers"] = written
    return "\n".join(f"## {title}\n\n" + "\n".join(x) for title, x in sections.items())


def setup(app: Sphinx) -> None:
    """Puts the list where the page has its mark."""

    def read(app: Sphinx, page: str, source: list[str]) -> None:
        if page == PAGE:
            root = Path(app.confdir).parent
            made, results = root / "docs/_build/gallery", root / "benchmarks/results"
            for pattern in ("segjax/ops/**/*.py", "segjax/layers/*.py"):
                for path in root.glob(pattern):
                    app.env.note_dependency(str(path))
            source[0] = source[0].replace(
                MARK, markdown(made, results, "_build/gallery")
            )

    app.connect("source-read", read)
