"""What a TIFF's description states of its pages, read from that file alone."""

import os
import signal

import numpy as np
import pytest
import tifffile

from segjax.data.files.calibration import Calibration
from segjax.data.files.images import (
    count_pages,
    read_label,
    read_label_pages,
    read_layout,
    read_page,
    read_pages,
)
from segjax.data.files.layout import Layout
from segjax.errors import UserError

STACK = np.random.default_rng(0).integers(0, 256, (6, 9, 11), np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (4, 9, 11, 3), np.uint8)


def write(path, values, axes, **options):
    photometric = "rgb" if values.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(
        path, values, photometric=photometric, metadata={"axes": axes}, **options
    )


OME, IMAGEJ, PLAIN = {"ome": True}, {"imagej": True}, {}


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
@pytest.mark.parametrize("kind", [OME, IMAGEJ, PLAIN], ids=["ome", "imagej", "plain"])
def test_sections_and_times_are_pages(tmp_path, kind, axes):
    write(tmp_path / "a.tif", STACK, axes, **kind)
    np.testing.assert_array_equal(
        np.stack(list(read_pages(tmp_path / "a.tif")))[..., 0], STACK
    )


@pytest.mark.parametrize("kind", [OME, IMAGEJ, PLAIN], ids=["ome", "imagej", "plain"])
def test_color_is_not_taken_for_channels(tmp_path, kind):
    write(tmp_path / "a.tif", COLOR, "ZYXS", **kind)
    np.testing.assert_array_equal(np.stack(list(read_pages(tmp_path / "a.tif"))), COLOR)


def test_planes_of_colour_in_ome_are_one_page(tmp_path):
    planes = np.ascontiguousarray(np.moveaxis(COLOR[0], -1, 0))
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        planes,
        photometric="rgb",
        planarconfig="separate",
        metadata={"axes": "SYX"},
    )
    np.testing.assert_array_equal(read_page(tmp_path / "a.ome.tif"), COLOR[0])


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("CYX", (2,)),
        ("CYX", (3,)),
        ("ZCYX", (2, 3)),
        ("TCYX", (3, 2)),
    ],
)
@pytest.mark.parametrize("kind", [OME, IMAGEJ, PLAIN], ids=["ome", "imagej", "plain"])
def test_channels_are_those_of_a_page(tmp_path, kind, axes, shape):
    path = tmp_path / "a.tif"
    values = STACK[: int(np.prod(shape))].reshape(*shape, 9, 11)
    write(path, values, axes, **kind)
    pages = np.moveaxis(values, axes.index("C"), -1)
    pages = pages.reshape(-1, *pages.shape[-3:])
    np.testing.assert_array_equal(list(read_pages(path)), pages)
    np.testing.assert_array_equal(read_page(path, len(pages) - 1), pages[-1])
    with pytest.raises(UserError, match="channels where one number per pixel"):
        read_label(path)


MICRO = chr(0xB5) + "m"
FULL = np.arange(2 * 3 * 2 * 9 * 11, dtype=np.uint16).reshape(2, 3, 2, 9, 11)


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m", "nm", "pixel"])
def test_a_hyperstack_of_imagej_states_axes_sizes_and_names(tmp_path, unit):
    path = tmp_path / "a.tif"
    factor = {"nm": 1000.0}.get(unit, 1.0)
    metadata = {"axes": "TZCYX", "unit": unit, "spacing": 2.5 * factor}
    metadata |= {"finterval": 30.0, "Labels": ["DAPI", "GFP"] * 6}
    resolution = (4 / factor, 2 / factor)
    tifffile.imwrite(path, FULL, imagej=True, resolution=resolution, metadata=metadata)
    known = unit != "pixel"
    calibration = Calibration(
        (0.5, 0.25) if known else None, 2.5 if known else None, 30
    )
    layout = Layout("ImageJ", "TZ", (2, 3), ("DAPI", "GFP"), calibration)
    assert read_layout(path) == layout
    pages = np.moveaxis(FULL, 2, -1).reshape(6, 9, 11, 2)
    np.testing.assert_array_equal(list(read_pages(path)), pages)


def test_labels_of_single_planes_are_no_names_of_channels(tmp_path):
    labels = [f"c:{c}/2 z:1/1 - a.lif" for c in (1, 2)]
    metadata = {"axes": "CYX", "Labels": labels}
    tifffile.imwrite(tmp_path / "a.tif", STACK[:2], imagej=True, metadata=metadata)
    assert read_layout(tmp_path / "a.tif").channel_names == ()


@pytest.mark.parametrize("axes", ["TZCYX", "CTZYX", "ZCTYX"])
def test_an_ome_tiff_states_axes_sizes_and_names(tmp_path, axes):
    path = tmp_path / "a.ome.tif"
    values = FULL.transpose([*("TZC".index(axis) for axis in axes[:3]), 3, 4])
    metadata = {"axes": axes, "Channel": {"Name": ["DAPI", "GFP"]}}
    metadata |= {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}
    metadata |= {"PhysicalSizeYUnit": MICRO, "PhysicalSizeZ": 2.5}
    metadata |= {"TimeIncrement": 0.5, "TimeIncrementUnit": "min"}
    tifffile.imwrite(path, values, metadata=metadata, photometric="minisblack")
    calibration = Calibration((0.5, 0.25), 2.5, 30)
    assert read_layout(path) == Layout(
        "OME", "TZ", (2, 3), ("DAPI", "GFP"), calibration
    )
    pages = np.moveaxis(FULL, 2, -1).reshape(6, 9, 11, 2)
    np.testing.assert_array_equal(list(read_pages(path)), pages)


def test_what_states_nothing_has_no_axes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", metadata=None)
    assert read_layout(tmp_path / "a.tif") == Layout()
    write(tmp_path / "b.tif", STACK, "ZYX")
    assert read_layout(tmp_path / "b.tif") == Layout("tifffile", "Z", (6,))


def test_planes_lie_where_ome_says_that_they_do(tmp_path):
    order = [5, 0, 3, 1, 4, 2]
    blocks = "".join(
        f'<TiffData IFD="{place}" FirstZ="{z}" FirstC="0" FirstT="0" PlaneCount="1"/>'
        for z, place in enumerate(order)
    )
    ome(tmp_path / "a.tif", pixels(inside=blocks))
    np.testing.assert_array_equal(
        np.stack(list(read_pages(tmp_path / "a.tif")))[..., 0], STACK[order]
    )


def test_the_axes_that_the_message_advises_for_sections_are_read(tmp_path):
    """tifffile states channels where nobody has stated what the first axis is."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[:5], photometric="minisblack", imagej=True)
    with pytest.raises(UserError, match=r'5 channels.*metadata={"axes": "ZYX"}'):
        read_label(path)
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(
        path, STACK[:5], photometric="minisblack", metadata=metadata, imagej=True
    )
    np.testing.assert_array_equal(np.stack([*read_label_pages(path)]), STACK[:5])


def ome(path, xml, pages=STACK):
    with tifffile.TiffWriter(path, ome=False) as file:
        for i, page in enumerate(pages):
            description = xml.encode() if i == 0 else None
            file.write(page, description=description, metadata=None)


def pixels(z=6, inside="", c=1, root=' UUID="urn:uuid:1"'):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME{root}><Image ID="Image:0"><Pixels '
        f'DimensionOrder="XYCZT" SizeX="11" SizeY="9" SizeC="{c}" SizeZ="{z}" SizeT="1" '
        f'Type="uint8">{inside}</Pixels></Image></OME>'
    )


def planes_in(*files):
    return "".join(
        f'<TiffData IFD="0"><UUID FileName="{name}">urn:uuid:{i}</UUID></TiffData>'
        for i, name in enumerate(files, 1)
    )


def test_a_renamed_file_is_its_own(tmp_path):
    ome(tmp_path / "renamed.tif", pixels(inside=planes_in("original.ome.tif") * 6))
    assert count_pages(tmp_path / "renamed.tif") == 6


@pytest.fixture
def alarm():
    """Ends a test that hangs, as opening a pipe does that nobody writes to."""

    def ring(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("count", [1, 3])
def test_other_files_that_ome_names_are_reported_and_never_opened(
    tmp_path, alarm, count
):
    os.mkfifo(tmp_path / "b.ome.tif")
    xml = pixels(z=2 * count, inside=planes_in("a.ome.tif", "b.ome.tif"))
    ome(tmp_path / "a.ome.tif", xml, STACK[:count])
    with pytest.raises(UserError, match=r"one of several files.*'b\.ome\.tif', too"):
        read_page(tmp_path / "a.ome.tif")


def test_planes_that_all_lie_elsewhere_are_reported(tmp_path, alarm):
    os.mkfifo(tmp_path / "b.ome.tif")
    ome(tmp_path / "a.tif", pixels(inside=planes_in("b.ome.tif")), STACK[:1])
    with pytest.raises(UserError, match="one of several files"):
        read_page(tmp_path / "a.tif")


def test_metadata_in_a_companion_are_reported(tmp_path, alarm):
    os.mkfifo(tmp_path / "x.companion.ome")
    ome(tmp_path / "a.tif", '<OME><BinaryOnly MetadataFile="x.companion.ome"/></OME>')
    with pytest.raises(UserError, match=r"'x\.companion\.ome', too"):
        read_page(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["NDTiff.index", "a_MMStack_1.ome.tif"])
def test_no_other_file_of_the_folder_is_opened(tmp_path, alarm, name):
    os.mkfifo(tmp_path / name)
    tag = (51123, "s", 1, '{"Summary": 1}', True)
    path = tmp_path / "a_MMStack.ome.tif"
    tifffile.imwrite(path, STACK[0], extratags=[tag], metadata=None)
    np.testing.assert_array_equal(read_page(path)[..., 0], STACK[0])


BOMB = "<!DOCTYPE OME [" + "".join(
    f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "x" * 99}">' for i in range(9)
)
DAMAGED = {
    "fewer pages": (pixels(z=9), "6 of 9 pages are there"),
    "far fewer pages": (pixels(z=10**12), "6 of 1000000000000 pages"),
    "two images": (
        pixels().replace(
            "</Image>", "</Image><Image><Pixels SizeC='1' SizeZ='4' SizeT='1'/></Image>"
        ),
        "6 of 10 pages",
    ),
    "cut": (pixels().replace("</Pixels>", ""), "OME description is damaged"),
    "no order": (pixels().replace("XYCZT", "XYC"), "DimensionOrder 'XYC'"),
    "images that differ": (
        pixels(z=3, c=2).replace(
            "</Image>", "</Image><Image><Pixels SizeC='1' SizeZ='0' SizeT='1'/></Image>"
        ),
        "several images whose sizes differ",
    ),
    "no size": (pixels().replace('SizeC="1"', ""), "OME description is damaged"),
    "not a number": (pixels(c="two"), "invalid literal"),
    "bomb": (BOMB + "]><OME>&e8;</OME>", "has a DOCTYPE"),
    "outside": (
        '<!DOCTYPE OME SYSTEM "x.dtd"><OME></OME>',
        "has a DOCTYPE",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_metadata_of_ome_end_in_a_sentence(tmp_path, alarm, case):
    xml, sentence = DAMAGED[case]
    ome(tmp_path / "a.tif", xml)
    with pytest.raises(UserError) as caught:
        read_page(tmp_path / "a.tif")
    assert sentence in str(caught.value)
    assert "a.tif" in str(caught.value)


def test_free_text_states_nothing(tmp_path):
    for text in ("a note with channels=2", "<b>x</b>", '{"channels": 2}', "ImageJ"):
        ome(tmp_path / "a.tif", text)
        assert count_pages(tmp_path / "a.tif") == 6


def test_images_of_one_file_that_differ_are_pages_of_their_own(tmp_path):
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    small = np.zeros((8, 12), np.uint8)
    for name, other, axes, pixel in (
        ("size", np.zeros((6, 12), np.uint8), "YX", 0.5),
        ("pages", np.zeros((3, 8, 12), np.uint8), "TYX", 0.25),
    ):
        path = tmp_path / f"{name}.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as file:
            file.write(small, metadata={"axes": "YX"} | size)
            again = {"PhysicalSizeX": pixel, "PhysicalSizeY": pixel}
            file.write(other, metadata={"axes": axes} | again)
        layout = read_layout(path)
        assert (layout.form, layout.axes) == ("", "I")
        assert not layout.follows(1, 0)
        shared = (0.5, 0.5) if pixel == 0.5 else None
        assert layout.calibration.pixel_size == shared
