"""Images that are predicted as small as those of training, and labels of their own size."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.files.calibration import Calibration
from segjax.data.files.images import normalize
from segjax.data.files.layout import Layout
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.geometry.input_sizes import Geometry
from segjax.ops.resizing.resize import resize_bilinear
from segjax.predict.inputs import Source
from segjax.predict.resampled import Resampling, resamplings
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
    np.testing.assert_array_equal(Resampling(2)(IMAGE), SMALL)
    assert Resampling(1)(IMAGE) is IMAGE


def test_what_is_alike_everywhere_stays_so_at_the_full_size():
    page = {"logits": np.tile(np.float32([1.0, 3.0]), (3, 4, 1))}
    found = Resampling(5).answer(page, (13, 18), ("labels", "probabilities"))
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


def test_zoomed_images_give_labels_of_their_own_size():
    resample = Resampling(zoom=(0.5, 2.0))
    small = resample(IMAGE)
    assert small.shape == (6, 36, 3)
    assert small.dtype == np.uint8
    assert abs(float(small.mean()) - IMAGE.mean()) < 3
    page = {"logits": np.asarray(apply(small.astype(np.float32) - 127))}
    answer = resample.answer(page, (13, 18), ("labels",))
    assert answer["labels"].shape == (13, 18)


def test_a_disk_comes_back_where_it_was():
    y, x = np.mgrid[:60, :80]
    disk = ((y - 22) ** 2 + (x - 50) ** 2 < 15**2)[..., None]
    for zoom in ((0.5, 0.5), (1.7, 1.3)):
        resample = Resampling(2, zoom)
        logits = resample((disk * 200).astype(np.uint8)).astype(np.float32) - 100
        page = {"logits": np.concatenate([-logits, logits], -1)}
        found = resample.answer(page, (60, 80), ("labels",))["labels"]
        overlap = (found & disk[..., 0]).sum() / (found | disk[..., 0]).sum()
        assert overlap > 0.9


def source(name: str, size: tuple[float, float] | None) -> Source:
    layout = Layout(calibration=Calibration(size))
    return Source(Path(name), 1, 10, 10, layout=layout)


def test_other_pixel_sizes_are_told_and_brought_to_those_of_training(caplog):
    sources = [source("a.tif", (0.5, 0.5)), source("b.tif", (1.0, 1.0))]
    caplog.set_level("WARNING")
    as_they_are = resamplings(sources, 1, (0.4, 0.4), rescale=False)
    assert all(resample.is_none for resample in as_they_are.values())
    (told,) = caplog.messages
    assert told.startswith(
        "b.tif has pixels of 1 x 1 micrometres, but the training images have 0.4 x 0.4"
    )
    assert "--rescale" in told
    found = resamplings(sources, 2, (0.4, 0.4), rescale=True)
    assert found[Path("b.tif")] == Resampling(2, (2.5, 2.5))


def test_sizes_that_nobody_stated_or_that_nobody_means_are_refused():
    one = source("a.tif", (0.5, 0.5))
    with pytest.raises(UserError, match=r"trained on state no size"):
        resamplings([one], 1, None, rescale=True)
    with pytest.raises(UserError, match=r"a\.tif does not state the size.*--rescale"):
        resamplings([source("a.tif", None)], 1, (0.5, 0.5), rescale=True)
    with pytest.raises(UserError, match=r"a\.tif has pixels of 0\.5 x 0\.5.*16 times"):
        resamplings([one], 1, (20.0, 20.0), rescale=True)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.uint16, np.float32])
def test_the_largest_values_stay_so(dtype):
    largest = np.iinfo(dtype).max if dtype != np.float32 else np.finfo(dtype).max / 4
    image = np.full((8, 8, 1), largest, dtype)
    found = Resampling(zoom=(0.5, 0.5))(image)
    np.testing.assert_allclose(found.astype(float), float(largest), rtol=1e-6)


def test_the_factor_is_what_the_network_sees():
    assert Resampling(2, (1.0, 1.0)).factor == 0.5
    assert Resampling(2, (4.0, 1.0)).factor == 1.0
