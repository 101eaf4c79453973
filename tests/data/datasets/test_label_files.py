"""Folders whose labels are colours or outlines."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data import DATASETS
from segjax.data.files.geojson import write_geojson
from segjax.data.files.imagej_roi import encode_roi, write_rois
from segjax.data.outlines import Outline, outlines_of
from segjax.errors import UserError

CLASSES = (("none", (0, 0, 0)), ("cell", (0, 200, 0)), ("debris", (200, 0, 0)))
CELLS = np.zeros((12, 16), np.uint16)
CELLS[1:6, 2:8], CELLS[6:10, 2:8], CELLS[3, 4] = 1, 2, 0


@pytest.fixture
def root(tmp_path):
    """Three images, the last a stack of two pages, whose labels are still to come."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((12, 16), 9, np.uint8)).save(
            tmp_path / f"images/{name}.png"
        )
    tifffile.imwrite(tmp_path / "images/s.tif", np.zeros((2, 12, 16), np.uint8))
    return tmp_path


def opened(root, name="folder", **arguments):
    defaults = {"cache_dir": str(root / "memory"), "validation_fraction": 0}
    return DATASETS[name](**{"data_root": str(root)} | defaults | arguments)


def records(root, **arguments):
    return {r["name"]: r for r in opened(root, **arguments).splits["train"]}


def write(path, writer, outlines):
    with path.open("wb") as file:
        writer(file, outlines)


@pytest.fixture
def outlined(root):
    """Labels as GeoJSON, as the ROIs of a manager, and as one ROI that all pages have."""
    write(root / "labels/a.geojson", write_geojson, outlines_of(CELLS))
    write(root / "labels/b_RoiSet.zip", write_rois, outlines_of(CELLS))
    (outline,) = outlines_of(1 * (CELLS == 1))
    (root / "labels/s.roi").write_bytes(encode_roi(outline))
    return root


def test_outlines_are_foreground_or_numbers(outlined):
    two = {"classes": CLASSES[:2], "ignore": None}
    found = records(outlined, **two)
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name]["label"], CELLS > 0)
    for name in ("s/000", "s/001"):
        np.testing.assert_array_equal(found[name]["label"], CELLS == 1)
    numbered = records(outlined, **two, labels="instances")
    np.testing.assert_array_equal(numbered["a"]["cells"], CELLS)
    objects = opened(outlined, "instance_folder").splits["train"]
    assert [len(record["masks"]) for record in objects] == [2, 2, 1, 1]


def test_outlines_have_the_class_that_they_are_named_by(outlined):
    names = {1: "Debris", 2: "cell"}
    write(
        outlined / "labels/a.geojson",
        write_geojson,
        outlines_of(CELLS, class_names=names),
    )
    write(
        outlined / "labels/b_RoiSet.zip",
        write_rois,
        [
            Outline(x.polygons, f"{names[int(x.name)].lower()}-{x.name}")
            for x in outlines_of(CELLS)
        ],
    )
    (outline,) = outlines_of(1 * (CELLS == 2))
    (outlined / "labels/s.roi").write_bytes(
        encode_roi(Outline(outline.polygons, "Cell", page=1))
    )
    found = records(outlined, classes=CLASSES, remap=((7, 1),), ignore=1)
    expected = np.where(CELLS > 0, 3 - CELLS.astype(int), 0)
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name]["label"], expected)
    assert not found["s/000"]["label"].any()
    np.testing.assert_array_equal(found["s/001"]["label"], CELLS == 2)


def test_what_no_outline_covers_is_what_0_means(outlined):
    names = {1: "Ignore*", 2: "cell"}
    named = list(outlines_of(CELLS, class_names=names))
    write(outlined / "labels/a.geojson", write_geojson, named)
    found = records(outlined, classes=CLASSES[:2])["a"]["label"]
    np.testing.assert_array_equal(found, np.choose(CELLS, (0, 255, 1)))
    scribbles = ((0, 255), (1, 0), (2, 1))
    named[0] = Outline(named[0].polygons, class_name="none")
    write(outlined / "labels/a.geojson", write_geojson, named)
    found = records(outlined, classes=CLASSES[:2], ignore=None, remap=scribbles)
    np.testing.assert_array_equal(found["a"]["label"], np.choose(CELLS, (255, 0, 1)))


def test_what_does_not_count_has_the_ignored_colour_where_labels_are_colours(root):
    for name in ("a", "b", "s"):
        named = outlines_of(CELLS, class_names={1: "Ignore*", 2: "debris"})
        write(root / f"labels/{name}.geojson", write_geojson, named)
    options = {"labels": "colors", "classes": CLASSES}
    found = records(root, **options, ignored_colors=((9, 9, 9),))["a"]["label"]
    np.testing.assert_array_equal(found, np.choose(CELLS, (0, 255, 2)))


@pytest.mark.parametrize("kind", ["RGB", "P", "L"])
def test_pixels_are_of_the_class_whose_colour_they_have(root, kind):
    grey = kind == "L"
    colors = [
        (n, (50 * k,) * 3) if grey else (n, c) for k, (n, c) in enumerate(CLASSES)
    ]
    table = np.array([*(c for _, c in colors), (250, 250, 250)], np.uint8)
    for name in ("a", "b"):
        label = Image.fromarray(table[CELLS + (CELLS == 2)])
        label.convert(kind, palette=Image.Palette.ADAPTIVE).save(
            root / f"labels/{name}.png"
        )
    tifffile.imwrite(root / "labels/s.tif", table[np.stack([CELLS] * 2)])
    options = {"labels": "colors", "classes": colors}
    found = records(root, **options, ignored_colors=((250, 250, 250),))
    np.testing.assert_array_equal(found["a"]["label"], np.choose(CELLS, (0, 1, 255)))
    np.testing.assert_array_equal(found["s/001"]["label"], CELLS)
    with pytest.raises(UserError, match=r"has the colour \(250, 250, 250\) in 24 pix"):
        opened(root, **options)


def geojson(*features):
    def spoil(root):
        content = {"features": [*features]}
        (root / "labels/a.geojson").write_text(json.dumps(content))

    return spoil


def square(left, size=2, **properties):
    right = left + size
    ring = [[left, 1], [right, 1], [right, 3], [left, 3]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"geometry": geometry, "properties": {"name": "x", **properties}}


def on_page(page):
    def spoil(root):
        (outline,) = outlines_of(1 * (CELLS == 1))
        outline = Outline(outline.polygons, page=page)
        (root / "labels/s.roi").write_bytes(encode_roi(outline))

    return spoil


BAD = {
    "outside": (
        geojson(square(99)),
        {},
        r"a.geojson has the outline 'x', which lies outside of the image \(12 high",
    ),
    "empty": (geojson(square(3, 0)), {}, "'x', which is empty: it encloses no pixel"),
    "a class that is not there": (
        geojson(square(3, classification={"name": "Tumor"})),
        {},
        "'x'; its class is called 'Tumor', but the classes are none, cell",
    ),
    "what does not count among numbers": (
        geojson(square(3, classification={"name": "Ignore*"})),
        {"labels": "instances", "ignore": None},
        "'x' of QuPath's class .* but numbers of objects have no value for that. Remove",
    ),
    "what does not count where all counts": (
        geojson(square(3, classification={"name": "Ignore*"})),
        {"ignore": None},
        r"'x' of QuPath's class .* no value stands for that. Set config.data.ignore,",
    ),
    "no class": (
        geojson(square(3)),
        {"classes": CLASSES},
        "it is called 'x', but the classes are none, cell, debris. Rename",
    ),
    "a page too many": (
        on_page(2),
        {},
        r"s.roi has an outline on page 3, but \S+s.tif has 2 pages",
    ),
    "two files": (
        lambda root: write(root / "labels/a.zip", write_rois, outlines_of(CELLS)),
        {},
        "both a.geojson and a.zip, which would be one name",
    ),
    "one colour for two": (
        lambda root: None,
        {"labels": "colors", "ignored_colors": ((0, 0, 0),)},
        "have one colour",
    ),
    "no colour": (
        lambda root: None,
        {"labels": "colors", "ignored_colors": (7,)},
        r"ignored_colors is \(7,\); give",
    ),
}


@pytest.mark.parametrize(("spoil", "arguments", "sentence"), BAD.values(), ids=BAD)
def test_what_is_wrong_with_labels_is_reported(outlined, spoil, arguments, sentence):
    spoil(outlined)
    with pytest.raises(UserError, match=sentence):
        opened(outlined, **{"classes": CLASSES[:2]} | arguments)
