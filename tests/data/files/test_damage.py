"""Files that lie about what they hold: each ends in a sentence, none takes time or memory."""

import contextlib
import errno
import io
import json
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.files import plane
from segjax.data.files.images import count_pages, read_label, read_page, read_pages
from segjax.errors import UserError

GREY = np.random.default_rng(0).integers(1, 256, (48, 64), np.uint8)


def chunk(kind, body):
    return (
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body))
    )


def png(path, *, width, height, rows, bits=8, color=0, interlaced=0):
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    parts = (
        chunk(b"IHDR", head),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_a_chunk_that_claims_four_gigabytes_gets_no_more_than_there_is(tmp_path):
    path = tmp_path / "a.png"
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    png(path, width=64, height=48, rows=rows)
    raw = path.read_bytes()
    at = raw.index(b"IDAT") - 4
    path.write_bytes(raw[:at] + b"\xff\xff\xff\xff" + raw[at + 4 :])
    tracemalloc.start()
    with contextlib.suppress(UserError):
        assert (read_page(path)[..., 0] == GREY).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


def refused(path, *parts, read=read_page):
    """Checks a refusal; of its memory what Python and NumPy take, Pillow's is not traced."""
    start = time.monotonic()
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    for part in parts:
        assert part in str(caught.value)
    assert time.monotonic() - start < 5
    assert peak < 64 << 20
    return str(caught.value)


@pytest.mark.parametrize("value", [0, 7, 165, 255])
@pytest.mark.parametrize("missing", [1, 5, 12])
@pytest.mark.parametrize(
    ("bits", "color", "width"), [(8, 0, 10), (8, 2, 30), (16, 0, 20)]
)
def test_a_png_with_fewer_rows_than_it_says_is_refused(
    tmp_path, value, missing, bits, color, width
):
    row = b"\0" + bytes([value]) * width
    for name, rows in (("cut", 12 - missing), ("whole", 12)):
        png(
            tmp_path / f"{name}.png",
            width=10,
            height=12,
            rows=row * rows,
            bits=bits,
            color=color,
        )
    assert (
        read_page(tmp_path / "whole.png") == value * (257 if bits == 16 else 1)
    ).all()
    sentence = "rows of pixels are missing" if missing < 12 else "truncated"
    for read in (read_page, read_label) if color == 0 else (read_page,):
        refused(tmp_path / "cut.png", sentence, read=read)


@pytest.mark.parametrize("value", [0, 255])
def test_rows_that_are_missing_are_found_in_one_bit_and_interlaced_png(tmp_path, value):
    row = b"\0" + bytes([value]) * 2
    for count in (5, 12):
        png(tmp_path / "a.png", width=16, height=12, rows=row * count, bits=1)
        if count == 12:
            assert (read_label(tmp_path / "a.png") == (value > 0)).all()
        else:
            refused(tmp_path / "a.png", "rows of pixels are missing", read=read_label)
    passes = [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8)]
    rows = b"".join((b"\0" + bytes([value]) * n) * times for times, n in passes)
    whole = {"width": 8, "height": 8, "interlaced": 1}
    png(tmp_path / "i.png", rows=rows, **whole)
    assert (read_page(tmp_path / "i.png") == value).all()
    png(tmp_path / "i.png", rows=rows[:-9], **whole)
    refused(tmp_path / "i.png", "rows of pixels are missing")


def test_an_interlaced_picture_of_all_values_is_read(tmp_path):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rows = b""
    for y, x, dy, dx in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4),
        (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1),
    ):  # fmt: skip
        rows += b"".join(b"\0" + line.tobytes() for line in image[y::dy, x::dx])
    png(tmp_path / "i.png", width=16, height=16, rows=rows, interlaced=1)
    np.testing.assert_array_equal(read_page(tmp_path / "i.png")[..., 0], image)


OVERSIZED = ("a.png", "a.jpg", "a.bmp", "a.gif")


def oversized(folder, name):
    """Writes an image that claims 30000 x 30000 pixels."""
    Image.fromarray(GREY).save(folder / name)
    raw = bytearray((folder / name).read_bytes())
    if name == "a.png":
        raw[16:24] = struct.pack(">II", 30_000, 30_000)
        raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    elif name == "a.jpg":
        at = raw.index(b"\xff\xc0") + 5
        raw[at : at + 4] = struct.pack(">HH", 30_000, 30_000)
    elif name == "a.bmp":
        raw[18:26] = struct.pack("<ii", 30_000, 30_000)
    else:
        raw[6:10] = struct.pack("<HH", 30_000, 30_000)
    (folder / name).write_bytes(raw)
    return folder / name


@pytest.mark.parametrize("name", OVERSIZED)
def test_pixels_that_the_bytes_of_a_file_cannot_be_are_refused(tmp_path, name):
    path = oversized(tmp_path, name)
    refused(path, "claims 30000 x 30000 pixels", "truncated or damaged")


def tag_of(raw, code):
    """Finds the place of a tag's entry in the first directory of a little-endian TIFF."""
    (start,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    return next(p for p in places if struct.unpack_from("<H", raw, p)[0] == code)


def tampered(path, changes, **options):
    """Writes a TIFF and replaces the counts or values of tags: {code: (count, value)}."""
    tifffile.imwrite(path, GREY, photometric="minisblack", metadata=None, **options)
    raw = bytearray(path.read_bytes())
    for code, (count, value) in changes.items():
        place = tag_of(raw, code)
        if count is not None:
            struct.pack_into("<I", raw, place + 4, count)
        if value is not None:
            (kind,) = struct.unpack_from("<H", raw, place + 2)
            struct.pack_into("<H" if kind == 3 else "<I", raw, place + 8, value)
    path.write_bytes(raw)


WIDTH, HEIGHT, BITS, SAMPLES, OFFSETS, COUNTS, ROWS = 256, 257, 258, 277, 273, 279, 278
TILES, TILE_BYTES, TILE_WIDTH = 324, 325, 322
STRIPS = {"rowsperstrip": 8}
TILED = {"tile": (16, 16)}
LIES = {
    "wide": ({WIDTH: (None, 1 << 30)}, {}, "claims 1073741824 x 48 pixels"),
    "high": ({HEIGHT: (None, 60_000)}, {}, ""),
    "high deflate": ({HEIGHT: (None, 60_000)}, {"compression": "zlib"}, ""),
    "deep": ({BITS: (None, 64)}, {}, ""),
    "many samples": ({SAMPLES: (None, 65_535)}, {}, ""),
    "many samples, deflate": ({SAMPLES: (None, 65_535)}, {"compression": "zlib"}, ""),
    "no rows": ({HEIGHT: (None, 0)}, {}, "no pixels"),
    "no bits": ({BITS: (None, 0)}, {}, ""),
    "fewer strips": (
        {OFFSETS: (5, None), COUNTS: (5, None)},
        STRIPS,
        "lacks 1 of its 6",
    ),
    "one strip": ({ROWS: (None, 48)}, STRIPS, ""),
    "short strip": ({COUNTS: (None, 100)}, {}, "truncated or damaged"),
    "no strip": ({COUNTS: (None, 0)}, {}, "lacks 1 of its 1 strips"),
    "fewer tiles": (
        {TILES: (11, None), TILE_BYTES: (11, None)},
        TILED,
        "lacks 1 of its 12",
    ),
    "large tiles": ({TILE_WIDTH: (None, 1 << 24)}, TILED, ""),
    "endless strips": ({OFFSETS: (1 << 31, None)}, STRIPS, ""),
    "endless tiles": ({TILES: (1 << 31, None)}, TILED, ""),
}


@pytest.mark.parametrize("case", LIES)
def test_a_tiff_that_lies_about_its_pixels_is_refused(tmp_path, case):
    changes, options, sentence = LIES[case]
    tampered(tmp_path / "a.tif", changes, **options)
    refused(tmp_path / "a.tif", sentence)
    refused(tmp_path / "a.tif", sentence, read=read_label)


def claims_in_jpeg(raw):
    struct.pack_into(">HH", raw, raw.index(b"\xff\xc0") + 5, 30_000, 30_000)


def claims_in_jpeg2000(raw):
    at = raw.index(b"\xff\x4f\xff\x51")
    for place in (8, 24):  # of the image, and of its tiles
        struct.pack_into(">II", raw, at + place, 30_000, 30_000)


def claims_in_png(raw):
    at = raw.index(b"IHDR")
    struct.pack_into(">II", raw, at + 4, 30_000, 30_000)
    struct.pack_into(">I", raw, at + 17, zlib.crc32(raw[at : at + 17]))


CLAIMS = {
    "jpeg": claims_in_jpeg,
    "jpeg2000": claims_in_jpeg2000,
    "png": claims_in_png,
}


def oversized_tiles(path, compression):
    tifffile.imwrite(path, GREY, compression=compression, tile=(32, 32))
    raw = bytearray(path.read_bytes())
    CLAIMS[compression](raw)
    path.write_bytes(raw)


@pytest.mark.parametrize("compression", CLAIMS)
def test_a_tile_that_claims_more_pixels_than_its_page_is_refused(tmp_path, compression):
    oversized_tiles(tmp_path / "a.tif", compression)
    refused(tmp_path / "a.tif", "a part claims 30000 x 30000 pixels")


LIMITED = """
import json, pathlib, resource, sys
from segjax.data.files.images import read_page
from segjax.errors import UserError

paths = sorted(pathlib.Path(sys.argv[1]).iterdir())
read_page(paths[0].parent.parent / "whole.png")
read_page(paths[0].parent.parent / "whole.tif")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
for path in paths:
    try:
        read_page(path)
    except UserError as error:
        print(json.dumps([path.name, str(error)]))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
def test_no_decoder_takes_memory_for_what_a_file_claims(tmp_path):
    """With 256 MB for Pillow, the codecs and all else; 30000 x 30000 pixels need 900."""
    folder = tmp_path / "lies"
    folder.mkdir()
    for name in OVERSIZED:
        oversized(folder, name)
    for name in CLAIMS:
        oversized_tiles(folder / f"tiles in {name}.tif", name)
    for name, (changes, options, _) in LIES.items():
        tampered(folder / f"{name}.tif", changes, **options)
    Image.fromarray(GREY).save(tmp_path / "whole.png")
    tifffile.imwrite(tmp_path / "whole.tif", GREY)
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)],
        env=os.environ | {"MALLOC_ARENA_MAX": "1", "TIFFFILE_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    messages = dict(map(json.loads, ended.stdout.splitlines()))
    assert messages.keys() == {path.name for path in folder.iterdir()}
    for name, sentence in messages.items():
        assert str(folder / name) in sentence
        assert "memory" not in sentence.replace(str(folder), "").lower()


def test_a_sparse_tile_is_missing(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", GREY, compression="zlib", metadata=None, **TILED
    )
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    place = tag_of(raw, TILE_BYTES)
    kind, _, at = struct.unpack_from("<HII", raw, place + 2)
    struct.pack_into("<H" if kind == 3 else "<I", raw, at, 0)
    (tmp_path / "a.tif").write_bytes(raw)
    refused(tmp_path / "a.tif", "lacks 1 of its 12 strips or tiles")


@pytest.mark.parametrize("pages", [1, 3, 150])
@pytest.mark.parametrize("back", [0, -1, "middle"])
def test_pages_that_lead_back_to_earlier_ones_are_refused(tmp_path, pages, back):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(pages):
            file.write(GREY[:4, :4], metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offsets = [page.offset for page in file.pages]
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    last = offsets[-1]
    (tags,) = struct.unpack_from("<H", raw, last)
    target = offsets[pages // 2 if back == "middle" else back]
    struct.pack_into("<I", raw, last + 2 + 12 * tags, target)
    (tmp_path / "a.tif").write_bytes(raw)
    for read in (read_page, count_pages, lambda path: list(read_pages(path))):
        refused(tmp_path / "a.tif", "leads back to an earlier one", read=read)


def test_an_imagej_stack_with_fewer_pages_than_it_says_is_refused(tmp_path):
    stack = np.stack([GREY] * 4)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"}, truncate=True
    )
    raw = (tmp_path / "a.tif").read_bytes()
    assert count_pages(tmp_path / "a.tif") == 4
    for images in (b"images=5", b"images=9"):
        (tmp_path / "a.tif").write_bytes(raw.replace(b"images=4", images))
        refused(tmp_path / "a.tif")


def test_memory_that_does_not_suffice_is_reported(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(plane, "SMALL_BYTES", 100)
    assert read_page(tmp_path / "a.png").shape == (48, 64, 1)
    monkeypatch.setattr(plane, "free_bytes", lambda: 3000)
    refused(
        tmp_path / "a.png", "claims 64 x 48 pixels", "use a machine with more memory"
    )


def test_a_memory_error_ends_in_a_sentence(tmp_path, monkeypatch):
    def exhausted(*_):
        raise MemoryError

    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(np, "array", exhausted)
    refused(tmp_path / "a.png", "does not fit into the memory that is free")


@pytest.mark.parametrize("error", [RecursionError, KeyError, struct.error, SystemError])
def test_whatever_a_decoder_raises_ends_in_a_sentence(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error("deep")

    tifffile.imwrite(tmp_path / "a.tif", GREY)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", fail)
    refused(tmp_path / "a.tif", error.__name__, "cannot be decoded")


@pytest.mark.filterwarnings("always")
def test_warnings_of_pillow_are_neither_errors_nor_printed(tmp_path):
    """EXIF whose entries point beyond its end, which Pillow looks at for the resolution."""
    entry = struct.pack("<HHII", 0x011A, 5, 1, 0xFFFF)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 9) + entry
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", exif=exif)
    raw = buffer.getvalue()
    at = raw.index(b"\xff\xe0")
    (length,) = struct.unpack_from(">H", raw, at + 2)
    raw = raw[:at] + raw[at + 2 + length :]  # without JFIF, which has a resolution, too
    (tmp_path / "a.jpg").write_bytes(raw)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Image.open(tmp_path / "a.jpg").getexif()
        assert caught
        caught.clear()
        assert read_page(tmp_path / "a.jpg").shape == (48, 64, 1)
        assert not caught
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_page(tmp_path / "a.jpg").shape == (48, 64, 1)


WAVES = (128 + 60 * np.sin(np.arange(128 * 130) / 9)).astype(np.uint8).reshape(128, 130)
JPEGS = {
    "grey": (WAVES, {}),
    "color": (np.stack([WAVES, 255 - WAVES, WAVES // 2], -1), {}),
    "ends in grey": (np.where(np.arange(128)[:, None] > 40, 128, WAVES), {}),
    "own tables": (WAVES, {"optimize": True}),
    "restarts": (WAVES, {"restart_marker_rows": 1}),
    "many restarts": (WAVES, {"restart_marker_blocks": 3}),
    "cmyk": (np.stack([WAVES] * 4, -1), {}),
    "progressive": (WAVES, {"progressive": True}),
    "progressive color": (
        np.stack([WAVES, 255 - WAVES, WAVES], -1),
        {"progressive": True},
    ),
}


def jpeg(case):
    values, options = JPEGS[case]
    buffer = io.BytesIO()
    mode = "CMYK" if values.shape[2:] == (4,) else None
    Image.fromarray(values.astype(np.uint8), mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def taller(raw):
    at = next(raw.index(m) for m in (b"\xff\xc0", b"\xff\xc2") if m in raw) + 5
    return raw[:at] + struct.pack(">H", 1024) + raw[at + 2 :]


def ended(raw, fraction):
    """A JPEG that says to be at its end a fraction of its pixels later."""
    start = raw.index(b"\xff\xda")
    return raw[: start + 14 + int((len(raw) - start - 14) * fraction)] + b"\xff\xd9"


@pytest.mark.parametrize("case", JPEGS)
def test_a_jpeg_whose_rows_are_not_all_there_is_refused(tmp_path, case):
    path = tmp_path / "a.jpg"
    whole = jpeg(case)
    path.write_bytes(whole)
    if case == "cmyk":
        refused(path, "is CMYK")
    else:
        buffer = io.BytesIO(whole)
        values = np.atleast_3d(np.array(Image.open(buffer)))
        np.testing.assert_array_equal(read_page(path), values)
    for raw in (ended(whole, 0.5), ended(whole, 0.1), taller(whole)):
        path.write_bytes(raw)
        refused(path, "truncated or damaged")


def test_a_jpeg_that_is_whole_may_be_followed_by_anything(tmp_path):
    for raw in (jpeg("ends in grey"), jpeg("progressive")):
        (tmp_path / "a.jpg").write_bytes(raw + bytes(9) + raw)
        assert read_page(tmp_path / "a.jpg").shape[:2] == WAVES.shape


@pytest.mark.parametrize("end", [b"\xff\xd9", b"\xff\xd9\0\0"])
def test_a_jpeg_that_ends_within_its_strip_is_refused(tmp_path, end):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, WAVES, compression="jpeg", rowsperstrip=64)
    assert np.abs(read_page(path)[..., 0] - WAVES.astype(int)).mean() < 4
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[1] + file.pages[0].databytecounts[1]
    raw = bytearray(path.read_bytes())
    raw[place - 200 : place - 200 + len(end)] = end
    path.write_bytes(raw)
    refused(path, "pixels of part 2 are missing")


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE])
def test_a_fault_of_the_disk_is_not_reported_as_damage(
    tmp_path, monkeypatch, name, number
):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    Image.fromarray(GREY).save(tmp_path / name)
    module = tifffile if name == "a.tif" else Image
    monkeypatch.setattr(module, "TiffFile" if name == "a.tif" else "open", fail)
    message = refused(
        tmp_path / name, f"cannot be read ({os.strerror(number)})", "Try again"
    )
    assert "emove" not in message
    assert "damage" not in message
