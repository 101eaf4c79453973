"""Every system of the models table by onnxruntime: the logits and labels of JAX."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the package onnx")

from segjax.errors import UserError
from segjax.export.functions import PixelNetwork, image_function, open_functions
from segjax.export.objects import object_function
from segjax.export.onnx.precision import with_precision
from segjax.export.onnx.write import convert, convert_first
from segjax.predict.heads import SOFTMAX
from segjax.predict.test_time import TestTimeAugmentation

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = runpy.run_path(str(ROOT / "tests" / "models" / "test_contract.py"))
QUICK = CONTRACT["QUICK"]
UINT8 = np.dtype(np.uint8)

pytestmark = pytest.mark.parity


def network(case: Any) -> PixelNetwork:
    """The small network of a case, with random weights."""
    model = case.small
    image = jax.ShapeDtypeStruct((1, case.side, case.side, case.channels), jnp.float32)
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), image
    )
    rng = np.random.default_rng(0)

    def values(path: Any, x: Any) -> np.ndarray:
        positive = path[-1].key in ("var", "scale")
        made = (
            rng.uniform(0.5, 1.5, x.shape) if positive else rng.normal(0, 0.3, x.shape)
        )
        return made.astype(x.dtype)

    return PixelNetwork(
        lambda variables, x: model.apply(variables, x, train=False)["logits"],
        jax.tree_util.tree_map_with_path(values, shapes),
        case.channels,
        model.geometry,
        SOFTMAX,
        "range",
        TestTimeAugmentation(),
    )


def answers(model: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels by onnxruntime."""
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # on dimensions that no input names
    session = runtime.InferenceSession(model.SerializeToString(), options)
    return tuple(session.run(["logits", "labels"], {"image": images}))


def expected(given: PixelNetwork, images: np.ndarray) -> np.ndarray:
    apply = jax.jit(given.apply, compiler_options=QUICK)
    return np.asarray(apply(given.variables, images / np.float32(255)))


def compare(model: Any, given: PixelNetwork, images: np.ndarray) -> None:
    logits, labels = answers(model, images)
    wanted = expected(given, images)
    assert abs(logits - wanted).max() < 1e-4 * abs(wanted).max()
    assert np.mean(labels == wanted.argmax(-1)) >= 0.9999


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, shape, np.uint8)


@pytest.mark.parametrize("case", CONTRACT["EACH"])
def test_a_system_answers_as_in_jax(case: Any) -> None:
    given = network(case)
    side = case.small.geometry.output_side(case.side)
    model = convert(image_function(given, (side, side), UINT8), case.channels, UINT8)
    images = picture(3, side, side, case.channels)
    if side == case.side:
        compare(model, given, images)
        return
    logits, _ = answers(model, images)  # of unpadded networks: the border is mirrored
    margin = case.small.geometry.margin
    pads = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    wanted = expected(given, np.pad(images, pads, mode="reflect"))
    assert abs(logits - wanted).max() < 1e-4 * abs(wanted).max()


ONE_SIZE = {"crf_rnn-0", "deeplab_v1-1", "deeplab_v2-1", "sliding_window-1"}
"""Those whose code asks how large an image is."""


@pytest.mark.parametrize("case", CONTRACT["EACH"])
def test_a_graph_takes_images_of_any_size(
    case: Any, request: pytest.FixtureRequest
) -> None:
    given = network(case)
    functions = open_functions(given, UINT8)
    if request.node.callspec.id in ONE_SIZE:
        with pytest.raises(UserError, match="give --image_size=HEIGHT,WIDTH"):
            convert_first(functions, case.channels, UINT8)
        return
    pixels, model = convert_first(functions, case.channels, UINT8)
    sizes = pixels.about["sizes"]
    stride = sizes["stride"]
    side = max(case.side, sizes["minimum"])
    side += (sizes["remainder"] - side) % stride
    compare(model, given, picture(1, side + stride, side, case.channels))


def test_objects_are_found_and_drawn_alike() -> None:
    """In one graph: resizing, proposals, suppression, alignment, heads, masks, a label image."""
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    tests = runpy.run_path(str(ROOT / "tests" / "export" / "test_objects.py"))
    pixels = object_function(tests["network"]("fit"), (75, 50), UINT8)
    model = convert(pixels, 1, UINT8)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(model.SerializeToString(), options)
    images = picture(2, 75, 50, 1)
    weights = list(pixels.weights.values())
    expected = jax.jit(pixels.of_list, compiler_options=QUICK)(weights, images)
    names = sorted(expected)
    for name, value in zip(names, session.run(names, {"image": images}), strict=True):
        wanted = np.asarray(expected[name])
        assert value.dtype == wanted.dtype
        if name == "labels":
            assert np.mean(value == wanted) > 0.999
            assert len(np.unique(value)) > 1
            continue
        allowed = 1e-4 * max(1.0, abs(wanted).max())
        assert abs(value - wanted).max() <= allowed, name


def test_weights_of_8_bits_change_few_labels() -> None:
    (case,) = (x.values[0] for x in CONTRACT["EACH"] if x.id == "unet-0")
    given, images = network(case), picture(2, 32, 32, case.channels)
    (pixels,) = open_functions(given, UINT8)
    model = convert(pixels, case.channels, UINT8)
    small = with_precision(model, "int8")
    assert {node.op_type for node in small.graph.node} >= {
        "ConvInteger",
        "ConvTranspose",
    }
    (_, labels), (_, others) = answers(model, images), answers(small, images)
    assert 0.9 < np.mean(labels == others) < 1
