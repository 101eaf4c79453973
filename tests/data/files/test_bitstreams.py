"""Labels whose compression may have changed their values are refused by their bytes."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.files.images import read_label, read_page
from segjax.errors import UserError

IDS = np.kron(np.random.default_rng(0).integers(0, 3, (8, 8)), np.ones((8, 8))).astype(
    np.uint8
)
COLOR = np.stack([IDS] * 3, -1)


def tiff(name, values=IDS, tile=(32, 32), **codec):
    return lambda path: tifffile.imwrite(
        path,
        values,
        compression=name,
        compressionargs=codec or None,
        photometric="rgb" if values.ndim == 3 else "minisblack",
        tile=tile,
    )


def picture(values=COLOR, **options):
    return lambda path: Image.fromarray(values).save(path, **options)


KEPT = {
    "vp8l.webp": picture(lossless=True),
    "vp8x.webp": picture(
        lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", icc_profile=b"x"
    ),
    "png.png": picture(IDS),
    "gif.gif": picture(IDS),
    "bmp.bmp": picture(IDS),
    "none.tif": tiff(None),
    "deflate.tif": tiff("zlib"),
    "lzw.tif": tiff("lzw"),
    "packbits.tif": tiff("packbits"),
    "zstd.tif": tiff("zstd"),
    "lzma.tif": tiff("lzma"),
    "png.tif": tiff("png"),
    "reversible.tif": tiff("jpeg2000", reversible=True),
    "vp8l.tif": tiff("webp", COLOR, lossless=True),
    "lossless_jpeg.tif": tiff("jpeg", lossless=True),
    "lerc.tif": tiff("lerc", tile=None),
    "lerc_deflate.tif": tiff("lerc", tile=None, compression="deflate"),
}


@pytest.mark.parametrize("name", KEPT)
def test_labels_without_loss_are_read_from_every_container(tmp_path, name):
    KEPT[name](tmp_path / name)
    np.testing.assert_array_equal(read_label(tmp_path / name), IDS)


LOST = {
    "vp8.webp": (picture(quality=80), "is a WebP with loss"),
    "vp8x.webp": (
        picture(np.dstack([COLOR, np.full((64, 64), 255, np.uint8)]), quality=80),
        "is a WebP with loss",
    ),
    "exif.webp": (picture(quality=80, exif=b"Exif\0\0II*\0\0\0\0\0"), "with loss"),
    "jpeg.jpg": (picture(IDS), "is a JPEG"),
    "named.png": (picture(IDS, format="JPEG"), "is a JPEG"),
    "named.gif": (picture(format="WEBP", quality=80), "is a WebP with loss"),
    "jpeg.tif": (tiff("jpeg"), "is compressed as JPEG"),
    "wavelet97.tif": (tiff("jpeg2000", level=40), "as JPEG2000, which changes values"),
    "vp8.tif": (tiff("webp", COLOR, level=80, lossless=False), "as WEBP"),
    "lerc.tif": (tiff("lerc", tile=None, level=2.0), "is compressed as LERC"),
}
DOUBTFUL = {
    "xr.tif": (tiff("jpegxr"), "as JPEGXR, for which it cannot be decided"),
    "xl.tif": (tiff("jpegxl"), "as JPEGXL, for which it cannot be decided"),
    "lerc_zstd.tif": (
        tiff("lerc", tile=None, compression="zstd"),
        "as LERC, for which it cannot be decided",
    ),
}


@pytest.mark.parametrize("name", LOST | DOUBTFUL)
def test_labels_that_may_have_lost_values_are_refused(tmp_path, name):
    make, sentence = (LOST | DOUBTFUL)[name]
    make(tmp_path / name)
    with pytest.raises(UserError) as caught:
        read_label(tmp_path / name)
    assert f"{name} " in str(caught.value)
    assert sentence in str(caught.value)
    assert "anew from where they were drawn" in str(caught.value)


@pytest.mark.parametrize("name", LOST | DOUBTFUL)
def test_images_may_be_compressed_with_loss(tmp_path, name):
    make, _ = (LOST | DOUBTFUL)[name]
    make(tmp_path / name)
    assert read_page(tmp_path / name).shape[:2] == IDS.shape


def test_one_tile_with_loss_among_others_without_is_found(tmp_path):
    """A TIFF whose last tile says to be of JPEG's process with loss."""
    tiff("jpeg", lossless=True)(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages[0].dataoffsets[-1]
    whole = bytearray((tmp_path / "a.tif").read_bytes())
    whole[whole.index(b"\xff\xc3", start) + 1] = 0xC0
    (tmp_path / "a.tif").write_bytes(whole)
    with pytest.raises(UserError, match="JPEG, which changes values"):
        read_label(tmp_path / "a.tif")


def test_a_webp_without_pixels_is_reported(tmp_path):
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + bytes(10)
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(UserError, match=r"a\.webp"):
        read_label(tmp_path / "a.webp")
