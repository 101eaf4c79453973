"""A run as a program: what it answers is what `predict` answers, and wrong wishes are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segjax.data.normalization import normalize
from segjax.errors import UserError
from segjax.export import loader
from segjax.runs.exports import found
from segjax.runs.exports.bioimageio import export_bioimageio
from segjax.runs.exports.onnx import export_onnx
from segjax.runs.exports.stablehlo import export_stablehlo
from segjax.runs.load import load_trained

ROOT = Path(__file__).resolve().parents[3]


def program_of_the_page(path: Path, image: np.ndarray) -> np.ndarray:
    """Runs what docs/take_it_away.md says, on a program."""
    page = (ROOT / "docs" / "take_it_away.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"image": image}
    exec(block.replace("nuclei.stablehlo.zip", path.as_posix()), names)
    assert names["probabilities"].shape == (75, 50, 2)
    return names["labels"]


def test_a_program_gives_the_labels_of_predict(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cells.stablehlo.zip"
    with caplog.at_level(logging.INFO, "segjax"):
        result = export_stablehlo(model, path, tile=32, description="Cells, stained.")
    assert "The program is for images of uint8, as in training." in caplog.text
    assert result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result["platforms"] == ["cpu", "cuda", "tpu"]
    program = loader.load(path)
    assert program.about["classes"] == ["a", "b"]
    assert program.about["step"] == 7
    image = np.random.default_rng(1).integers(0, 255, (75, 50), np.uint8)
    expected = load_trained(model).labels(image)
    assert len(np.unique(expected)) == 2
    np.testing.assert_array_equal(program(image), expected)
    assert program_of_the_page(path, image).shape == (75, 50)
    again = export_stablehlo(model, path, tile=32, description="Cells, stained.")
    assert again["sha256"] == result["sha256"]


def test_a_program_of_objects_has_the_labels_of_predict(
    objects_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cells.stablehlo.zip"
    options: dict[str, Any] = {"image_size": (40, 30), "dtype": "uint8"}
    result = export_stablehlo(objects_model, path, **options)
    assert (result["kind"], result["image"]) == ("image", [40, 30, 3, "uint8"])
    program = loader.load(path)
    assert set(program.about["outputs"]) == {
        *("labels", "boxes", "scores", "classes", "masks"),
    }
    assert program.about["classes"] == ["a", "b"]
    image = np.random.default_rng(1).integers(0, 255, (40, 30, 3), np.uint8)
    expected = load_trained(objects_model).instances(image)
    assert expected.any()
    np.testing.assert_array_equal(program(image), expected)
    with pytest.raises(UserError, match="--image_size=HEIGHT,WIDTH"):
        export_stablehlo(objects_model, path, dtype="uint8")
    with pytest.raises(UserError, match="--crf is for networks that label pixels"):
        export_stablehlo(objects_model, path, crf=True, **options)
    with pytest.raises(UserError, match="--format=bioimageio is for networks that la"):
        export_bioimageio(
            objects_model, tmp_path / "a.bioimageio.zip", example="x.png", **options
        )


def test_onnx_gives_the_labels_of_predict(model: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    from onnx.reference import ReferenceEvaluator

    path = tmp_path / "cells.onnx"
    options = {"image_size": (75, 50), "dtype": "uint8", "description": "Cells."}
    result = export_onnx(model, path, **options)
    assert result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (result["kind"], result["opset"]) == ("image", 17)
    read = onnx.load(path)
    onnx.checker.check_model(read, full_check=True)
    stated = {entry.key: json.loads(entry.value) for entry in read.metadata_props[:3]}
    assert stated["classes"] == ["a", "b"]
    assert "Cells." in read.doc_string
    image = np.random.default_rng(1).integers(0, 255, (75, 50), np.uint8)
    (found,) = ReferenceEvaluator(read).run(
        ["labels"], {"image": image[None, ..., None]}
    )
    np.testing.assert_array_equal(found[0], load_trained(model).labels(image))
    again = export_onnx(model, path, **options)
    assert again["sha256"] == result["sha256"]


def test_onnx_is_refused_before_anything_is_written(
    model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    with pytest.raises(UserError, match=r"as files of --format=onnx do.*cells\.onnx\."):
        export_onnx(model, tmp_path / "cells.zip")
    (tmp_path / "cells.onnx").write_bytes(b"mine")
    with pytest.raises(UserError, match="--overwrite"):
        export_onnx(model, tmp_path / "cells.onnx")
    assert (tmp_path / "cells.onnx").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cells.zip", {}, r"give, for example, .*cells\.stablehlo\.zip\.$"),
        (
            "",
            {"tile": 8, "image_size": (8, 8)},
            "--tile and --image_size are given, but",
        ),
        ("", {"crf": True}, "give --image_size=HEIGHT,WIDTH, too"),
        (
            "",
            {"crf": True, "image_size": (40, 40), "dtype": "uint16"},
            r"put config\.crf\.max_intensity",
        ),
        (
            "",
            {"crf": True, "image_size": (40, 40), "dtype": "float32"},
            "which images of float32 do not have",
        ),
        ("", {"step": 3}, "is a model file, which holds one checkpoint"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    name: str, options: dict[str, Any], message: str, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / (name or "cells.stablehlo.zip")
    with pytest.raises(UserError, match=message):
        export_stablehlo(model, path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tiles_of_a_large_page_are_put_together_to_what_predict_gives(
    model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cells.stablehlo.zip"
    export_stablehlo(model, path)
    page = np.random.default_rng(2).integers(0, 255, (2048, 2048), np.uint8)
    program = loader.load(path, batch_size=4)
    tiles = loader.windows(program.about["plan"], "height", 2048)
    assert len(tiles) > 4  # of each axis
    trained = load_trained(model)
    expected = trained.labels(page)
    assert len(np.unique(expected)) == 2
    predictor = trained.task.predictor(trained.variables)
    logits = predictor.logits(normalize(page[..., None], trained.task.normalization))
    allowed = 1e-5 * abs(logits).max()
    np.testing.assert_allclose(program(page, "logits"), logits, rtol=0, atol=allowed)
    is_certain = abs(logits[..., 1] - logits[..., 0]) > 2 * allowed
    differs = program(page) != expected
    assert not (differs & is_certain).any()
    assert is_certain.mean() > 0.999
    assert differs.mean() < 1e-5


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"image_dtypes": ["float32"]}, "float32"),
        ({"image_dtypes": ["uint16"], "max_intensity": 4095}, "uint16"),
        ({"max_intensity": 4095}, "uint16"),
        ({}, "does not state the type of its training images"),
        ({"image_dtypes": "uint8"}, "does not state the type of its training images"),
        ({"image_dtypes": []}, "does not state the type of its training images"),
        ({"image_dtypes": ["uint16", "uint8"]}, "on images of uint16 and uint8, and a"),
        ({"image_dtypes": ["int16"]}, "was trained on images of int16, and a program"),
    ],
)
def test_a_program_is_for_images_as_in_training(
    about: dict[str, Any],
    expected: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = load_trained(model)
    kept = {k: x for k, x in trained.about.items() if k != "image_dtypes"}
    known = dataclasses.replace(
        trained, about=kept | about, max_intensity=about.get("max_intensity")
    )
    monkeypatch.setattr(found, "load_trained", lambda *_, **__: known)
    monkeypatch.setattr(type(known.task), "normalization", "per_image")
    path = tmp_path / "cells.stablehlo.zip"
    if expected in found.DTYPES:
        result = export_stablehlo(model, path, image_size=(32, 32))
        assert result["image"] == [32, 32, 1, expected]
        return
    with pytest.raises(UserError, match=f"{expected}.* --dtype=uint8, or what"):
        export_stablehlo(model, path)
    assert not path.exists()


def test_the_user_loses_no_file(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "cells.stablehlo.zip"
    path.write_bytes(b"mine")
    with pytest.raises(UserError, match="--overwrite"):
        export_stablehlo(model, path)
    assert path.read_bytes() == b"mine"
