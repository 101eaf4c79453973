"""Orientation tags: what is read is what viewers show."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from segjax.data.files.images import read_label, read_page, read_pages
from segjax.data.files.orientation import exif_orientation, upright

SHOWN = np.random.default_rng(0).integers(0, 256, (12, 20), np.uint8)
"""What a viewer shows."""


def stored(orientation, shown=SHOWN):
    """Turns a picture so that `orientation` brings it back."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    return upright(shown, back)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def with_late_exif(png, orientation):
    """Puts EXIF behind the pixels, where PNG allows it."""
    body = b"eXIf" + exif(orientation).removeprefix(b"Exif\0\0")
    chunk = (
        struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    )
    end = png.rindex(b"IEND") - 4
    return png[:end] + chunk + png[end:]


def write(path, pixels, orientation):
    kind = path.name.split(".")[0]
    if path.suffix == ".tif":
        tag = (274, "H", 1, orientation, True)
        options = {"photometric": "minisblack", "extratags": [tag]}
        if kind == "imagej":
            pixels = np.stack([pixels] * 3)
            options |= {"imagej": True, "metadata": {"axes": "ZYX"}}
            options |= {"truncate": True}
        if kind == "planes":
            pixels = np.stack([pixels] * 3)
            options |= {"photometric": "rgb", "planarconfig": "separate"}
        tifffile.imwrite(path, pixels, **options)
    elif kind == "late":
        Image.fromarray(pixels).save(path)
        path.write_bytes(with_late_exif(path.read_bytes(), orientation))
    elif kind == "deep_color":
        whole = imagecodecs.png_encode(np.stack([pixels * 257] * 3, -1))
        path.write_bytes(with_late_exif(whole, orientation))
    else:
        color = np.stack([pixels] * 3, -1) if path.suffix == ".webp" else pixels
        Image.fromarray(color).save(path, exif=exif(orientation), lossless=True)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "name",
    ["a.png", "late.png", "a.webp", "a.jpg", "a.tif", "imagej.tif", "planes.tif"],
)
def test_images_and_labels_are_as_viewers_show_them(tmp_path, name, orientation):
    path = tmp_path / name
    write(path, stored(orientation), orientation)
    image = read_page(path)
    assert image.shape[:2] == SHOWN.shape
    close = 60 if name == "a.jpg" else 0
    np.testing.assert_allclose(image[..., 0].astype(int), SHOWN, atol=close)
    if name != "a.jpg":
        np.testing.assert_array_equal(read_label(path), SHOWN)
        with Image.open(path) as viewer:
            if viewer.format in ("PNG", "WEBP"):
                seen = np.asarray(ImageOps.exif_transpose(viewer))
                np.testing.assert_array_equal(np.squeeze(image), np.squeeze(seen))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_png_of_16_bits_are_turned_too(tmp_path, orientation):
    deep = SHOWN.astype(np.uint16) * 257
    write(tmp_path / "a.png", stored(orientation, deep), orientation)
    np.testing.assert_array_equal(read_page(tmp_path / "a.png")[..., 0], deep)
    color = stored(orientation).astype(np.uint16)
    write(tmp_path / "deep_color.png", color, orientation)
    image = read_page(tmp_path / "deep_color.png")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[..., 1], deep)


def test_every_page_of_a_stack_has_its_own_tag(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for orientation in range(1, 9):
            file.write(
                stored(orientation),
                extratags=[(274, "H", 1, orientation, True)],
                metadata=None,
            )
    for page in read_pages(tmp_path / "s.tif"):
        np.testing.assert_array_equal(page[..., 0], SHOWN)


def test_transparency_is_turned_with_the_pixels(tmp_path):
    alpha = np.full_like(SHOWN, 255)
    Image.fromarray(np.dstack([stored(6), stored(6, alpha)])).save(
        tmp_path / "a.png", exif=exif(6)
    )
    np.testing.assert_array_equal(read_page(tmp_path / "a.png")[..., 0], SHOWN)


WHOLE = exif(6)
DAMAGED = {
    "empty": b"",
    "noise": b"Exif\0\0" + bytes(range(100)),
    "no entries": WHOLE[:15],
    "far away": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "endless": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(24),
    "ninth": exif(9),
    "nought": exif(0),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_damaged_exif_leaves_a_good_picture_as_it_is(tmp_path, suffix, damage):
    path = tmp_path / f"a.{suffix}"
    smooth = np.tile(np.arange(0, 128, 4, dtype=np.uint8), (24, 1))
    Image.fromarray(np.stack([smooth] * 3, -1)).save(
        path, exif=DAMAGED[damage], lossless=True
    )
    np.testing.assert_allclose(
        read_page(path)[..., 0].astype(int), smooth, atol=6 if suffix == "jpg" else 0
    )


def test_exif_cut_at_any_length_gives_its_orientation_or_none():
    found = {exif_orientation(WHOLE[:n]) for n in range(len(WHOLE) + 1)}
    assert found == {1, 6}
    assert exif_orientation(WHOLE) == 6


def test_imagemagicks_exif_in_text_is_read(tmp_path):
    text = PngInfo()
    digits = WHOLE.hex()
    text.add_text("Raw profile type exif", f"\nexif\n    {len(WHOLE)}\n{digits}\n")
    Image.fromarray(stored(6)).save(tmp_path / "a.png", pnginfo=text)
    np.testing.assert_array_equal(read_page(tmp_path / "a.png")[..., 0], SHOWN)
