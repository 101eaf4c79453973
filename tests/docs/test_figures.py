"""The interactive figures: what they show is what segjax computes, and they answer to keys and drags."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from site_parts import figures, interactive

from segjax import ops
from segjax.data.semantic.weight_map import border_weight

DOCS = Path(__file__).resolve().parents[2] / "docs"

PAGE = (DOCS / "figures.md").read_text(encoding="utf-8")


def _browser() -> ModuleType:
    path = Path(__file__).with_name("browser.py")
    spec = importlib.util.spec_from_file_location("browser", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Figure:
    """A figure on the open page."""

    def __init__(self, page: Any, name: str) -> None:
        self.page, self.name = page, name
        self.place = f"[data-play={name}]"
        assert page.run(f"document.querySelector('{self.place}').dataset.ready")

    def said(self) -> dict[str, str]:
        """The numbers below the figure."""
        found: dict[str, str] = self.page.run(
            f"Object.fromEntries([...document.querySelectorAll('{self.place} dd')]"
            ".map(e => [e.dataset.said, e.textContent]))"
        )
        return found

    def control(self, key: str) -> str:
        return f"{self.place} [data-key={key}]"

    def slide(self, key: str, steps: int) -> str:
        """Moves a slider by arrow keys, and says what it shows then."""
        control = self.control(key)
        self.page.run(f"document.querySelector('{control}').focus()")
        for _ in range(abs(steps)):
            self.page.press("ArrowRight" if steps > 0 else "ArrowLeft")
        shown: str = self.page.run(
            f"document.querySelector('{control}').parentElement.querySelector('output').textContent"
        )
        return shown

    def choose(self, key: str, option: str) -> None:
        self.page.run(
            f"(() => {{ const e = document.querySelector('{self.control(key)}'); e.value = {option!r};"
            "e.dispatchEvent(new Event('input')) })()"
        )

    def drag(self, *places: tuple[float, float], view: int = 0) -> None:
        """Drags in one of the views; places are fractions of its width and height."""
        mark = f"play-{self.name}-{view}"
        self.page.run(
            f"document.querySelectorAll('{self.place} .play-view')[{view}].id = '{mark}'"
        )
        self.page.drag(f"#{mark}", *places)

    def press(self, *keys: str, view: int = 0, shift: bool = False) -> None:
        """Presses keys with the focus on one of the views."""
        self.page.run(
            f"document.querySelectorAll('{self.place} .play-view')[{view}].focus()"
        )
        for key in keys:
            self.page.press(key, shift=shift)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all figures, as it is in the site."""
    folder = tmp_path_factory.mktemp("figures")
    sizes = interactive.write(folder)
    text = interactive.shared(".")
    text += "".join(interactive.markup(name, ".", sizes[name]) for name in sizes)
    head = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    (folder / "all.html").write_text(head + text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def page(site: Path) -> Iterator[Any]:
    browser = _browser()
    program = browser.executable()
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    with browser.opened(program) as opened:
        opened.open(site / "all.html")
        yield opened
        assert opened.errors == []


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", text)]


def test_the_page_has_every_figure_once() -> None:
    assert re.findall(r"^```\{interactive\} (\w+)$", PAGE, re.M) == list(figures.NAMES)
    sources = {path.stem for path in interactive.SOURCES.glob("*.js")} - {"figures"}
    assert sources == set(figures.NAMES)
    assert len(figures.NAMES) >= 10


@pytest.mark.parametrize("name", figures.NAMES)
def test_without_javascript_there_is_a_picture_and_what_it_means(name: str) -> None:
    text = interactive.markup(name, "_static/play", (3, 2))
    alternative = re.search(r'<img [^>]*alt="([^"]+)"', text)
    assert alternative is not None
    assert len(alternative[1]) > 40
    caption = re.search(r"<figcaption>(.+)</figcaption>", text)
    assert caption is not None
    assert len(caption[1]) > 100
    assert "http" not in text


def test_an_unknown_figure_is_named() -> None:
    with pytest.raises(KeyError, match="no figure 'tap'"):
        figures.module("tap")


def test_numbers_come_back_from_bytes() -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert (figures.unpacked(figures.packed(values), (2, 3)) == values).all()


@pytest.mark.parametrize(
    "setting", [(3, 1, 2, 2), (5, 3, 2, 4), (4, 2, 1, 0), (1, 4, 1, 1)]
)
def test_taps_are_the_columns_of_the_matrix(setting: tuple[int, int, int, int]) -> None:
    taps = figures.module("taps")
    kernel, stride, dilation, padding = setting
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    matrix = np.asarray(ops.conv_matrix(jnp.ones(kernel), taps.SAMPLES, **options))
    at = taps.data()["settings"]["-".join(map(str, setting))]
    assert len(at["first"]) == len(matrix)
    assert at["unread"] == (matrix == 0).all(0).sum()
    for i, row in enumerate(matrix):
        read = taps.taps(setting, i)
        inside = read[(read >= 0) & (read < taps.SAMPLES)]
        assert inside.tolist() == np.flatnonzero(row).tolist()
        assert read[0] == at["first"][i]


def test_distances_read_from_weights_give_the_weights_of_others() -> None:
    borders = figures.module("borders")
    cells = borders.cells()
    distances = borders.distances(cells)
    for w0, sigma in ((10, 5), (3, 2), (20, 9)):
        weight = border_weight(cells, w0=w0, sigma=sigma)
        ours = 1 + w0 * np.exp(-(distances**2) / (2 * sigma**2))
        np.testing.assert_allclose(ours[cells == 0], weight[cells == 0], atol=3e-3)


@pytest.mark.slow
def test_files_that_hold_are_kept(tmp_path: Path) -> None:
    interactive.write(tmp_path, ["taps"])
    data = tmp_path / "taps.data.js"
    made = data.read_text()
    changed = made.replace('"samples":16', '"samples":17')
    data.write_text(changed)
    interactive.write(tmp_path, ["taps"])
    assert data.read_text() == changed != made
    data.write_text(changed.replace("// ", "// of another state "))
    interactive.write(tmp_path, ["taps"])
    assert data.read_text() == made


@pytest.mark.slow
def test_fields(page: Any) -> None:
    module, figure = figures.module("fields"), Figure(page, "fields")
    for name in ("three, dilated by 1, 2, 4", "U-Net, two levels"):
        figure.choose("network", name)
        figure.drag((0.3, 0.7), (0.57, 0.08))
        figure.press("ArrowDown", "ArrowRight")
        row, column = map(int, numbers(figure.said()["pixel"]))
        pixel = np.array([(row, column)])
        (seen,) = module.windows(module.gradients(module.networks()[name], pixel))
        top, left, bottom, right = seen
        assert figure.said()["rows"] == f"{top} to {bottom - 1}"
        assert figure.said()["columns"] == f"{left} to {right - 1}"
        assert (row, column) == (int(0.08 * 64) + 1, int(0.57 * 64) + 1)


@pytest.mark.slow
def test_taps(page: Any) -> None:
    figure = Figure(page, "taps")
    before = figure.said()["reads"]
    setting = [int(figure.slide(key, n)) for key, n in (("kernel", 1), ("stride", 1))]
    setting += [int(figure.slide("dilation", 1)), int(figure.slide("padding", 2))]
    figure.press("ArrowRight")
    kernel, stride, dilation, padding = setting
    matrix = ops.conv_matrix(
        jnp.ones(kernel), 16, stride=stride, dilation=dilation, padding=padding
    )
    said = figure.said()
    inside = [
        int(x) for x in re.sub(r"\(-?\d+\)", "", said["reads"]).split(",") if x.strip()
    ]
    assert inside == np.flatnonzero(matrix[4]).tolist()
    assert int(said["outputs"]) == len(matrix)
    assert said["reads"] != before


@pytest.mark.slow
def test_transposed(page: Any) -> None:
    module, figure = figures.module("transposed"), Figure(page, "transposed")
    assert figure.slide("step", 2) == "4"
    stride, padding = int(figure.slide("stride", 0)), int(figure.slide("padding", 1))
    figure.press("ArrowUp", "ArrowLeft", view=1)
    kernel = jnp.asarray(module.KERNEL)[:, :, None, None]
    x = jnp.asarray(module.INPUT)[None, :, :, None]
    expected = ops.conv_transpose(x, kernel, stride=stride, padding=padding)[0, :, :, 0]
    said = figure.said()
    assert int(said["value"]) == expected[1, 1]
    assert float(said["sum"]) == float(expected.sum())
    assert int(said["output side"]) == len(expected)
    assert numbers(said["row 1, column 1"])[-1] == expected[1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["index unpooling", "bilinear, edges"])
def test_upsampling(page: Any, way: str) -> None:
    module, figure = figures.module("upsampling"), Figure(page, "upsampling")
    figure.choose("way", way)
    factor = int(figure.slide("factor", 1))
    figure.drag((0.1, 0.1), (0.62, 0.4), view=2)
    row, column = map(int, numbers(figure.said()["pixel"]))
    image = module.original()
    small, where = ops.max_pool_with_indices(
        jnp.asarray(image)[None, :, :, None], window=factor
    )
    expected = np.asarray(module.ways(factor)[way](small, where))[0, :, :, 0]
    said = figure.said()
    assert (row, column) == (int(0.4 * 32), int(0.62 * 32))
    assert (
        abs(float(said["enlarged"]) - expected[row, column]) < 0.0026
    )  # half of 1 / 255
    assert abs(float(said["mean error"]) - abs(expected - image).mean()) < 1e-4


@pytest.mark.slow
def test_corners(page: Any) -> None:
    figure = Figure(page, "corners")
    size, value = int(figure.slide("size", -2)), float(figure.slide("value1", 7))
    figure.press("ArrowLeft")
    x = jnp.asarray([10.0, value, 20.0, 30.0]).reshape(1, 1, 4, 1)
    said = figure.said()
    pixel = int(said["pixel"])
    for key, align_corners in (("corners aligned", True), ("edges aligned", False)):
        resized = ops.resize_bilinear(x, size=(1, size), align_corners=align_corners)
        assert abs(float(said[key]) - float(resized[0, 0, pixel, 0])) < 2e-3
    assert float(said["apart"]) > 0


@pytest.mark.slow
def test_seam(page: Any) -> None:
    figure = Figure(page, "seam")
    found = {}
    while (step := int(figure.slide("step", 0))) not in found:
        found[step] = float(figure.said()["largest difference"])
        figure.slide("step", -1)
    assert 48 in found
    assert 64 in found
    for step, largest in found.items():
        assert (largest < 1e-4) == (step % 16 == 0), step


@pytest.mark.slow
def test_borders(page: Any) -> None:
    module, figure = figures.module("borders"), Figure(page, "borders")
    w0, sigma = int(figure.slide("w0", 4)), int(figure.slide("sigma", -2))
    figure.press("ArrowDown")
    row, column = map(int, numbers(figure.said()["pixel"]))
    weight = border_weight(module.cells(), w0=w0, sigma=sigma)
    assert abs(float(figure.said()["weight"]) - weight[row, column]) < 0.02
    assert abs(float(figure.said()["mean weight"]) - weight.mean()) < 2e-3


@pytest.mark.slow
def test_mean_field(page: Any) -> None:
    module, figure = figures.module("mean_field"), Figure(page, "mean_field")
    weight, steps = float(figure.slide("weight", -6)), int(figure.slide("step", 3))
    figure.press("ArrowDown", view=1)
    expected = module.courses((weight,), steps)[0, -1, 2, 1]
    (exact,), _ = module.exact((weight,))
    assert abs(float(figure.said()["P(object)"]) - expected) < 1e-4
    assert abs(float(figure.said()["exact"]) - exact[2, 1]) < 1e-4


@pytest.mark.slow
def test_crf(page: Any) -> None:
    module, figure = figures.module("crf"), Figure(page, "crf")
    widths = [float(figure.slide(key, n)) for key, n in (("alpha", -1), ("beta", 2))]
    p = module.refined(*widths, float(figure.slide("gamma", -1)))
    said = figure.said()
    assert (
        abs(int(said["pixels called object"]) - (p > 0.5).sum()) <= 2
    )  # rounded to bytes
    assert abs(float(said["mean IoU refined"]) - module.mean_iou(p)) < 1e-4
    assert float(said["mean IoU refined"]) < 0.9


@pytest.mark.slow
def test_confusion(page: Any) -> None:
    module, figure = figures.module("confusion"), Figure(page, "confusion")
    before = figure.said()["lit pixels"]
    stride = int(figure.slide("stride", 1))
    figure.drag((3.8 / 5.4, 3.1 / 4.7), view=2)
    label = module.scenes.shapes(module.SIDE)
    answer = module.restored(label, stride)
    said = figure.said()
    assert (said["true class"], said["given class"]) == ("bars", "bars")
    assert int(said["lit pixels"]) == ((label == 2) & (answer == 2)).sum()
    figure.press("ArrowLeft", view=2)
    assert int(figure.said()["lit pixels"]) == ((label == 2) & (answer == 1)).sum()
    assert before != said["lit pixels"]


@pytest.mark.slow
def test_anchors(page: Any) -> None:
    module, figure = figures.module("anchors"), Figure(page, "anchors")
    threshold, least = float(figure.slide("iou", 2)), float(figure.slide("score", 1))
    boxes, scores = module.answers()
    kept = module.kept(boxes, scores, least, threshold)
    assert int(figure.said()["kept"]) == int(figure.said()["shown"]) == kept.sum()
    assert figure.slide("step", -1) == "boxes above the score"
    assert int(figure.said()["shown"]) == (scores >= least).sum() > kept.sum()


@pytest.mark.slow
def test_regions(page: Any) -> None:
    module, figure = figures.module("regions"), Figure(page, "regions")
    moves = (
        lambda: None,
        lambda: figure.drag((0.5, 0.4), (0.42, 0.31), (0.37, 0.33)),
        lambda: figure.press("ArrowLeft", "ArrowDown", "ArrowDown"),
        lambda: figure.press("ArrowLeft", "ArrowUp", shift=True),
        lambda: figure.drag((0.5, 0.4), (0.9, 0.9)),  # held at the border
    )
    boxes = set()
    for move in moves:
        move()
        said = figure.said()
        box = tuple(numbers(said["box"]))
        expected = module.both(box)
        np.testing.assert_allclose(
            numbers(said["RoIPool"]), expected["pool"].ravel(), atol=1e-3
        )
        np.testing.assert_allclose(
            numbers(said["RoIAlign"]), expected["align"].ravel(), atol=1e-3
        )
        boxes.add(box)
    assert len(boxes) == len(moves)


@pytest.mark.slow
def test_figures_fit_a_phone_and_every_control_has_a_label(
    page: Any, site: Path
) -> None:
    page.open(site / "all.html", width=400)
    assert page.run("document.documentElement.scrollWidth") == 400
    assert page.run("document.querySelectorAll('[data-ready]').length") == len(
        figures.NAMES
    )
    unlabelled = "[...document.querySelectorAll('.play input, .play select')].filter(e => !e.labels.length).length"
    assert page.run(unlabelled) == 0
    unnamed = (
        "[...document.querySelectorAll('.play-view')].filter(e => !e.ariaLabel).length"
    )
    assert page.run(unnamed) == 0
