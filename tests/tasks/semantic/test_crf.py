"""Refining pages by the CRF: which image it looks at, what it says to bad values."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from segjax.data.files.images import normalize
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.geometry.input_sizes import Geometry
from segjax.ops.crf.dense import dense_crf
from segjax.predict.test_time import AveragedPredictor, TestTimeAugmentation
from segjax.predict.tiled import Predictor
from segjax.tasks.semantic.crf import CRF, log_range, max_intensity_of
from segjax.tasks.semantic.evaluate import evaluate
from segjax.tasks.semantic.files import predict_files

SPEC = LabelSpec(("dark", "light"), ((0, 0, 0), (255, 255, 255)))
SMALL = CRF(w1=6.0, sigma_alpha=8.0, sigma_beta=20.0, w2=1.0, sigma_gamma=1.0)
OPTIONS = {"label_spec": SPEC, "channels": 3, "normalization": "imagenet"}


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A light square on dark ground, rendered with noise, and its label."""
    label = np.zeros((12, 16), np.uint8)
    label[3:9, 4:12] = 1
    noise = np.random.default_rng(0).integers(-15, 16, (12, 16, 3))
    return (60 + 120 * label[..., None] + noise).astype(np.uint8), label


def guess(image):
    """What a poor network says of normalised images: mostly right, with specks."""
    bright = image.mean(-1)
    rows, columns = np.mgrid[: image.shape[1], : image.shape[2]]
    speck = (rows * 5 + columns * 3) % 7 == 0
    light = np.where(speck, -0.3, 0.4) * np.asarray(bright > 0, np.float32)
    dark = np.where(speck, -0.3, 0.4) * np.asarray(bright <= 0, np.float32)
    return np.stack([dark, light], -1)


class Guessing:
    """A predictor without a device: `guess` for each image, in the outputs wanted."""

    def pages(self, images, outputs=("labels",)):
        for image in images:
            logits = guess(np.asarray(image)[None])[0].astype(np.float32)
            found = {"logits": logits, "labels": logits.argmax(-1).astype(np.uint8)}
            yield {name: found[name] for name in outputs}


def test_evaluation_with_the_crf_mends_specks_and_without_it_does_not() -> None:
    image, label = scene()
    records = [{"image": image, "label": label, "name": "a"}]
    options = {"split": "validation", "normalization": "imagenet"}
    before, after = (
        evaluate(Guessing(), records, SPEC, **options, crf=crf).metrics["mean_iou"]
        for crf in (None, SMALL)
    )
    assert before < 0.8
    assert after == 1


def test_kernels_see_the_stored_image_and_not_the_normalised_one() -> None:
    image, _ = scene()
    logits = np.random.default_rng(1).normal(size=(12, 16, 2)).astype(np.float32)
    found = SMALL.page(image, logits, ("probabilities", "labels"))
    expected = dense_crf(
        image.astype(np.float32),
        logits,
        **{"sigma_alpha": 8.0, "sigma_beta": 20.0, "sigma_gamma": 1.0},
        **{"w1": 6.0, "w2": 1.0, "num_iterations": 10},
    )
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(found["labels"], np.argmax(expected, -1))
    assert found["labels"].dtype == np.uint8


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_images_of_few_bits_in_16_are_refined_as_those_of_8(bits) -> None:
    image, label = scene()
    wide = np.round(image * ((2**bits - 1) / 255)).astype(np.uint16)
    assert max_intensity_of(wide) == 2**bits - 1
    records = [{"image": wide, "label": label, "name": "a"}]
    options = {"split": "validation", "normalization": "per_image"}
    report = evaluate(Guessing(), records, SPEC, **options, crf=SMALL)
    assert report.metrics["mean_iou"] == 1
    logits = np.random.default_rng(1).normal(size=(12, 16, 2)).astype(np.float32)
    found, expected = (
        SMALL.page(picture, logits, ("probabilities",))["probabilities"]
        for picture in (wide, image)
    )
    np.testing.assert_allclose(found, expected, atol=2e-2)


def test_a_range_that_is_given_is_that_of_bright_and_of_dark_images() -> None:
    image, _ = scene()
    logits = np.random.default_rng(1).normal(size=(12, 16, 2)).astype(np.float32)
    known = dataclasses.replace(SMALL, max_intensity=255 * 16)
    for picture in (image, image // 64):
        found, expected = (
            crf.page(values, logits, ("probabilities",))["probabilities"]
            for crf, values in (
                (known, picture.astype(np.uint16) * 16),
                (SMALL, picture),
            )
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_range_of_16_bits_is_logged_once_and_that_of_8_is_not(caplog) -> None:
    image, _ = scene()
    log_range.cache_clear()
    with caplog.at_level("INFO", logger="segjax"):
        SMALL.stored_sigma_beta(image)
        assert not caplog.text
        SMALL.stored_sigma_beta(image.astype(np.uint16))
        SMALL.stored_sigma_beta(image.astype(np.uint16))
    assert len(caplog.records) == 1
    assert "config.crf.max_intensity" in caplog.text
    assert "8, 10, 12, 14 or 16 bits" in caplog.text  # this very image has 8


def apply(image):
    """The mean of the channels above and below zero, as logits."""
    light = image.mean(-1, keepdims=True)
    return jnp.concatenate([-light, light], -1)


@pytest.mark.parametrize(
    "predictor",
    [
        Predictor(apply, Geometry(stride=1), tile=5),
        AveragedPredictor(apply, Geometry(stride=1), TestTimeAugmentation(flip=True)),
    ],
    ids=["tiles", "averaged"],
)
def test_files_are_refined_as_whole_pages(predictor, tmp_path) -> None:
    image, _ = scene()
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in/a.png")
    arguments = (predictor, tmp_path / "in", tmp_path / "out")
    predict_files(*arguments, **OPTIONS, overlay=True, probabilities=True, crf=SMALL)
    normalised = normalize(image, "imagenet")
    logits = next(predictor.pages([normalised], ("logits",)))["logits"]
    expected = SMALL.page(image, logits, ("labels",))["labels"]
    np.testing.assert_array_equal(Image.open(tmp_path / "out/a.png"), expected)
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {
        *("a.png", "a_overlay.png", "a_probabilities.tif")
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"w1": -1.0}, "w1 is a finite number of at least 0, got -1.0"),
        ({"w2": float("nan")}, "w2 is a finite number of at least 0, got nan"),
        ({"sigma_alpha": 0}, "sigma_alpha is a finite number above 0, got 0"),
        ({"sigma_beta": "5"}, "sigma_beta is a finite number above 0, got '5'"),
        ({"sigma_gamma": True}, "sigma_gamma is a finite number above 0, got True"),
        ({"num_iterations": 0}, "num_iterations is an integer of at least 1, got 0"),
        (
            {"max_intensity": 0.5},
            r"max_intensity is an integer of at least 1, got 0\.5",
        ),
        ({"method": "grid"}, "method is one of auto, exact, lattice, .*, got 'grid'"),
        ({"normalization": "row"}, "normalization is one of none, .*, got 'row'"),
    ],
)
def test_bad_values_are_one_sentence(values, message) -> None:
    with pytest.raises(ValueError, match=message) as error:
        CRF(**values)
    assert "\n" not in str(error.value)


def test_what_cannot_be_refined_is_a_sentence_for_a_person() -> None:
    image, _ = scene()
    with pytest.raises(
        UserError, match=r"cannot refine this image: .* 2 pixels or more"
    ):
        SMALL.refine(image[:1, :1], np.zeros((1, 1, 2), np.float32))
    with pytest.raises(UserError, match="logits has 192 values that are NaN"):
        SMALL.refine(image, np.where([True, False], np.nan, np.zeros((12, 16, 2))))
