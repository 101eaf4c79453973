"""Otsu's threshold against scikit-image and against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from segjax.classical.otsu import otsu_baseline, otsu_threshold


def _two_greys(seed: int) -> np.ndarray:
    key = np.random.default_rng(seed)
    grey = np.where(key.random((40, 50)) < 0.3, 80, 150) + key.normal(0, 20, (40, 50))
    return np.clip(grey, 0, 255).astype(np.uint8)


# skimage.filters.threshold_otsu (scikit-image 0.26) on the same arrays.
@pytest.mark.parametrize(("seed", "golden"), [(0, 115.0), (1, 116.0), (2, 115.0)])
def test_threshold_is_that_of_scikit_image(seed: int, golden: float) -> None:
    assert otsu_threshold(_two_greys(seed)) == golden


def test_threshold_of_floats_is_that_of_scikit_image() -> None:
    image = _two_greys(3).astype(np.float32) / 255 - 0.25
    assert otsu_threshold(image) == pytest.approx(0.2052619, abs=1e-6)


def test_threshold_leaves_the_least_variance_within_the_classes() -> None:
    image = _two_greys(5).astype(float)

    def within(threshold: float) -> float:
        dark, light = image[image <= threshold], image[image > threshold]
        return dark.size * dark.var() + light.size * light.var()

    found = within(otsu_threshold(image.astype(np.uint8)))
    others = [within(t) for t in range(int(image.min()), int(image.max()))]
    assert found == pytest.approx(min(others))


def test_a_single_grey_value_is_its_own_threshold() -> None:
    assert otsu_threshold(np.full((4, 4), 7, np.uint8)) == 7.0


@pytest.mark.parametrize("image", [np.zeros((0, 3)), np.array([[0.0, np.nan]])])
def test_nothing_or_nan_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image must hold"):
        otsu_threshold(image)


def test_dark_is_membrane_and_light_is_cell() -> None:
    image = np.full((9, 12, 1), 200, np.uint8)
    image[:, 5:7] = 40
    prediction = otsu_baseline(image, sigma=0)
    assert prediction.dtype == np.uint8
    np.testing.assert_array_equal(prediction, image[..., 0] > 100)


def test_smoothing_removes_specks() -> None:
    image = np.full((32, 32), 200, np.uint8)
    image[:, 14:18] = 40
    image[5, 5] = 40
    assert otsu_baseline(image, sigma=0)[5, 5] == 0
    smooth = otsu_baseline(image, sigma=1.5)
    assert smooth[5, 5] == 1
    assert (smooth[:, 15:17] == 0).all()


def test_illegal_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\)"):
        otsu_baseline(np.zeros((2, 3, 4)), sigma=1)
    with pytest.raises(ValueError, match="sigma is -1"):
        otsu_baseline(np.zeros((2, 3)), sigma=-1)
