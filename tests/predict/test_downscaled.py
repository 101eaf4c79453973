"""Images that are predicted as small as those of training, and labels of their own size."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.files.images import normalize
from segjax.data.label_spec import LabelSpec
from segjax.geometry.input_sizes import Geometry
from segjax.ops.resizing.resize import resize_bilinear
from segjax.predict.downscaled import enlarged, reduced
from segjax.predict.tiled import Predictor
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.files import predict_files

SPEC = LabelSpec(("dark", "light"), ((0, 0, 0), (255, 255, 255)))
OPTIONS = {"label_spec": SPEC, "channels": 3, "normalization": "imagenet"}
REFINED = CRF(w1=6.0, sigma_alpha=4.0, sigma_beta=20.0, w2=1.0, sigma_gamma=1.0)
IMAGE = np.random.default_rng(0).integers(0, 256, (13, 18, 3), np.uint8)
SMALL = (
    np.pad(IMAGE, ((0, 1), (0, 0), (0, 0)), mode="edge")
    .reshape(7, 2, 9, 2, 3)
    .mean((1, 3))
    + 0.5
).astype(np.uint8)
"""`IMAGE` averaged over blocks of 2x2, its last row seen twice."""


def apply(image):
    """The mean of the channels above and below zero, as logits."""
    light = image.mean(-1, keepdims=True)
    return jnp.concatenate([-light, light], -1)


def logits_of(image: np.ndarray) -> np.ndarray:
    return np.asarray(apply(normalize(image, "imagenet")))


def at_full_size(logits) -> np.ndarray:
    return np.asarray(resize_bilinear(logits[None], size=(14, 18)))[0, :13]


def test_images_are_averaged_and_the_rest_sees_the_last_row_again():
    np.testing.assert_array_equal(reduced(IMAGE, 2), SMALL)
    assert reduced(IMAGE, 1) is IMAGE


def test_what_is_alike_everywhere_stays_so_at_the_full_size():
    page = {"logits": np.tile(np.float32([1.0, 3.0]), (3, 4, 1))}
    found = enlarged(page, 5, (13, 18), ("labels", "probabilities"))
    np.testing.assert_array_equal(found["labels"], np.ones((13, 18)))
    expected = np.exp([1, 3]) / np.exp([1, 3]).sum()
    np.testing.assert_allclose(
        found["probabilities"], np.tile(expected, (13, 18, 1)), rtol=1e-5
    )


@pytest.mark.parametrize("crf", [None, REFINED], ids=["alone", "crf"])
def test_files_are_predicted_small_and_labelled_at_their_size(crf, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "in/a.png")
    predict_files(
        Predictor(apply, Geometry(stride=1), tile=5),
        tmp_path / "in",
        tmp_path / "out",
        **OPTIONS,
        probabilities=True,
        overlay=True,
        crf=crf,
        downscale=2,
    )
    logits = logits_of(SMALL)
    if crf is not None:
        logits = np.asarray(crf.refine(SMALL, logits))
    expected = at_full_size(logits)
    label = np.asarray(Image.open(tmp_path / "out/a.png"))
    np.testing.assert_array_equal(label, expected.argmax(-1))
    light = tifffile.imread(tmp_path / "out/a_probabilities.tif")[1]
    np.testing.assert_allclose(
        light, 1 / (1 + np.exp(expected[..., 0] - expected[..., 1])), atol=1e-5
    )
    assert np.asarray(Image.open(tmp_path / "out/a_overlay.png")).shape == (13, 18, 3)
