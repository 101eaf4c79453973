"""Packages of bioimage.io: they say what their graph does, and repeat their test."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx", reason="needs the package onnx")

import onnx
from onnx.reference import ReferenceEvaluator

from segjax.errors import UserError
from segjax.runs.exports.bioimageio import export_bioimageio
from segjax.runs.load import load_trained


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A grey image, larger than the package needs it."""
    image = np.random.default_rng(1).integers(0, 255, (80, 70), np.uint8)
    Image.fromarray(image).save(tmp_path / "cells.png")
    return tmp_path / "cells.png"


def test_a_package_has_what_it_says(model: Path, example: Path, tmp_path: Path) -> None:
    path, options = (
        tmp_path / "em.bioimageio.zip",
        {"example": example, "image_size": (48, 60), "dtype": "uint8"},
    )
    result = export_bioimageio(
        model, path, authors=["A. Name"], license="MIT", **options
    )
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    stated = json.loads(files.pop("rdf.yaml"))
    described = [
        stated["weights"]["onnx"],
        *(stated[key][0]["test_tensor"] for key in ("inputs", "outputs")),
    ]
    for file in described:
        digest = hashlib.sha256(files[file["source"]]).hexdigest()
        assert digest == file["sha256"]
    assert files.keys() == {
        *(file["source"] for file in described),
        *(stated["documentation"], *stated["covers"]),
    }
    assert (stated["name"], stated["license"]) == ("em of segjax", "MIT")
    assert stated["weights"]["onnx"]["opset_version"] == result["opset"]
    given, expected = (
        np.load(io.BytesIO(files[file["source"]])) for file in described[1:]
    )
    image = np.asarray(Image.open(example))[16:64, 5:65]
    np.testing.assert_array_equal(given[0, ..., 0], image)
    graph = onnx.load_from_string(files["weights.onnx"])
    (found,) = ReferenceEvaluator(graph).run(None, {"image": given})
    # What bioimage.io allows: logits of random weights are so large that rounding shows.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    cover = np.asarray(Image.open(io.BytesIO(files["cover.png"])))
    assert cover.shape == (48, 60, 3)
    assert set(map(tuple, cover[-1, :50])) <= {(0, 0, 0), (9, 9, 9)}
    again = export_bioimageio(
        model, path, authors=["A. Name"], license="MIT", **options
    )
    assert again["sha256"] == result["sha256"]


def test_the_cover_shows_every_sum_of_classes_that_overlap(
    overlapping_model: Path, example: Path, tmp_path: Path
) -> None:
    path = tmp_path / "both.bioimageio.zip"
    export_bioimageio(
        overlapping_model, path, example=example, image_size=(48, 60), dtype="uint8"
    )
    with zipfile.ZipFile(path) as archive:
        cover = np.asarray(Image.open(io.BytesIO(archive.read("cover.png"))))
    colors = load_trained(overlapping_model).label_spec.value_colors
    assert len(colors) == 4
    assert set(map(tuple, cover[-1, :50])) <= set(colors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"example": None}, "needs an image that goes along, .*give --example=FILE"),
        (
            {"image_size": (96, 60)},
            "has a height of 80 pixels, but the network takes 96",
        ),
        ({"dtype": "uint16"}, r"cells\.png is uint8, but the model is for uint16"),
        ({"dtype": "float64"}, "dtype is 'float64'; use one of uint8"),
    ],
)
def test_an_example_that_does_not_fit_is_refused(
    options: dict[str, Any], message: str, model: Path, example: Path, tmp_path: Path
) -> None:
    path = tmp_path / "em.bioimageio.zip"
    usual: dict[str, Any] = {"example": example, "image_size": (8, 8), "dtype": "uint8"}
    with pytest.raises(UserError, match=message):
        export_bioimageio(model, path, **usual | options)
    assert not path.exists()


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # the tool leaves the package open
def test_the_tool_of_bioimage_io_accepts_a_package(
    model: Path, example: Path, tmp_path: Path
) -> None:
    core = pytest.importorskip("bioimageio.core", reason="needs bioimageio.core")
    path = tmp_path / "cells.bioimageio.zip"
    export_bioimageio(model, path, example=example, dtype="uint8")
    assert core.test_model(path).status == "passed"
