"""Reports: complete, small enough, and safe whatever names say."""

import base64
import hashlib
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from segjax.viz.report import render_report
from segjax.viz.report_curves import curves, thinned, ticks
from segjax.viz.report_pictures import SIZES, encode_rows
from segjax.viz.report_tables import confusion_table
from segjax.viz.report_values import ImageRow, Panel, ReportContent, Table, worst_first

HOSTILE = (
    "<script>alert(1)</script>.png",
    '" onerror="alert(1).png',
    "</dialog><img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\udc80 of another encoding.tif",
)


class Page(html.parser.HTMLParser):
    """The elements of a page, and the texts within them."""

    VOID = frozenset(("meta", "link", "img", "rect", "path", "circle"))

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def panels(side=40, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (side, side, 3), np.uint8)
    label = np.zeros((side, side, 3), np.uint8)
    label[: side // 2] = 250
    return (Panel("image", noise), Panel("label", label, crisp=True))


def content(**changes):
    values = {
        "title": "a run",
        "facts": {"Network": "unet"},
        "data": [Table("Splits", ("split", "images"), [("train", 7)], [(1, 2, 3)])],
        "log": [{"step": s, "split": "train", "loss": 1 / s} for s in range(1, 9)],
        "metrics": {"mean_iou": 0.5, "iou/cell": 0.25, "rand_error": np.nan},
        "split": "validation",
        "confusion": (np.array([[3, 1], [0, 4]]), ("membrane", "cell")),
        "images": [
            ImageRow("b.png", {"mean_iou": 0.25}, panels()),
            ImageRow("a.png", {"mean_iou": np.nan, "found": 3}),
        ],
        "legend": [("cell", (9, 8, 7))],
        "config": {"model": {"name": "unet"}},
        "environment": {"numpy": "2"},
    }
    return ReportContent(**values | changes)


def test_the_page_has_every_section_and_number():
    page = Page(render_report(content()))
    names = ["Data", "Curves", "Metrics", "Confusion", "Images", "Config"]
    assert [x["id"] for x in page.all("section")] == [*names, "Environment"]
    assert [x["href"] for x in page.all("a")] == [f"#{x}" for x in names] + [
        "#Environment"
    ]
    texts = [text for _, text in page.texts]
    for text in ("75.0%", "0.2500", "model.name", "'unet'", "b.png", "validation"):
        assert any(text in found for found in texts), text
    assert {"data-value": "0.25", "class": "number"} in page.all("td")
    assert {"data-value": "", "class": "number"} in page.all("td")  # the NaN


def test_sections_of_nothing_are_left_out():
    page = Page(render_report(ReportContent("a run", {"Network": "unet"})))
    assert page.all("section") == []


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_stand(name):
    hostile = content(
        title=name,
        facts={name: name},
        data=[Table(name, (name, name), [(name, name)])],
        log=[
            {"step": s, "split": name, "mean_iou": 0.5, f"iou/{name}": 0.5}
            for s in (1, 2)
        ],
        metrics={f"iou/{name}": 0.5},
        split=name,
        confusion=(np.eye(2, dtype=int), (name, "cell")),
        images=[ImageRow(name, {name: 0.5}, panels())],
        images_note=name,
        legend=[(name, (0, 0, 0))],
        objects=[Table(name, (name,), [(name,)])],
        config={name: {name: name}},
        environment={name: name},
    )
    page, plain = Page(render_report(hostile)), Page(render_report(content()))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert len(page.all("script")) == 1
    handlers = [x for _, attrs in page.elements for x in attrs if x.startswith("on")]
    assert handlers == []
    shown = name.encode("utf-8", "replace").decode()
    assert sum(text == shown for _, text in page.texts) > 10


def test_the_page_loads_nothing_and_its_policy_allows_its_own_script_alone():
    text = render_report(content())
    page = Page(text)
    assert all(x["src"].startswith("data:image/webp;base64,") for x in page.all("img"))
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any("style" in attributes for _, attributes in page.elements)
    assert "://" not in text


def test_tables_have_headers_and_pictures_have_texts():
    page = Page(render_report(content()))
    assert all(x["scope"] in ("row", "col") for x in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    described = [x["alt"] for x in page.all("img")]
    assert described == [
        "",
        "image, b.png",
        "label, b.png",
    ]  # the name is beside the first
    plots = [x for x in page.all("svg") if "role" in x]
    assert plots[0]["aria-label"] == "loss over steps: train from 1 to 0.125"


@pytest.mark.parametrize("max_bytes", [4_000_000, 200_000, 60_000])
def test_the_page_is_never_larger_than_allowed(max_bytes):
    images = [
        ImageRow(
            f"ä{i:04d}.tif", {"mean_iou": i / 300}, panels(300, i) if i < 20 else ()
        )
        for i in range(300)
    ]
    text = render_report(content(images=images), max_bytes=max_bytes)
    assert len(text.encode()) <= max_bytes
    page = Page(text)
    rows = [x for x in page.all("button") if "data-view" in x]
    if max_bytes == 4_000_000:  # all pictures, in their full size
        assert len(rows) == 20
        uri = next(x["src"] for x in page.all("img") if x["alt"] == "label, ä0000.tif")
        raw = base64.b64decode(uri.partition(",")[2])
        assert Image.open(io.BytesIO(raw)).size == (300, 300)
    listed = [
        text for tag, text in page.texts if tag == "bdi" and text.endswith(".tif")
    ]
    assert listed[0] == "ä0000.tif"
    if max_bytes == 60_000:
        assert any("worst of 300 are listed" in text for _, text in page.texts)


def test_pictures_get_smaller_before_any_is_left_out():
    rows = [ImageRow("a", {}, panels(400)), ImageRow("b", {})]
    full, nothing = encode_rows(rows, 10**9)
    assert len(full) == 3
    assert nothing == ()
    assert encode_rows(rows, 0) == [(), ()]
    smallest = encode_rows(rows, sum(map(len, full)) // 4)[0]
    picture = Image.open(io.BytesIO(base64.b64decode(smallest[2].partition(",")[2])))
    assert SIZES[-1][0] <= picture.width < 400


def test_labels_keep_their_colours():
    (uris,) = encode_rows([ImageRow("a", {}, panels(100))], 10**6)
    picture = Image.open(io.BytesIO(base64.b64decode(uris[2].partition(",")[2])))
    colors = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    assert colors.tolist() == [[0, 0, 0], [250, 250, 250]]


def test_the_worst_images_keep_their_pictures_and_unmeasured_ones_are_last():
    scores = (0.5, np.nan, 0.1, 0.9, 0.1)
    rows = [(x, ImageRow(str(i), {}, panels(900))) for i, x in enumerate(scores)]
    found = worst_first(rows, keep_panels=3)
    assert [row.name for row in found] == ["2", "4", "0", "3", "1"]
    assert [len(row.panels) for row in found] == [2, 2, 2, 0, 0]
    assert found[0].panels[0].pixels.shape == (480, 480, 3)


def test_curves_keep_their_extremes_and_leave_out_what_is_not_finite():
    y = np.zeros(10_000)
    y[7_321], y[4_004] = 5.0, -3.0
    kept = thinned(np.stack([np.arange(10_000.0), y], 1))
    assert len(kept) <= 302
    assert [7_321, 5.0] in kept.tolist()
    assert [4_004, -3.0] in kept.tolist()
    assert (np.diff(kept[:, 0]) > 0).all()
    assert curves([{"step": 1, "loss": float("nan")}]) == ""
    assert "NaN" not in curves([{"step": 1, "loss": 2.0}])
    assert "nan" not in curves([{"step": 1, "loss": 2.0}])


def test_ticks_are_round_and_within_the_axis():
    assert ticks(0, 4999, 5) == [0, 1000, 2000, 3000, 4000]
    assert ticks(-0.0012, 0.0013, 5) == [-0.001, -0.0005, 0, 0.0005, 0.001]


def test_a_confusion_matrix_of_many_classes_is_a_list():
    counts = np.diag(np.full(60, 90))
    counts[3, 5] = 10
    page = Page(confusion_table(counts, [f"class{i}" for i in range(60)]))
    cells = [text for tag, text in page.texts if tag in ("bdi", "td")]
    assert cells[-4:] == ["class3", "class5", "10", "0.1000"]


def test_a_reliability_diagram_has_a_circle_for_each_bin_with_pixels():
    sums = np.array([[0, 0, 0], [40, 20.0, 20], [60, 54.0, 30]])
    page = Page(render_report(ReportContent("a run", {}, calibration=sums)))
    circles = [circle for circle in page.all("circle") if circle["class"] == "line0"]
    assert len(circles) == 2
    right, sure = ((float(x["cx"]), float(x["cy"])) for x in circles)
    # The first bin is on the diagonal, the second, too sure, below it.
    slope = (260 - 38 - 10) / (380 - 52 - 12)
    height = lambda x: 260 - 38 - (x - 52) * slope
    assert right[1] == pytest.approx(height(right[0]), abs=0.2)
    assert sure[1] > height(sure[0]) + 50
    assert ("h2", "Calibration") in page.texts
