"""Networks as ONNX: images as they are stored go in, and what is known of them is stated."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the package onnx")

import onnx
from onnx.reference import ReferenceEvaluator

from segjax.data.normalization import Percentiles, normalize
from segjax.errors import UserError
from segjax.export.functions import PixelNetwork, image_function, open_functions
from segjax.export.onnx.precision import with_precision
from segjax.export.onnx.write import (
    convert,
    convert_first,
    require_onnx,
    write_onnx,
)
from segjax.geometry.input_sizes import Geometry
from segjax.ops.pooling.windowed import max_pool
from segjax.ops.resizing.resize import resize_bilinear
from segjax.predict.heads import OUTPUTS, SOFTMAX
from segjax.predict.test_time import TestTimeAugmentation

KERNEL = np.random.default_rng(0).normal(size=(1, 400)).astype(np.float32)


def smallest(variables: Any, image: jax.Array) -> jax.Array:
    """Pooled pixels, enlarged again, against a kernel."""
    size = image.shape[1], image.shape[2]
    x = resize_bilinear(max_pool(image, window=2), size=size)
    return (x @ variables["kernel"])[..., :3]


def network(**changes: Any) -> PixelNetwork:
    usual: dict[str, Any] = {
        "apply": smallest,
        "variables": {"kernel": KERNEL},
        "channels": 1,
        "geometry": Geometry(stride=2, minimum=2),
        "head": SOFTMAX,
        "normalization": "range",
        "passes": TestTimeAugmentation(),
    }
    return PixelNetwork(**usual | changes)


def picture(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, shape).astype(dtype)


def answers(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    found = ReferenceEvaluator(model).run(None, {"image": images})
    return dict(zip(sorted(OUTPUTS), found, strict=True))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_images_of_any_size_are_answered_as_by_the_network(dtype: str) -> None:
    given, stored = network(temperature=2.0), np.dtype(dtype)
    pixels, model = convert_first(open_functions(given, stored), 1, stored)
    assert pixels.image_size == ("2*height", "2*width")
    assert "MaxPool" in {node.op_type for node in model.graph.node}
    for shape in ((1, 6, 4, 1), (2, 2, 8, 1)):
        images = picture(*shape, dtype=dtype)
        normal = np.stack([normalize(image, "range") for image in images])
        expected = given.outputs(jax.jit(smallest)(given.variables, normal))
        found = answers(model, images)
        for name in OUTPUTS:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


@pytest.mark.parametrize("method", ["per_image", Percentiles(low=0.7)])
def test_an_image_is_normalized_by_its_own_pixels(method: Any) -> None:
    given = network(normalization=method, apply=lambda variables, x: x * 0.5)
    images, stored = picture(2, 6, 50, 1), np.dtype(np.uint8)
    expected = [0.5 * normalize(image, method) for image in images]
    for pixels in (
        image_function(given, (6, 50), stored),
        *open_functions(given, stored),
    ):
        found = answers(convert(pixels, 1, stored), images)["logits"]
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


def test_what_is_known_of_a_model_is_in_its_metadata() -> None:
    (pixels,) = open_functions(network(), np.dtype(np.uint8))
    model = convert(pixels, 1, np.dtype(np.uint8))
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        write_onnx(file, model, pixels, {"classes": ["a", "b", "c"]}, "# A card\n")
    assert files[0].getvalue() == files[1].getvalue()
    read = onnx.load_from_string(files[0].getvalue())
    onnx.checker.check_model(read, full_check=True)
    stated = {entry.key: entry.value for entry in read.metadata_props}
    assert json.loads(stated["classes"]) == ["a", "b", "c"]
    sizes = {"stride": 2, "remainder": 0, "minimum": 2, "margin": 0}
    assert json.loads(stated["sizes"]) == sizes
    assert (read.producer_name, read.doc_string) == ("segjax", "# A card\n")
    assert (read.ir_version, read.opset_import[0].version) == (8, 17)
    (image,) = read.graph.input
    names = [
        size.dim_param or size.dim_value for size in image.type.tensor_type.shape.dim
    ]
    assert names == ["batch", "2*height", "2*width", 1]


def test_weights_of_16_bits_are_computed_in_32() -> None:
    given, stored = network(), np.dtype(np.uint8)
    model = convert(image_function(given, (4, 4), stored), 1, stored)
    half = with_precision(model, "float16")
    onnx.checker.check_model(half)
    assert half.ByteSize() < model.ByteSize() - KERNEL.size
    images = picture(1, 4, 4, 1)
    one, other = answers(model, images)["logits"], answers(half, images)["logits"]
    assert 0 < abs(one - other).max() < 2e-3 * abs(one).max()
    large = network(variables={"kernel": KERNEL * 1e6})
    model = convert(image_function(large, (4, 4), stored), 1, stored)
    with pytest.raises(UserError, match="float16 holds numbers up to 65504, and "):
        with_precision(model, "float16")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"downscale": 2},
            "made smaller by 2 for this network, for which the size must",
        ),
        (
            {"apply": lambda variables, x: x[: int(x.shape[0])]},
            r"cannot be traced for any number of images \(.*\): replace that",
        ),
        (
            {"apply": lambda variables, x: x[:, : np.arange(x.shape[1]).size]},
            r"its code asks how large they are \(.*\): give --image_size=HEIGHT,WIDTH",
        ),
    ],
)
def test_what_cannot_be_written_is_said(changes: dict[str, Any], message: str) -> None:
    given, stored = network(**changes), np.dtype(np.uint8)

    def write() -> None:
        if "number of images" in message:
            convert(image_function(given, (4, 4), stored), 1, stored)
        convert_first(open_functions(given, stored), 1, stored)

    with pytest.raises(UserError, match=message):
        write()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: require_onnx("onnx"), "onnx"),
        (lambda: with_precision(None, "int8"), "onnxruntime.quantization"),
    ],
)
def test_a_missing_package_is_named(
    call: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'segjax\[onnx\]'"):
        call()
