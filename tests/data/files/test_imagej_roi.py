"""ROIs of ImageJ, against bytes laid out as its RoiDecoder documents them."""

import io
import struct
import zipfile

import numpy as np
import pytest

from segjax.data.files.imagej_roi import decode_roi, encode_roi, read_rois, write_rois
from segjax.data.outlines import Outline, fill, outlines_of
from segjax.errors import UserError

SUB_PIXEL = 128


def roi(kind, bounds, body=b"", version=228, **fields):
    """A header of 64 bytes, by the offsets of the documentation, and what follows it."""
    raw = bytearray(64)
    raw[:4] = b"Iout"
    struct.pack_into(">h", raw, 4, version)
    raw[6] = kind
    struct.pack_into(">4h", raw, 8, *bounds)  # top, left, bottom, right
    for name, (form, offset) in {
        "count": (">h", 16), "box": (">4f", 18), "shape": (">i", 36),
        "options": (">h", 50), "corner": (">h", 54), "position": (">i", 56),
        "second": (">i", 60),
    }.items():  # fmt: skip
        if (value := fields.get(name)) is not None:
            struct.pack_into(form, raw, offset, *np.atleast_1d(value).tolist())
    return bytes(raw) + body


def shorts(*values):
    return struct.pack(f">{len(values)}h", *values)


def floats(*values):
    return struct.pack(f">{len(values)}f", *values)


def rings_of(raw):
    (polygon,) = decode_roi(raw, "a.roi").polygons
    return [ring.tolist() for ring in polygon]


SQUARE = [[3, 2], [7, 2], [7, 5], [3, 5]]
RELATIVE = shorts(0, 4, 4, 0, 0, 0, 3, 3)  # all x, then all y, from the corner on


@pytest.mark.parametrize("kind", [0, 7, 8])
def test_polygons_are_relative_to_their_corner(kind):
    assert rings_of(roi(kind, (2, 3, 5, 7), RELATIVE, count=4)) == [SQUARE]


def test_coordinates_in_fractions_follow_the_whole_ones():
    body = RELATIVE + floats(3.5, 7.25, 7, 3, 2, 2, 5, 5)
    raw = roi(0, (2, 3, 5, 7), body, count=4, options=SUB_PIXEL)
    assert rings_of(raw)[0][:2] == [[3.5, 2], [7.25, 2]]
    old = roi(0, (2, 3, 5, 7), body, count=4, options=SUB_PIXEL, version=221)
    assert rings_of(old) == [SQUARE]


def test_places_beyond_32767_are_unsigned():
    raw = roi(8, (40000 - 65536, -2, 40003 - 65536, 2), RELATIVE, count=4)
    assert rings_of(raw)[0][0] == [-2, 40000]


def test_rectangles_are_their_bounds():
    assert sorted(rings_of(roi(1, (2, 3, 5, 7)))[0]) == sorted(SQUARE)
    raw = roi(1, (2, 3, 5, 7), options=SUB_PIXEL, box=(1.5, 2, 3, 4))
    assert np.min(rings_of(raw)[0], 0).tolist() == [1.5, 2]
    assert np.max(rings_of(raw)[0], 0).tolist() == [4.5, 6]


@pytest.mark.parametrize(("kind", "corner"), [(2, 0), (1, 40)])
def test_ovals_have_the_area_of_ellipses(kind, corner):
    raw = roi(kind, (10, 20, 50, 100), corner=corner)
    _, mask = fill(decode_roi(raw, "a.roi"), (200, 200), "a.roi")
    area = np.pi * 20 * 40 if kind == 2 else np.pi * 20**2 + 40 * 40
    assert mask.shape == (40, 80)
    assert abs(mask.sum() - area) < 0.005 * area


def test_composites_have_holes_and_curves():
    segments = [0, 0, 0, 1, 9, 0, 1, 9, 9, 1, 0, 9, 4]
    segments += [0, 2, 2, 1, 2, 4, 1, 4, 4, 1, 4, 2, 4]
    raw = roi(1, (0, 0, 9, 9), floats(*segments), shape=len(segments))
    _, mask = fill(decode_roi(raw, "a.roi"), (9, 9), "a.roi")
    assert mask.sum() == 81 - 4
    assert not mask[2:4, 2:4].any()
    k = 0.5522847 * 30  # a circle of four cubic curves, as Java draws it
    curves = [0, 70, 40, 3, 70, 40 + k, 40 + k, 70, 40, 70]
    curves += [3, 40 - k, 70, 10, 40 + k, 10, 40, 3, 10, 40 - k, 40 - k, 10, 40, 10]
    curves += [3, 40 + k, 10, 70, 40 - k, 70, 40, 4]
    raw = roi(1, (10, 10, 70, 70), floats(*curves), shape=len(curves))
    _, mask = fill(decode_roi(raw, "a.roi"), (80, 80), "a.roi")
    assert abs(mask.sum() - np.pi * 30**2) < 15


def test_the_second_header_has_name_and_place():
    second = struct.pack(">4x3i2i", 1, 5, 1, 64 + 16 + 64, 3).ljust(64, b"\0")
    body = RELATIVE + second + "\u00e4-7".encode("utf-16-be")
    found = decode_roi(roi(0, (2, 3, 5, 7), body, count=4, second=80), "a.roi")
    assert (found.name, found.page, found.place) == ("\u00e4-7", None, (4, 0))
    found = decode_roi(roi(1, (2, 3, 5, 7), position=3), "a.roi", "file")
    assert (found.name, found.page) == ("file", 2)
    assert decode_roi(roi(1, (2, 3, 5, 7)), "a.roi").page is None


def test_what_is_written_has_the_documented_layout():
    ring = np.array(SQUARE, float)
    raw = encode_roi(Outline(((ring,),), "12", page=0))
    assert raw[:8] == b"Iout" + struct.pack(">hBB", 228, 8, 0)
    assert struct.unpack_from(">4hH", raw, 8) == (2, 3, 5, 7, 4)
    assert raw[64:80] == RELATIVE
    assert struct.unpack_from(">2i", raw, 56) == (1, 80)
    assert struct.unpack_from(">2i", raw, 80 + 16) == (144, 2)
    assert raw[144:] == "12".encode("utf-16-be")


@pytest.mark.parametrize("shift", [0, 0.25, 40_000, 62_000])
def test_outlines_come_back_from_a_zip(tmp_path, shift):
    numbers = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 3_000_000_000]])
    outlines = [
        Outline(
            tuple(tuple(ring + shift for ring in p) for p in x.polygons), x.name, page=1
        )
        for x in outlines_of(numbers)
    ]
    with (tmp_path / "a.zip").open("wb") as file:
        write_rois(file, outlines)
    found = read_rois(tmp_path / "a.zip")
    assert [(x.name, x.page) for x in found] == [("1", 1), ("3000000000", 1)]
    for there, back in zip(outlines, found, strict=True):
        rings = [ring for polygon in there.polygons for ring in polygon]
        for ring, other in zip(rings, back.polygons[0], strict=True):
            np.testing.assert_array_equal(ring, other)


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return file.getvalue()


GOOD = roi(1, (2, 3, 5, 7))
LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def encrypted(raw):
    for mark, offset in ((LOCAL, 6), (CENTRAL, 8)):
        place = raw.index(mark) + offset
        raw = raw[:place] + b"\1" + raw[place + 1 :]
    return raw


def of_claimed_size(raw, size):
    place = raw.index(CENTRAL) + 24
    return raw[:place] + struct.pack("<I", size) + raw[place + 4 :]


BAD = {
    "not a ROI": (b"text", "neither a ROI of ImageJ nor a whole zip"),
    "no ROI in a zip": (zipped(**{"a.txt": b""}), "holds no .roi file"),
    "an absolute path": (zipped(**{"/a.roi": GOOD}), "path of another folder"),
    "a path upwards": (zipped(**{"..\\a.roi": GOOD}), "path of another folder"),
    "a password": (encrypted(zipped(**{"a.roi": GOOD})), "is encrypted"),
    "a bomb": (of_claimed_size(zipped(**{"a.roi": GOOD}), 1 << 31), "too large"),
    "a zip cut short": (zipped(**{"a.roi": GOOD})[:-9], "nor a whole zip"),
    "a header cut short": (GOOD[:30], "is not a whole ROI"),
    "coordinates cut short": (roi(0, (2, 3, 5, 7), count=4), "is not a whole ROI"),
    "a path cut short": (roi(1, (0,) * 4, floats(0, 1), shape=2), "path is cut short"),
    "a line": (roi(3, (2, 3, 5, 7)), "is a line, which encloses no area"),
    "points": (zipped(**{"p.roi": roi(10, (0,) * 4)}), r"p.roi, \(p\) is points"),
    "not finite": (
        roi(1, (0,) * 4, options=SUB_PIXEL, box=(np.nan, 0, 1, 1)),
        "outside of any image",
    ),
}


@pytest.mark.parametrize(("raw", "sentence"), BAD.values(), ids=BAD)
def test_what_is_wrong_with_a_file_is_reported(tmp_path, raw, sentence):
    (tmp_path / "bad.zip").write_bytes(raw)
    with pytest.raises(UserError, match=sentence) as caught:
        read_rois(tmp_path / "bad.zip")
    assert "bad.zip" in str(caught.value)


def test_names_of_any_letters_come_back_and_lead_to_no_folder(tmp_path):
    ring = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 2.0]])
    name = "../a/b\\c " + chr(0x1F52C)
    with (tmp_path / "a.zip").open("wb") as file:
        write_rois(file, [Outline(((ring,),), name)])
    assert [outline.name for outline in read_rois(tmp_path / "a.zip")] == [name]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "/" not in archive.namelist()[0]
