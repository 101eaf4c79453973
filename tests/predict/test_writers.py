"""What TIFFs of results say of their axes and sizes, and what viewers of large ones find."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segjax.data.files.calibration import Calibration
from segjax.data.files.images import read_label_pages, read_layout, read_pages
from segjax.data.files.layout import UNSTATED, Layout
from segjax.data.files.listing import name_of
from segjax.predict.inputs import Source
from segjax.predict.writers import plan_outputs, result_suffix, tiff_file

LABELS = np.random.default_rng(0).integers(0, 2, (6, 9, 11), np.uint8)
COLORS = ((200, 10, 0), (0, 30, 250))
CALIBRATION = Calibration((0.5, 0.25), 2.5, 30.0)


def write(folder: Path, name: str, pages: np.ndarray, layout: Layout, **options):
    source = Source(Path(name), len(pages), *pages.shape[1:3], layout=layout)
    outputs = plan_outputs({source.path: [name]}, folder)
    outputs.make_folder()
    with tiff_file(
        outputs, name, expected_bytes=pages.nbytes, source=source, **options
    ) as add:
        for page in pages:
            add(page)
    return folder / name


@pytest.mark.parametrize(
    ("axes", "sizes"), [("TZ", (2, 3)), ("Z", (6,)), ("T", (6,)), ("", ())]
)
@pytest.mark.parametrize("form", ["ImageJ", "OME"])
def test_axes_and_sizes_come_back_as_they_were(tmp_path, form, axes, sizes):
    layout = Layout(form, axes, sizes, (), CALIBRATION)
    pages = LABELS if axes else LABELS[:1]
    path = write(tmp_path / "out", "a.tif", pages, layout, colors=COLORS)
    assert read_layout(path) == layout
    np.testing.assert_array_equal(list(read_label_pages(path)), pages)
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        assert (series.kind, series.axes) == (form.lower(), axes + "YX")
        np.testing.assert_array_equal(
            series.asarray(), pages.reshape(*sizes, *pages.shape[1:])
        )
        assert file.pages[0].photometric.name == "PALETTE"
        if form == "ImageJ":
            assert file.imagej_metadata["unit"] == "micron"
            assert file.pages[0].resolution == (4.0, 2.0)


def test_the_xml_of_ome_has_what_its_schema_requires(tmp_path):
    layout = Layout("OME", "TZ", (2, 3), ("DAPI", "GFP"), CALIBRATION)
    path = write(tmp_path / "out", "a.ome.tif", LABELS, layout)
    with tifffile.TiffFile(path) as file:
        root = ElementTree.fromstring(file.ome_metadata)
    space = {"ome": root.tag[1:].partition("}")[0]}
    assert space["ome"].startswith("http://www.openmicroscopy.org/Schemas/OME/")
    assert root.find("ome:Image", space).attrib["ID"]
    pixels = root.find("ome:Image/ome:Pixels", space)
    required = {"ID", "DimensionOrder", "Type", *(f"Size{axis}" for axis in "XYZCT")}
    assert required <= set(pixels.attrib)
    assert [int(pixels.attrib[f"Size{axis}"]) for axis in "XYZCT"] == [11, 9, 3, 1, 2]
    assert pixels.attrib["Type"] == "uint8"
    assert [
        c.attrib["SamplesPerPixel"] for c in pixels.findall("ome:Channel", space)
    ] == ["1"]
    assert pixels.findall("ome:TiffData", space)
    sizes = [float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in "XYZ"]
    assert sizes == [0.25, 0.5, 2.5]


@pytest.mark.parametrize("form", ["ImageJ", "OME"])
def test_classes_are_channels_of_probabilities(tmp_path, form):
    """Six pages of two classes: what is read is three sections with two channels."""
    values = LABELS.astype(np.float32)
    layout = Layout(form, "Z", (3,), ("DAPI",), CALIBRATION)
    source = Source(Path("a.tif"), 3, 9, 11, layout=layout)
    outputs = plan_outputs({source.path: ["p.tif"]}, tmp_path / "out")
    outputs.make_folder()
    names = ("dark", "light")
    with tiff_file(
        outputs, "p.tif", expected_bytes=1, source=source, channel_names=names
    ) as add:
        for page in values:
            add(page)
    path = tmp_path / "out" / "p.tif"
    found = read_layout(path)
    assert (found.axes, found.sizes, found.calibration) == ("Z", (3,), CALIBRATION)
    assert found.channel_names == (names if form == "OME" else ())
    pages = np.moveaxis(values.reshape(3, 2, 9, 11), 1, -1)
    np.testing.assert_array_equal(list(read_pages(path)), pages)


def test_a_file_that_states_nothing_gives_one_that_states_nothing(tmp_path):
    path = write(tmp_path / "out", "a.tif", LABELS, UNSTATED)
    assert read_layout(path) == UNSTATED


@pytest.mark.parametrize("form", ["", "OME"])
def test_large_images_are_tiled_pyramids(tmp_path, monkeypatch, form):
    monkeypatch.setattr("segjax.predict.writers.PYRAMID_SIDE", 70)
    monkeypatch.setattr("segjax.predict.writers._SMALLEST_LEVEL", 20)
    pages = np.random.default_rng(0).integers(0, 2, (2, 70, 41), np.uint8)
    layout = Layout(form, "Z", (2,)) if form else UNSTATED
    path = write(tmp_path / "out", "a.tif", pages, layout, colors=COLORS)
    with tifffile.TiffFile(path) as file:
        (series,) = file.series
        assert series.kind == "ome"
        assert [level.shape for level in series.levels] == [
            (2, 70, 41),
            (2, 35, 21),
            (2, 18, 11),
        ]
        assert all(level.pages[0].is_tiled for level in series.levels)
        np.testing.assert_array_equal(series.levels[1].asarray(), pages[:, ::2, ::2])
    np.testing.assert_array_equal(list(read_label_pages(path)), pages)


def test_imagej_gets_no_tiles_which_it_cannot_read(tmp_path, monkeypatch):
    monkeypatch.setattr("segjax.predict.writers.PYRAMID_SIDE", 8)
    layout = Layout("ImageJ", "Z", (6,))
    path = write(tmp_path / "out", "a.tif", LABELS, layout)
    with tifffile.TiffFile(path) as file:
        assert not file.pages[0].is_tiled
    assert read_layout(path) == layout


def test_names_keep_the_ending_of_ome():
    path = Path("cells/a.ome.tiff")
    assert name_of(path, Path("cells")) + result_suffix(path) == "a.ome.tif"
    assert result_suffix(Path("a.ome.png")) == ".png"


def test_results_are_called_as_labels_are_looked_for():
    parted = "e" + chr(0x301)
    assert name_of(Path(f"in/{parted}/{parted}.tif"), Path("in")) == "é/é"
    assert name_of(Path("in/a.ome.png"), Path("in")) == "a"
    assert result_suffix(Path("a.ome.png")) == ".png"
