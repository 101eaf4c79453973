"""The gallery of operators has every public one, with a picture of its example and its cost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from site_parts import gallery
from site_parts.gallery_pictures import (
    Panel,
    drawn,
    gradient_panels,
    plane,
)

from segjax import layers, ops

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS.parent / "benchmarks" / "results"


def test_every_public_operator_has_a_group_and_an_example() -> None:
    found = gallery.public(ops)
    source = (DOCS.parent / "segjax" / "ops" / "__init__.py").read_text(
        encoding="utf-8"
    )
    assert set(found) == set(re.findall(r"import \(?\s*\w+ as (\w+)", source))
    for name, operator in found.items():
        assert operator.__module__.split(".")[2] in gallery.GROUPS, name
        assert ">>>" in operator.__doc__, name


def test_every_public_layer_is_made() -> None:
    assert set(gallery.public(layers)) == set(gallery.LAYERS)


def test_an_example_is_run_and_its_arrays_are_kept() -> None:
    example = gallery.run_example("conv_transpose", ops.conv_transpose)
    (result,) = (p.values for p in example.panels if p.title == "result")
    assert plane(result).tolist() == [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
    assert len(example.calls) == 1
    assert re.match(r"The call of the example: \d+ operations", gallery.cost(example))
    assert "conv_transpose(" in example.code


def test_an_operator_without_an_example_is_refused() -> None:
    with pytest.raises(ValueError, match="plane2 has no example"):
        gallery.run_example("plane2", lambda: None)


def test_what_runs_on_the_host_says_so() -> None:
    example = gallery.run_example("base_anchors", ops.base_anchors)
    assert gallery.cost(example) == "On the host, in NumPy."


def test_times_are_those_of_the_results() -> None:
    times = gallery.times(RESULTS)
    assert {"nms", "roi_align", "roi_pool", "dense_crf", "conv"} <= set(times)
    (path,) = RESULTS.glob("*-regions-*.json")
    file = json.loads(path.read_text())
    (row,) = (r for r in file["rows"] if r["what"] == "roi_pool")
    assert f"{1000 * row['seconds']['segjax']:.3g} ms with segjax" in times["roi_pool"]
    assert file["date"] in times["roi_pool"]


def test_sources_are_read_from_docstrings() -> None:
    assert "1703.06870" in gallery.source_of(ops.roi_align)
    assert "1210.5644" in gallery.source_of(ops.mean_field)


def test_small_arrays_are_numbers_and_large_ones_pictures() -> None:
    small = drawn([Panel("x", np.arange(4).reshape(2, 2))])
    both = drawn(
        [Panel("x", np.arange(4).reshape(2, 2)), Panel("y", np.ones((20, 20)))]
    )
    assert both.width > small.width
    boxes = drawn([Panel("boxes", np.array([[0.0, 0, 4, 4]]))])
    assert boxes.size[0] > 50
    assert len(boxes.getcolors() or ()) > 1


def test_a_layer_looks_where_its_taps_are() -> None:
    (panel,), count, shape = gradient_panels(
        "Conv", layers.Conv(4, padding=2, dilation=2)
    )
    rows, columns = np.nonzero(panel.values)
    assert set(rows) == set(columns) == {10, 12, 14}
    assert count == 9 * 4 * 4 + 4
    assert shape == [1, 25, 25, 4]


@pytest.mark.slow
def test_the_page_has_all_of_them(tmp_path: Path) -> None:
    text = gallery.markdown(tmp_path, RESULTS, "pictures")
    names = {*gallery.public(ops), *gallery.public(layers)}
    assert set(re.findall(r"^### (\w+)$", text, re.M)) == names
    assert {path.stem for path in tmp_path.glob("*.png")} == names
    assert text.count("\nCost: ") == len(names)
    assert text.count("Reference: [segjax.") == len(names)
    assert gallery.MARK in (DOCS / "gallery.md").read_text(encoding="utf-8")
