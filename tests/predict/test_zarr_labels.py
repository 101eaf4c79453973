"""Labels of OME-Zarr images, read with tensorstore and with segjax."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
import tifffile

from segjax.data.files.images import read_label_pages, read_layout
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.geometry.input_sizes import Geometry
from segjax.predict.tiled import Predictor
from segjax.tasks.semantic.files import predict_files

VALUES = np.random.default_rng(0).integers(0, 4000, (2, 3, 4, 20, 30), np.uint16)
SPEC = LabelSpec(("dark", "light"), ((200, 10, 0), (0, 30, 250)))


def brightness(image):
    """Logits of a pixel: class 1 where its first channel is bright."""
    grey = image[..., :1] - 2000 / 65535
    return jnp.concatenate([-grey, grey], -1)


def predict(path, output, **options):
    predictor = Predictor(brightness, Geometry(stride=1), tile=32)
    options = {"normalization": "range", "channels": ("GFP",)} | options
    return predict_files(predictor, path, output, label_spec=SPEC, **options)


def array(path, version):
    driver = "zarr3" if version == "0.5" else "zarr"
    place = {"driver": "file", "path": f"{path}/"}
    return tensorstore.open({"driver": driver, "kvstore": place}).result()


def attributes(path, version):
    if version == "0.5":
        return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    return json.loads((path / ".zattrs").read_text())


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_sizes_and_values_come_back(write_zarr, tmp_path, version, monkeypatch):
    monkeypatch.setattr("segjax.predict.zarr_labels._CHUNK", 8)
    path = write_zarr(tmp_path / "images" / "a.ome.zarr", VALUES, version=version)
    out = tmp_path / "out"
    (labels,) = predict(tmp_path / "images", out, overlay=True)
    assert labels == out / "a.ome.zarr" / "labels" / "classes"
    expected = (VALUES[:, 1] > 2000).astype(np.uint8)
    for level, step in enumerate((1, 2)):
        found = array(labels / str(level), version)
        assert found.dtype.name == "uint8"
        np.testing.assert_array_equal(
            found.read().result(), expected[..., ::step, ::step]
        )
    np.testing.assert_array_equal(
        list(read_label_pages(out / "a.ome.zarr")), expected.reshape(8, 20, 30)
    )
    layout, own = read_layout(path), read_layout(out / "a.ome.zarr")
    assert own == dataclasses.replace(layout, channel_names=())
    about = attributes(labels, version)
    (multiscale,) = about["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "z", "y", "x"]
    scales = [
        d["coordinateTransformations"][0]["scale"] for d in multiscale["datasets"]
    ]
    assert scales[0] == [30.0, 2.5, 0.5, 0.25]
    assert scales[1] == [30.0, 2.5, 1.0, 0.5]
    assert about["image-label"]["colors"][1] == {
        "label-value": 1,
        "rgba": [0, 30, 250, 255],
    }
    assert attributes(labels.parent, version)["labels"] == ["classes"]
    with tifffile.TiffFile(out / "a_overlay.ome.tif") as file:
        assert file.series[0].axes == "TZYXS"


@pytest.mark.parametrize("version", ["0.5.1", "0.6"])
def test_labels_of_later_versions_are_of_the_same_format_as_the_image(
    write_zarr, tmp_path, version
):
    path = write_zarr(tmp_path / "a.zarr", VALUES[:1, :, :1])
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"0.5"', f'"{version}"'))
    (labels,) = predict(path, tmp_path / "out")
    expected = (VALUES[:1, 1, :1] > 2000).astype(np.uint8)
    np.testing.assert_array_equal(array(labels / "0", "0.5").read().result(), expected)


def test_labels_that_the_user_changed_stay(write_zarr, tmp_path):
    path = write_zarr(tmp_path / "a.zarr", VALUES, version="0.4")
    predict(path, tmp_path / "out")
    predict(path, tmp_path / "out")
    chunk = (
        tmp_path / "out" / "a.zarr" / "labels" / "classes" / "0" / "1" / "2" / "0" / "0"
    )
    chunk.write_bytes(b"corrected")
    with pytest.raises(UserError, match="changed since"):
        predict(path, tmp_path / "out")
    assert chunk.read_bytes() == b"corrected"


def test_what_was_broken_off_is_no_zarr(write_zarr, tmp_path):
    path = write_zarr(tmp_path / "a.zarr", VALUES)
    damaged = path / "0" / "c" / "1" / "1" / "3" / "0" / "0"
    damaged.write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        predict(path, tmp_path / "out")
    with pytest.raises(UserError, match=r"lacks zarr\.json"):
        list(read_label_pages(tmp_path / "out" / "a.zarr"))


def test_chosen_pages_are_those_of_the_volume(write_zarr, tmp_path):
    path = write_zarr(tmp_path / "a.zarr", VALUES, version="0.4")
    (labels,) = predict(path, tmp_path / "out", chosen=(6, 1))
    expected = (VALUES[:, 1] > 2000).reshape(8, 20, 30)[[6, 1]]
    np.testing.assert_array_equal(
        list(read_label_pages(tmp_path / "out" / "a.zarr")), expected
    )
    assert labels.is_dir()
    with pytest.raises(UserError, match=r"page 9, but .*a\.zarr has 8"):
        predict(path, tmp_path / "new", chosen=(8,))
    assert not (tmp_path / "new").exists()
