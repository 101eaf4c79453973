"""OME-Zarr 0.4 (zarr 2) and 0.5 (zarr 3), written with tensorstore."""

import json

import numpy as np
import pytest

from segjax.data.files.calibration import Calibration
from segjax.data.files.chunks import check_chunks
from segjax.data.files.images import (
    count_pages,
    read_label,
    read_layout,
    read_page,
    read_pages,
)
from segjax.data.files.layout import Layout
from segjax.data.files.listing import list_images
from segjax.errors import UserError

VALUES = np.random.default_rng(0).integers(0, 4000, (2, 3, 4, 20, 30), np.uint16)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_pages_channels_and_sizes_are_those_that_are_stated(
    write_zarr, tmp_path, version
):
    path = write_zarr(tmp_path / "a.ome.zarr", VALUES, version=version)
    pages = np.moveaxis(VALUES, 1, -1).reshape(8, 20, 30, 3)
    assert count_pages(path) == 8
    np.testing.assert_array_equal(list(read_pages(path)), pages)
    np.testing.assert_array_equal(read_page(path, 5), pages[5])
    names = ("DAPI", "GFP", "RFP")
    calibration = Calibration((0.5, 0.25), 2.5, 30.0)
    zarr_format = 2 if version == "0.4" else 3
    layout = Layout("OME-Zarr", "TZ", (2, 4), names, calibration, zarr_format)
    assert read_layout(path) == layout


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", ">u2"])
def test_a_plane_is_a_page_of_its_type(write_zarr, tmp_path, dtype):
    values = VALUES[0, 0, 0].astype(dtype)
    version = "0.4" if dtype == ">u2" else "0.5"
    path = write_zarr(tmp_path / "a.zarr", values, "yx", version=version)
    page = read_page(path)
    assert page.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(page[..., 0], values)
    np.testing.assert_array_equal(read_label(path), values)
    assert read_layout(path).sizes == ()


def test_scales_of_the_image_and_of_its_level_multiply(write_zarr, tmp_path):
    whole = [{"type": "scale", "scale": [2, 1, 2, 2, 2]}]
    path = write_zarr(tmp_path / "a.zarr", VALUES, coordinateTransformations=whole)
    assert read_layout(path).calibration == Calibration((1.0, 0.5), 5.0, 60.0)


def test_a_folder_lists_zarrs_as_images_and_does_not_enter_them(write_zarr, tmp_path):
    write_zarr(tmp_path / "plate" / "b.ome.zarr", VALUES)
    write_zarr(tmp_path / "a.zarr", VALUES)
    found = list_images(tmp_path, nested=True)
    assert [path.name for path in found] == ["a.zarr", "b.ome.zarr"]
    assert list_images(tmp_path / "a.zarr") == [tmp_path / "a.zarr"]


def without(key):
    def damage(path):
        about = json.loads((path / "zarr.json").read_text())
        del about["attributes"]["ome"][key]
        (path / "zarr.json").write_text(json.dumps(about))

    return damage


def renamed(name):
    def damage(path):
        text = (path / "zarr.json").read_text()
        (path / "zarr.json").write_text(
            text.replace('"path": "0"', f'"path": "{name}"')
        )

    return damage


def cut_chunk(path):
    chunk = path / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-9])


def nested(path):
    """Lists in lists, at which the parser of tensorstore crashes."""
    array = path / "0" / "zarr.json"
    lists = "[" * 50_000 + "]" * 50_000
    array.write_text(array.read_text().replace("{", '{"x": ' + lists + ", ", 1))


DAMAGED = {
    "no multiscales": (without("multiscales"), "is a Zarr without multiscales"),
    "no array": (renamed("1"), "the array '1' is missing"),
    "outside": (renamed("../b.zarr/0"), "the path of a part is '../b.zarr/0'"),
    "nested": (nested, "nested too deeply"),
    "no json": (lambda p: (p / "zarr.json").write_text("{"), "is not JSON"),
    "no metadata": (lambda p: (p / "zarr.json").unlink(), "lacks zarr.json"),
    "chunk": (cut_chunk, "truncated or damaged"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_ends_in_a_sentence_that_names_the_file(write_zarr, tmp_path, case):
    damage, sentence = DAMAGED[case]
    path = tmp_path / "a.zarr"
    write_zarr(tmp_path / "b.zarr", VALUES)
    write_zarr(path, VALUES)
    damage(path)
    with pytest.raises(UserError) as caught:
        read_page(path)
    assert sentence in str(caught.value)
    assert "a.zarr" in str(caught.value)


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [("tccyx", r"its axes are .*'c', 'c'"), ("czyx", "5 dimensions where it names")],
)
def test_axes_that_cannot_be_are_reported(write_zarr, tmp_path, axes, sentence):
    path = write_zarr(tmp_path / "a.zarr", VALUES, axes)
    with pytest.raises(UserError, match=sentence):
        read_page(path)


def clear(path, most=None):
    chunks = [x for x in sorted((path / "0").rglob("*")) if x.name.isdecimal()]
    for chunk in [x for x in chunks if x.is_file()][:most]:
        chunk.unlink()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_chunks_that_are_not_there_are_counted(write_zarr, tmp_path, version, caplog):
    path = write_zarr(tmp_path / "a.zarr", VALUES, version=version)
    with caplog.at_level("WARNING", logger="segjax"):
        check_chunks(path)
        assert not caplog.messages
        clear(path, 7)
        check_chunks(path)
        assert "a.zarr lacks 7 of its 144 chunks, where it is read as 0" in caplog.text
        clear(path)
        check_chunks(path, is_label=True)
        assert "lacks 144 of its 144" in caplog.text
    with pytest.raises(UserError, match=r"a\.zarr has no pixels: none of its 144"):
        check_chunks(path)


def test_a_zarr_without_pixels_is_called_empty(write_zarr, tmp_path):
    path = write_zarr(tmp_path / "a.zarr", VALUES[:, :, :0])
    with pytest.raises(UserError, match=r"a\.zarr is empty: its sizes are .*'z': 0"):
        read_page(path)
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(UserError, match=r"b\.zarr is an empty folder"):
        read_page(tmp_path / "b.zarr")


def test_the_images_of_a_group_are_offered(write_zarr, tmp_path):
    write_zarr(tmp_path / "a.zarr" / "0", VALUES)
    (tmp_path / "a.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(UserError, match=r"Give one of its images, such as .*a\.zarr/0"):
        read_page(tmp_path / "a.zarr")
