"""Colours and blur: torchvision's definitions, and nothing but the image changes."""

import colorsys

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.augment.photometric import (
    color_jitter,
    empty_page,
    gamma,
    gaussian_blur,
    illumination,
    turn_hue,
)

STILL = {
    "brightness": (1, 1),
    "contrast": (1, 1),
    "saturation": (1, 1),
    "hue": (0, 0),
}


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    image = rng.random((24, 32, 3), dtype=np.float32)
    image[0, 0], image[0, 1], image[0, 2] = 0.5, 0.0, 1.0  # Greys have no hue.
    return {
        "image": image,
        "label": np.zeros((24, 32), np.int32),
        "weight": np.ones((24, 32), np.float32),
    }


def jitter(example, seed=0, **arguments):
    return color_jitter(example, np.random.default_rng(seed), **{**STILL, **arguments})


def test_no_change_is_the_identity_and_nothing_is_written_into(example):
    example["image"].flags.writeable = False
    np.testing.assert_allclose(jitter(example)["image"], example["image"], atol=1e-6)
    out = color_jitter(example, np.random.default_rng(1))
    assert out["label"] is example["label"]
    assert out["weight"] is example["weight"]
    assert out["image"].dtype == np.float32
    assert out["image"].min() >= 0
    assert out["image"].max() <= 1
    assert np.abs(out["image"] - example["image"]).max() > 0.05


def test_brightness_contrast_and_saturation_are_those_of_their_formulas(example):
    image = example["image"].astype(np.float64)
    grey = image @ (0.2989, 0.587, 0.114)
    half = {
        "brightness": 0.5 * image,
        "contrast": 0.5 * image + 0.5 * grey.mean(),
        "saturation": 0.5 * image + 0.5 * grey[..., None],
    }
    for name, expected in half.items():
        out = jitter(example, **{name: (0.5, 0.5)})["image"]
        np.testing.assert_allclose(out, expected, atol=2e-6)


def test_hue_turns_as_the_standard_library_says(example):
    for turn in (-0.5, -0.1, 0.07, 0.4):
        out = turn_hue(example["image"], turn)
        for pixel, turned in zip(
            example["image"].reshape(-1, 3)[:60], out.reshape(-1, 3), strict=False
        ):
            hue, saturation, value = colorsys.rgb_to_hsv(*map(float, pixel))
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            np.testing.assert_allclose(turned, expected, atol=2e-6)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "value"),
    [("brightness", 1.3), ("contrast", 1.4), ("saturation", 1.7), ("hue", 0.2)],
)
def test_changes_are_those_of_torchvision(torchvision, example, name, value):
    import torch

    del torchvision
    from torchvision.transforms import functional

    theirs = getattr(functional, f"adjust_{name}")(
        torch.from_numpy(example["image"].transpose(2, 0, 1).copy()), value
    )
    ours = jitter(example, **{name: (value, value)})["image"]
    np.testing.assert_allclose(ours, theirs.numpy().transpose(1, 2, 0), atol=1e-5)


def test_factors_are_sampled_within_their_ranges(example):
    flat = {"image": np.full((4, 4, 3), 0.4, np.float32)}
    levels = [
        jitter(flat, seed, brightness=(0.5, 2.0))["image"].mean() / 0.4
        for seed in range(200)
    ]
    assert 0.5 <= min(levels) < 0.53
    assert 1.9 < max(levels) <= 2.0001
    assert np.exp(np.log(levels).mean()) == pytest.approx(1, abs=0.1)


def test_blur_is_gaussian_happens_half_the_time_and_keeps_the_label(example):
    rng = np.random.default_rng(0)
    outs = [gaussian_blur(example, rng, std=(1.2, 1.2)) for _ in range(200)]
    blurred = [x for x in outs if x is not example]
    assert len(blurred) == pytest.approx(100, abs=25)
    expected = ndimage.gaussian_filter(
        example["image"], (1.2, 1.2, 0), mode="mirror", truncate=3.0
    )
    np.testing.assert_allclose(blurred[0]["image"], expected, atol=1e-6)
    assert blurred[0]["label"] is example["label"]
    assert all(x["image"].dtype == np.float32 for x in blurred)


def test_gamma_keeps_the_extremes_and_the_order_of_each_channel(example):
    image = example["image"] * (1, 30, 1000) - (0, 7, 500)
    example["image"] = image.astype(np.float32)
    out = gamma(example, np.random.default_rng(0), gamma=(2, 2))["image"]
    for before, after in zip(
        np.moveaxis(example["image"], -1, 0), np.moveaxis(out, -1, 0), strict=True
    ):
        least, spread = before.min(), np.ptp(before)
        expected = least + spread * ((before - least) / spread) ** 2
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5 * spread)


def test_gamma_leaves_a_constant_image(example):
    example["image"][:] = 0.3
    out = gamma(example, np.random.default_rng(0), gamma=(0.5, 0.5))["image"]
    np.testing.assert_array_equal(out, example["image"])


def test_illumination_is_a_plane_that_starts_at_zero(example):
    out = illumination(example, np.random.default_rng(1), strength=2, probability=1)[
        "image"
    ]
    plane = (out - example["image"])[..., 0].astype(np.float64)
    assert abs(plane.min()) < 1e-6
    assert 0.1 < plane.max() <= 2
    for axis in (0, 1):
        np.testing.assert_allclose(np.diff(plane, 2, axis=axis), 0, atol=1e-5)


def test_an_empty_page_is_background_and_flat_but_for_plane_and_noise(example):
    example["label"][:] = 3
    example["weight"][:5], example["weight"][5:] = 0, 7
    rng = np.random.default_rng(0)
    flat = {"probability": 1, "strength": 0, "level": (0.3, 0.3)}
    out = empty_page(example, rng, std=0.1, **flat)
    assert not out["label"].any()
    np.testing.assert_array_equal(out["weight"], (example["weight"] > 0))
    assert abs(out["image"].mean() - 0.3) < 0.02
    assert 0 < out["image"].std() < 0.11
    assert example["label"].all()
    constant = empty_page(example, rng, std=0, **flat)["image"]
    np.testing.assert_allclose(constant, 0.3, rtol=1e-6)
    assert empty_page(example, rng, probability=0) is example
