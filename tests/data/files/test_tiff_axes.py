"""What a TIFF's description states of its pages, read from that file alone."""

import os
import signal

import numpy as np
import pytest
import tifffile

from segjax.data.files.images import count_pages, read_page, read_pages
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
    ("axes", "shape", "channels"),
    [("CYX", (2,), 2), ("CYX", (3,), 3), ("ZCYX", (2, 3), 3), ("TCYX", (3, 2), 2)],
)
@pytest.mark.parametrize("kind", [OME, IMAGEJ, PLAIN], ids=["ome", "imagej", "plain"])
def test_channels_are_not_taken_for_sections(tmp_path, kind, axes, shape, channels):
    values = STACK[: int(np.prod(shape))].reshape(*shape, 9, 11)
    write(tmp_path / "a.tif", values, axes, **kind)
    for read in (count_pages, read_page, lambda path: list(read_pages(path))):
        with pytest.raises(UserError) as caught:
            read(tmp_path / "a.tif")
        assert f"a.tif has {channels} channels" in str(caught.value)
        assert "Save only the channel that is to be segmented" in str(caught.value)
        assert ("the three as RGB" in str(caught.value)) == (channels == 3)


@pytest.mark.parametrize("kind", [OME, IMAGEJ], ids=["ome", "imagej"])
def test_the_axes_that_the_message_advises_for_sections_are_read(tmp_path, kind):
    """tifffile states channels where nobody has stated what the first axis is."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[:5], photometric="minisblack", **kind)
    if kind is IMAGEJ:
        with pytest.raises(UserError, match=r'5 channels.*metadata={"axes": "ZYX"}'):
            read_page(path)
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(
        path, STACK[:5], photometric="minisblack", metadata=metadata, **kind
    )
    np.testing.assert_array_equal(np.stack([*read_pages(path)])[..., 0], STACK[:5])


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
