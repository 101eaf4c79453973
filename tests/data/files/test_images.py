import contextlib
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.files import decoders, plane
from segjax.data.files import tiff as tiff_pages
from segjax.data.files.images import (
    count_pages,
    list_images,
    normalize,
    read_heads,
    read_label,
    read_label_pages,
    read_page,
    read_pages,
    with_channels,
)
from segjax.data.files.listing import other_files
from segjax.errors import UserError
from segjax.output.folder import Outputs

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (13, 17), np.uint8)
RGB = RANDOM.integers(0, 256, (13, 17, 3), np.uint8)
DEEP = RANDOM.integers(0, 65536, (13, 17), np.uint16)
DEEP_RGB = RANDOM.integers(0, 65536, (13, 17, 3), np.uint16)
STACK = RANDOM.integers(0, 256, (5, 13, 17), np.uint8)
SECTIONS = {"axes": "ZYX"}
IMAGEJ = {"imagej": True, "truncate": True, "metadata": SECTIONS}
IDS = (GREY % 4).astype(np.uint8)


def tiff(path, values, **options):
    tifffile.imwrite(path, values, **options)


def picture(path, values, mode=None, **options):
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path, **options)


def deep_png(path, values):
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(values))


WHOLE = {
    "grey.png": (picture, GREY),
    "rgb.png": (picture, RGB),
    "deep.png": (picture, DEEP),
    "deep_rgb.png": (deep_png, DEEP_RGB),
    "grey.tif": (tiff, GREY),
    "rgb.tif": (tiff, RGB),
    "deep.tiff": (tiff, DEEP),
    "deep_rgb.TIF": (tiff, DEEP_RGB),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_depth_and_channel_count_comes_back_as_written(tmp_path, name):
    write, values = WHOLE[name]
    write(tmp_path / name, values)
    image = read_page(tmp_path / name)
    assert image.dtype == values.dtype
    np.testing.assert_array_equal(image, values.reshape(13, 17, -1))
    assert count_pages(tmp_path / name) == 1


def test_webp_without_loss_and_jpeg_nearly_come_back_as_written(tmp_path):
    smooth = np.broadcast_to(np.arange(0, 128, 4, dtype=np.uint8), (32, 32))
    color = np.stack([smooth, smooth, smooth], -1)
    picture(tmp_path / "a.webp", color, lossless=True)
    picture(tmp_path / "a.jpg", color, quality=95)
    picture(tmp_path / "b.jpeg", np.ascontiguousarray(smooth), quality=95)
    np.testing.assert_array_equal(read_page(tmp_path / "a.webp"), color)
    np.testing.assert_allclose(read_page(tmp_path / "a.jpg"), color, atol=6)
    np.testing.assert_allclose(
        read_page(tmp_path / "b.jpeg"), smooth[..., None], atol=6
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "zlib", "tile": (16, 16), "byteorder": ">"},
        {"bigtiff": True},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "TYX"}, "truncate": True},
        {"truncate": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("depth", [8, 16])
def test_stacks_of_every_layout_are_read_page_by_page(tmp_path, options, depth):
    stack = STACK if depth == 8 else STACK.astype(np.uint16) * 257
    tiff(tmp_path / "s.tif", stack, **options)
    pages = list(read_pages(tmp_path / "s.tif"))
    assert count_pages(tmp_path / "s.tif") == len(pages) == 5
    assert {page.dtype for page in pages} == {stack.dtype}
    np.testing.assert_array_equal(np.stack(pages)[..., 0], stack)
    np.testing.assert_array_equal(read_page(tmp_path / "s.tif", 3), pages[3])


def test_pages_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    read = []
    original = tiff_pages.TiffPages.page
    monkeypatch.setattr(
        tiff_pages.TiffPages,
        "page",
        lambda self, index: read.append(index) or original(self, index),
    )
    tiff(tmp_path / "s.tif", STACK)
    pages = read_pages(tmp_path / "s.tif")
    next(pages)
    assert read == [0]
    pages.close()


def test_tiff_planes_become_channels(tmp_path):
    planes = np.ascontiguousarray(np.moveaxis(RGB, -1, 0))
    tiff(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_page(tmp_path / "p.tif"), RGB)


def test_white_is_high_even_where_a_tiff_stores_it_as_zero(tmp_path):
    tiff(tmp_path / "w.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_page(tmp_path / "w.tif")[..., 0], 255 - GREY)
    np.testing.assert_array_equal(read_label(tmp_path / "w.tif"), GREY)


def test_a_page_of_120_million_pixels_is_no_attack(tmp_path):
    Image.new("L", (12_000, 10_000), 7).save(tmp_path / "big.png", compress_level=1)
    image = read_page(tmp_path / "big.png")
    assert image.shape == (10_000, 12_000, 1)
    assert image[-1, -1, 0] == 7


def test_the_ids_of_palette_grey_bilevel_and_grey_as_rgb_labels(tmp_path):
    palette = Image.fromarray(IDS, mode=None).convert("P")
    palette.putdata(IDS.ravel().tolist())
    palette.putpalette(RANDOM.integers(0, 256, 768, np.uint8).tobytes())
    palette.save(tmp_path / "palette.png")
    for bits in (2, 4):
        palette.save(tmp_path / f"palette{bits}.png", bits=bits)
    picture(tmp_path / "grey.png", IDS)
    picture(tmp_path / "rgb.png", np.stack([IDS] * 3, -1))
    picture(tmp_path / "rgb.webp", np.stack([IDS] * 3, -1), lossless=True)
    tiff(tmp_path / "ids.tif", IDS.astype(np.int32))
    colors = np.zeros((3, 256), np.uint16)
    tiff(tmp_path / "palette.tif", IDS, photometric="palette", colormap=colors)
    for path in list_images(tmp_path):
        np.testing.assert_array_equal(read_label(path), IDS, err_msg=path.name)


def test_labels_of_one_bit_are_zero_and_one(tmp_path):
    mask = IDS > 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    tiff(tmp_path / "m.tif", mask)
    for name in ("m.png", "m.tif"):
        np.testing.assert_array_equal(read_label(tmp_path / name), mask)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_label_of_few_bits_is_not_stretched(tmp_path, bits):
    import struct
    import zlib

    def chunk(kind, body):
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    row = bytes([0, 0b00_01_10_11 if bits == 2 else 0x03])
    width = 8 // bits
    head = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    parts = (
        chunk(b"IHDR", head),
        chunk(b"IDAT", zlib.compress(row)),
        chunk(b"IEND", b""),
    )
    (tmp_path / "few.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    expected = [[0, 1, 2, 3]] if bits == 2 else [[0, 3]]
    np.testing.assert_array_equal(read_label(tmp_path / "few.png"), expected)


def test_label_stacks_are_read_page_by_page(tmp_path):
    tiff(tmp_path / "l.tif", STACK, compression="zlib")
    np.testing.assert_array_equal(
        np.stack(list(read_label_pages(tmp_path / "l.tif"))), STACK
    )


def test_the_real_stacks_have_30_pages(shared_data):
    for name in ("train-volume", "train-labels", "test-volume"):
        path = shared_data / "isbi2012_em" / f"{name}.tif"
        assert count_pages(path) == 30
        assert read_page(path, 29).shape == (512, 512, 1)


def nothing(path):
    pass


def empty(path):
    path.write_bytes(b"")


def noise(path):
    path.write_bytes(b"no image at all, but long enough to have a head")


def shortened(fraction, write, *arguments, **options):
    def make(path):
        write(path, *arguments, **options)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * fraction)])

    return make


def floats(value):
    values = np.zeros((8, 8), np.float32)
    values[2, 3:5] = value
    return lambda path: tiff(path, values)


SEEN_THROUGH = ("has a transparent part (2 of 221 pixels", "without transparency")


def transparent(path):
    values = np.maximum(GREY, 1)
    values[3, 4:6] = 0
    Image.fromarray(values).save(path, transparency=0)


def with_alpha(values):
    full = np.full(values.shape[:2], np.iinfo(values.dtype).max, values.dtype)
    return np.dstack([values, full])


def clear(values):
    values = with_alpha(values)
    values[3, 4:6, -1] = 9
    return values


BAD_IMAGES = {
    "missing.png": (nothing, "does not exist", "Check the path"),
    "empty.png": (empty, "0 bytes", "remove it"),
    "empty.tif": (empty, "0 bytes", "remove it"),
    "noise.png": (noise, "not a PNG", "Save it again"),
    "head.png": (shortened(0.01, picture, RGB), "not a PNG", "Save it again"),
    "cut.png": (shortened(0.6, picture, RGB), "truncated", "Copy it again"),
    "cut.jpg": (shortened(0.6, picture, RGB), "truncated", "Copy it again"),
    "cut.webp": (shortened(0.6, picture, RGB), "truncated or damaged", "Copy it again"),
    "cut.tif": (shortened(0.6, tiff, GREY), "truncated", "Copy it again"),
    "stack.tif": (
        shortened(0.6, tiff, STACK),
        "pages after number 1 are",
        "Copy it again",
    ),
    "zip.tif": (
        shortened(0.98, tiff, STACK, compression="zlib"),
        "page 5 reaches beyond the end",
        "Copy it again",
    ),
    "imagej.tif": (
        shortened(0.6, tiff, STACK, imagej=True, truncate=True, metadata=SECTIONS),
        "1 of 5 pages",
        "Copy it again",
    ),
    "rgba.png": (lambda p: picture(p, clear(RGB)), *SEEN_THROUGH),
    "la.png": (lambda p: picture(p, clear(GREY)), *SEEN_THROUGH),
    "trns.png": (transparent, *SEEN_THROUGH),
    "trns.gif": (transparent, *SEEN_THROUGH),
    "rgba.webp": (lambda p: picture(p, clear(RGB), lossless=True), *SEEN_THROUGH),
    "rgba.tif": (lambda p: tiff(p, clear(RGB), photometric="rgb"), *SEEN_THROUGH),
    "deep_rgba.png": (lambda p: deep_png(p, clear(DEEP_RGB)), *SEEN_THROUGH),
    "palette.png": (lambda p: picture(p, RGB, "P"), "palette", "grey or RGB"),
    "palette.tif": (
        lambda p: tiff(
            p, GREY, photometric="palette", colormap=np.zeros((3, 256), np.uint16)
        ),
        "palette",
        "grey or RGB",
    ),
    "cmyk.jpg": (lambda p: picture(p, RGB, "CMYK"), "CMYK", "grey or RGB"),
    "cmyk.tif": (
        lambda p: tiff(p, np.dstack([RGB, GREY]), photometric="separated"),
        "CMYK",
        "grey or RGB",
    ),
    "bit.png": (lambda p: picture(p, GREY > 9), "1 bit", "8 or 16 bits"),
    "bit.tif": (lambda p: tiff(p, GREY > 9), "1 bit", "8 or 16 bits"),
    "nan.tif": (floats(np.nan), "2 values that are NaN", "Repair the file"),
    "inf.tif": (
        floats(-np.inf),
        "2 values that are NaN or infinite",
        "Repair the file",
    ),
    "int.tif": (lambda p: tiff(p, GREY.astype(np.int32)), "int32", "as one of uint8"),
    "huge.tif": (
        lambda p: tiff(p, np.full((2, 3), 1e300)),
        "6 values beyond 3.4e+38",
        "Divide the image",
    ),
    "white.tif": (
        lambda p: tiff(p, GREY.astype(np.int16), photometric="miniswhite"),
        "0 is white, but holds int16",
        "0 is black",
    ),
    "moving.gif": (
        lambda p: Image.fromarray(GREY).save(
            p, save_all=True, append_images=[Image.fromarray(GREY + 1)]
        ),
        "animation of 2",
        "multi-page TIFF",
    ),
    "pointer.png": (
        lambda p: p.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        ),
        "is a git-LFS pointer",
        "git lfs pull",
    ),
    "broken.png": (
        lambda p: p.symlink_to("nowhere.png"),
        "is a link to nowhere.png, which does not exist",
        "remove the link",
    ),
    "cut.bmp": (shortened(0.6, picture, RGB), "truncated", "Copy it again"),
    "cut.gif": (shortened(0.9, picture, RGB), "truncated", "Copy it again"),
    "moving.png": (
        lambda p: Image.fromarray(GREY).save(
            p, save_all=True, append_images=[Image.fromarray(GREY + 1)]
        ),
        "animation of 2",
        "multi-page TIFF",
    ),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_ends_in_file_reason_and_remedy(tmp_path, name):
    make, reason, remedy = BAD_IMAGES[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(UserError) as caught:
        list(read_pages(path))
    message = str(caught.value)
    assert str(path) in message
    assert reason in message
    assert remedy in message
    assert "\n" not in message


BAD_LABELS = {
    "missing.png": (nothing, "does not exist"),
    "empty.png": (empty, "0 bytes"),
    "cut.png": (shortened(0.6, picture, GREY), "truncated"),
    "ids.jpg": (lambda p: picture(p, IDS), "is a JPEG"),
    "color.png": (lambda p: picture(p, RGB), "is a colour picture"),
    "alpha.png": (lambda p: picture(p, clear(RGB)), "has a transparent part"),
    "cmyk.tif": (
        lambda p: tiff(p, np.dstack([RGB, GREY]), photometric="separated"),
        "is CMYK",
    ),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_a_bad_label_ends_in_file_and_reason(tmp_path, name):
    make, reason = BAD_LABELS[name]
    make(tmp_path / name)
    with pytest.raises(UserError) as caught:
        list(read_label_pages(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("name", "write", "values", "options"),
    [
        ("a.png", picture, RGB, {}),
        ("a.jpg", picture, RGB, {}),
        ("a.webp", picture, RGB, {"lossless": True}),
        ("a.tif", tiff, STACK, {}),
        ("b.tif", tiff, STACK, {"compression": "zlib"}),
        ("c.tif", tiff, STACK, {"compression": "lzw", "bigtiff": True}),
        ("d.tif", tiff, STACK, IMAGEJ),
        ("e.tif", tiff, STACK, {"truncate": True, "byteorder": ">"}),
    ],
    ids=["png", "jpeg", "webp", "tiff", "deflate", "lzw", "imagej", "shaped"],
)
def test_a_file_cut_at_any_length_is_never_taken_for_whole(
    tmp_path, name, write, values, options
):
    write(tmp_path / name, values, **options)
    whole = (tmp_path / name).read_bytes()
    pages = list(read_pages(tmp_path / name))
    for length in np.linspace(0, len(whole) - 1, 40, dtype=int):
        (tmp_path / name).write_bytes(whole[:length])
        if length > len(whole) - 20:
            # What follows the pixels, such as a checksum, may be gone unnoticed.
            with contextlib.suppress(UserError):
                found = list(read_pages(tmp_path / name))
                np.testing.assert_array_equal(np.stack(found), np.stack(pages))
            continue
        with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
            list(read_pages(tmp_path / name))


@pytest.mark.parametrize("dtype", ["uint32", "int16", "float16", "float32", "float64"])
def test_values_of_cameras_and_of_computations_come_back(tmp_path, dtype):
    values = (RGB[..., :1].astype(np.float64) - 100).astype(dtype)
    tiff(tmp_path / "a.tif", values[..., 0])
    page = read_page(tmp_path / "a.tif")
    assert page.dtype == (dtype if dtype in ("uint32", "int16") else "float32")
    np.testing.assert_array_equal(page, values)


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_channels_inside_a_page_are_kept_whatever_their_number(tmp_path, planes):
    values = STACK if planes == "separate" else np.moveaxis(STACK, 0, -1)
    tiff(tmp_path / "a.tif", values, photometric="minisblack", planarconfig=planes)
    np.testing.assert_array_equal(
        read_page(tmp_path / "a.tif"), np.moveaxis(STACK, 0, -1)
    )


def test_a_fourth_channel_that_is_no_transparency_is_a_channel(tmp_path):
    values = clear(RGB)
    tiff(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_page(tmp_path / "a.tif"), values)
    with pytest.raises(UserError, match=r"4 channels where one number"):
        read_label(tmp_path / "a.tif")


def test_an_error_in_a_stack_names_the_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as writer:
        writer.write(GREY)
        writer.write(GREY.astype(np.int32))
    with pytest.raises(UserError, match=r"s\.tif, page 2 of 2, holds int32"):
        list(read_pages(tmp_path / "s.tif"))


def test_heads_are_of_the_type_and_channels_of_their_pages(tmp_path):
    pages = [(RGB[..., 0], "minisblack"), (RGB, "rgb")]
    pages.append((RGB[..., 0].astype(np.float32), "minisblack"))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page, kind in pages:
            file.write(page, photometric=kind, metadata=None)
        file.write(RGB[..., 0] > 5, photometric="minisblack", metadata=None)
    heads = [(x.shape, x.dtype) for x in read_heads(tmp_path / "a.tif", range(3))]
    types = (np.uint8, np.uint8, np.float32)
    assert heads == [((1, 1, c), x) for c, x in zip((1, 3, 1), types, strict=True)]
    with pytest.raises(UserError, match=r"page 4 of 4, has 1 bit per pixel"):
        next(read_heads(tmp_path / "a.tif", [3]))


def test_values_beyond_those_of_float32_are_called_so(tmp_path):
    tiff(tmp_path / "a.tif", np.array([[1.0, 1e39], [-1e300, 2.0]]))
    sentence = r"a\.tif has 2 values beyond 3\.4e\+38, the largest of float32"
    with pytest.raises(UserError, match=sentence):
        read_page(tmp_path / "a.tif")


def test_a_damaged_page_is_found_before_the_first_is_read(tmp_path):
    shortened(0.98, tiff, STACK, compression="zlib")(tmp_path / "s.tif")
    for read in (read_pages, read_label_pages):
        with pytest.raises(UserError, match=r"page 5 reaches beyond the end"):
            next(read(tmp_path / "s.tif"))
    assert read_page(tmp_path / "s.tif", 3).shape == (13, 17, 1)
    with pytest.raises(UserError, match=r"page 5 reaches beyond the end"):
        read_page(tmp_path / "s.tif", 4)


def test_smaller_copies_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
        writer.write(GREY)
        writer.write(GREY[::2, ::2], subfiletype=1)
    with pytest.raises(UserError, match=r"p\.tif holds smaller copies .* full size"):
        count_pages(tmp_path / "p.tif")


def test_a_page_beyond_the_end_is_refused(tmp_path):
    tiff(tmp_path / "s.tif", STACK)
    for read in (read_page, read_label):
        with pytest.raises(UserError, match=r"has 5 pages, but page 6"):
            read(tmp_path / "s.tif", 5)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "grey.png", "deep.png"])
def test_opaque_transparency_is_dropped(tmp_path, name):
    values = {"grey.png": GREY, "deep.png": DEEP_RGB}.get(name, RGB)
    whole = with_alpha(values)
    if name == "a.tif":
        tiff(tmp_path / name, whole, photometric="rgb")
    elif name == "deep.png":
        deep_png(tmp_path / name, whole)
    else:
        picture(tmp_path / name, whole, lossless=True)
    image = read_page(tmp_path / name)
    assert image.dtype == values.dtype
    np.testing.assert_array_equal(image, values.reshape(13, 17, -1))


def test_a_transparent_colour_that_does_not_occur_is_no_transparency(tmp_path):
    for name in ("a.png", "a.gif"):
        Image.fromarray(np.maximum(GREY, 1)).save(tmp_path / name, transparency=0)
        np.testing.assert_array_equal(
            read_page(tmp_path / name)[..., 0], np.maximum(GREY, 1)
        )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_value_of_few_bits_is_found_among_its_pixels(tmp_path, bits):
    values = GREY & (2**bits - 1)
    Image.fromarray(values).save(tmp_path / "a.png", bits=bits)
    raw = (tmp_path / "a.png").read_bytes()
    assert raw[24:26] == bytes((bits, 0))
    start = raw.index(b"IDAT") - 4
    body = b"tRNS" + struct.pack(">H", 1)
    clear = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(raw[:start] + clear + raw[start:])
    count = int((values == 1).sum())
    assert count
    with pytest.raises(UserError, match=rf"a transparent part \({count} of 221 pixels"):
        read_label(tmp_path / "a.png")


def test_labels_with_opaque_transparency_are_grey(tmp_path):
    picture(tmp_path / "a.png", with_alpha(np.stack([IDS] * 3, -1)))
    picture(tmp_path / "b.png", with_alpha(IDS))
    tiff(
        tmp_path / "c.tif",
        with_alpha(IDS),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    for name in ("a.png", "b.png", "c.tif"):
        np.testing.assert_array_equal(read_label(tmp_path / name), IDS)
    np.testing.assert_array_equal(read_page(tmp_path / "c.tif")[..., 0], IDS)


def test_an_animation_without_loss_is_reported_as_one(tmp_path):
    first, *others = (Image.fromarray(np.stack([v] * 3, -1)) for v in STACK)
    first.save(tmp_path / "a.webp", save_all=True, append_images=others, lossless=True)
    with pytest.raises(UserError, match=r"a\.webp is an animation of 5 pictures"):
        read_label(tmp_path / "a.webp")


def test_bitmaps_and_gifs_of_one_frame_are_read(tmp_path):
    picture(tmp_path / "rgb.bmp", RGB)
    few = RGB // 128 * 255
    picture(tmp_path / "few.gif", few)
    Image.fromarray(few).convert("P").save(tmp_path / "few.bmp")
    np.testing.assert_array_equal(read_page(tmp_path / "rgb.bmp"), RGB)
    for name in ("few.gif", "few.bmp"):
        np.testing.assert_array_equal(read_page(tmp_path / name), few)
    for name in ("grey.bmp", "grey.gif"):
        picture(tmp_path / name, GREY)
        np.testing.assert_array_equal(read_page(tmp_path / name)[..., 0], GREY)


def test_labels_in_bitmaps_and_gifs_are_positions(tmp_path):
    colors = RANDOM.integers(0, 256, 768, np.uint8).tobytes()
    for name in ("a.bmp", "a.gif"):
        label = Image.fromarray(IDS).convert("P")
        label.putdata(IDS.ravel().tolist())
        label.putpalette(colors)
        label.save(tmp_path / name, optimize=False)
        np.testing.assert_array_equal(read_label(tmp_path / name), IDS)
    picture(tmp_path / "b.bmp", IDS > 1)
    np.testing.assert_array_equal(read_label(tmp_path / "b.bmp"), IDS > 1)


def test_floats_that_are_integers_are_labels(tmp_path):
    for dtype in (np.float16, np.float32, np.float64):
        tiff(tmp_path / "a.tif", IDS.astype(dtype) - 1)
        label = read_label(tmp_path / "a.tif")
        assert label.dtype == np.int64
        np.testing.assert_array_equal(label, IDS.astype(int) - 1)
    tiff(tmp_path / "a.tif", IDS.astype(np.float32) / 2)
    assert read_label(tmp_path / "a.tif").dtype == np.float32
    tiff(tmp_path / "a.tif", np.where(IDS > 2, np.nan, IDS).astype(np.float32))
    with pytest.raises(UserError, match="values that are NaN"):
        read_label(tmp_path / "a.tif")


@pytest.mark.parametrize(("found", "wanted"), [(1, 3), (3, 1)])
def test_channels_are_converted_where_nothing_is_lost(found, wanted):
    image = np.repeat(GREY[..., None], found, -1)
    converted = with_channels(image, wanted)
    np.testing.assert_array_equal(converted, np.repeat(GREY[..., None], wanted, -1))
    assert with_channels(image, found) is image
    for channel in range(found if found == 3 else 0):
        image = np.repeat(GREY[..., None], 3, -1)
        image[5, 5, channel] ^= 1
        assert with_channels(image, 1) is None


def test_a_header_that_claims_too_many_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plane, "MAX_PIXELS", 100)
    monkeypatch.setattr(tiff_pages, "SMALL_BYTES", 100)
    picture(tmp_path / "a.png", GREY)
    tiff(tmp_path / "a.tif", GREY)
    for name in ("a.png", "a.tif"):
        with pytest.raises(UserError, match=rf"{name} claims 17 x 13 pixels"):
            read_page(tmp_path / name)


@pytest.mark.parametrize("name", ["lzw.tif", "deep.png"])
def test_without_imagecodecs_the_sentence_names_the_extra(tmp_path, name):
    path = tmp_path / name
    if name == "lzw.tif":
        tiff(path, GREY, compression="lzw")
    else:
        deep_png(path, DEEP_RGB)
    program = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from segjax.data.files.images import read_page\n"
        "try: read_page(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, cwd=root
    )
    assert done.stdout.startswith(f"UserError {path}"), done.stderr
    assert "pip install segjax[tiff]" in done.stdout


def test_a_folder_is_listed_in_natural_order_without_other_files(tmp_path):
    for name in ("s10.png", "s2.PNG", "s1.tif", "b.webp", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    names = [path.name for path in list_images(tmp_path)]
    assert names == ["b.webp", "s1.tif", "s2.PNG", "s10.png"]
    assert list_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    assert other_files(tmp_path, list_images(tmp_path)) == "1 file (.txt)"
    assert other_files(tmp_path / "s1.tif", [tmp_path / "s1.tif"]) == ""


def test_what_systems_put_into_folders_is_passed_over(tmp_path):
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "a.png"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]
    assert other_files(tmp_path, list_images(tmp_path)) == ""


def test_folders_below_are_entered_once(tmp_path):
    for name in ("plate10/a.png", "plate2/b.png", "c.png", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "plate2" / "round").symlink_to(tmp_path)
    (tmp_path / "plate2" / "again").symlink_to(tmp_path / "plate10")
    found = list_images(tmp_path, nested=True)
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["c.png", "plate2/b.png", "plate10/a.png"]
    # The folders are two links that lead to what was listed.
    assert other_files(tmp_path, found) == "1 file (.txt), 2 folders"


def test_files_that_segjax_wrote_are_left_out_and_not_what_lies_beside_them(tmp_path):
    results = ["plate/a.tif", "a.zarr/.zgroup", "cells.segjax", "changed.png"]
    outputs = Outputs(tmp_path / "in/out", [(name, "a run") for name in results])
    outputs.make_folder()
    for name in results:
        with outputs.file(name) as file:
            file.write(b"x")
    for name in ("a.png", "plate/b.tif", "changed.png"):
        (tmp_path / "in/out" / name).write_bytes(b"of the user")
    found = list_images(tmp_path / "in", nested=True)
    names = [path.relative_to(tmp_path / "in/out").as_posix() for path in found]
    assert names == ["a.png", "plate/b.tif"]
    others = other_files(tmp_path / "in", found)
    assert others == "3 files (.png, .segjax, .tif), 1 folder"
    assert len(list_images(tmp_path / "in", nested=True, results=True)) == 5
    # The folder that is asked for is another thing: its results can be looked at.
    assert len(list_images(tmp_path / "in/out", nested=True)) == 5


def test_a_link_that_leads_nowhere_is_reported_when_a_folder_is_listed(tmp_path):
    picture(tmp_path / "a.png", GREY)
    (tmp_path / "b.png").symlink_to("gone/b.png")
    with pytest.raises(UserError, match=r"b\.png is a link to gone/b\.png, which does"):
        list_images(tmp_path)
    (tmp_path / "b.png").unlink()
    (tmp_path / "b.png").symlink_to("b.png")
    with pytest.raises(UserError, match=r"b\.png is a link to b\.png"):
        list_images(tmp_path)


def test_a_missing_or_empty_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is empty\. Put files"):
        list_images(tmp_path)
    (tmp_path / "a.pdf").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds no image, only \.pdf"):
        list_images(tmp_path)
    (tmp_path / "deep").mkdir()
    with pytest.raises(UserError, match=r"holds no image, only \.pdf, deep/\. Put"):
        list_images(tmp_path)


def test_a_folder_that_may_not_be_read_is_reported(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        list_images(tmp_path)


def test_a_file_that_may_not_be_read_is_reported(tmp_path, monkeypatch):
    picture(tmp_path / "a.png", GREY)

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decoders, "_Bounded", refuse)
    with pytest.raises(UserError, match=r"a\.png may not be read"):
        read_page(tmp_path / "a.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_range_maps_the_type_to_zero_and_one(dtype):
    image = np.array([0, np.iinfo(dtype).max], dtype).reshape(1, 2, 1)
    result = normalize(image, "range")
    assert result.dtype == np.float32
    assert result.ravel().tolist() == [0.0, 1.0]


def test_per_image_has_mean_zero_and_variance_one_in_any_unit():
    image = RANDOM.integers(100, 50_000, (64, 64, 3), np.uint16)
    result = normalize(image, "per_image")
    assert result.dtype == np.float32
    assert abs(result.mean(dtype=np.float64)) < 1e-6
    assert abs(result.std(dtype=np.float64) - 1) < 1e-6
    halved = normalize((image // 2 * 2 // 2).astype(np.uint16), "per_image")
    np.testing.assert_allclose(result, halved, atol=1e-3)


@pytest.mark.parametrize("method", ["range", "per_image"])
@pytest.mark.parametrize("value", [0, 93, 255])
def test_a_constant_image_stays_finite(method, value):
    result = normalize(np.full((8, 8, 1), value, np.uint8), method)
    expected = value / 255 if method == "range" else 0.0
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_normalize_refuses_other_types_and_methods():
    with pytest.raises(
        ValueError, match=r"'range' needs to know the largest intensity"
    ):
        normalize(np.zeros((2, 2, 1), np.float32), "range")
    with pytest.raises(ValueError, match=r"normalization must be one of .*'zscore'"):
        normalize(np.zeros((2, 2, 1), np.uint8), "zscore")
