"""Every family of weights gets the colours that it was trained with."""

import numpy as np
import pytest

from segjax.data.normalization import (
    NORMALIZATIONS,
    SAMPLED_PIXELS,
    Intensities,
    Percentiles,
    method_of,
    normalize,
    require_normalization,
    scale_of,
)
from segjax.errors import UserError

PIXEL = np.array([[[10, 100, 200]]], np.uint8)

EXPECTED = {
    "imagenet": [
        (10 / 255 - 0.485) / 0.229,
        (100 / 255 - 0.456) / 0.224,
        (200 / 255 - 0.406) / 0.225,
    ],
    "caffe_vgg": [200 - 104.00699, 100 - 116.66877, 10 - 122.67892],
    "caffe_bgr": [200, 100, 10],
    "caffe_pspnet": [200 - 103.939, 100 - 116.779, 10 - 123.68],
    "tf": [10 * 2 / 255 - 1, 100 * 2 / 255 - 1, 200 * 2 / 255 - 1],
    "tflite": [(10 - 128) / 128, (100 - 128) / 128, (200 - 128) / 128],
    "tf_resnet": [10 - 123.15, 100 - 115.90, 200 - 103.06],
    "detectron2": [200 - 103.530, 100 - 116.280, 10 - 123.675],
    "dilation_voc": [200 - 102.93, 100 - 111.36, 10 - 116.52],
    "dilation_camvid": [200 - 110.70, 100 - 108.78, 10 - 105.41],
    "dilation_cityscapes": [200 - 72.39, 100 - 82.91, 10 - 73.16],
    "dilation_kitti": [200 - 96.19, 100 - 95.55, 10 - 91.35],
}


def test_every_method_of_colours_is_tested_here():
    assert set(NORMALIZATIONS) == {"range", "per_image", "percentiles", *EXPECTED}


@pytest.mark.parametrize("method", EXPECTED)
def test_order_range_and_mean_are_those_of_the_family(method):
    out = normalize(PIXEL, method)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[0, 0], EXPECTED[method], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", EXPECTED)
def test_sixteen_bits_are_brought_to_the_same_range(method):
    deep = normalize(PIXEL.astype(np.uint16) * 257, method)
    np.testing.assert_allclose(deep, normalize(PIXEL, method), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", NORMALIZATIONS)
def test_any_part_may_be_normalised_alone(method):
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    part = scale_of(image, method)(image[2:5, 3:])
    np.testing.assert_array_equal(part, normalize(image, method)[2:5, 3:])


@pytest.mark.parametrize("method", EXPECTED)
def test_grey_images_are_refused_where_colours_are_meant(method):
    with pytest.raises(ValueError, match=r"is for RGB images \(3 channels\).*have 1"):
        normalize(np.zeros((2, 2, 1), np.uint8), method)
    require_normalization(method, None)


def test_an_unknown_method_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"normalization must be one of.*'imagenet'"):
        require_normalization("image_net", 3)


TYPES = ("uint8", "uint16", "uint32", "int16", "float32", "float64")
LEARNED = Intensities(spread=(40.0,), low=(5.0,), high=(105.0,))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("method", ["percentiles", "per_image"])
def test_every_type_of_a_microscope_is_taken(dtype, method):
    image = np.random.default_rng(0).integers(0, 200, (32, 40, 1)).astype(dtype)
    found = normalize(image, method)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, normalize(image.astype(np.uint8), method))


@pytest.mark.parametrize("dtype", ["uint32", "int16", "float32"])
@pytest.mark.parametrize("method", ["range", "imagenet"])
def test_a_range_is_not_guessed_from_a_type(dtype, method):
    with pytest.raises(ValueError, match=f"images of {dtype} do not state; use 'perc"):
        normalize(np.zeros((2, 2, 3), dtype), method)


def test_values_that_are_not_finite_are_refused():
    image = np.zeros((2, 2, 1), np.float32)
    image[0, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        normalize(image, "percentiles")
    with pytest.raises(UserError, match="not finite"):
        Percentiles(over="stack").scale_of_stack([np.zeros_like(image), image])


def test_percentiles_become_0_and_1_in_each_channel():
    rng = np.random.default_rng(0)
    image = rng.normal((100, 900), (5, 60), (300, 200, 2)).astype(np.uint16)
    found = normalize(image, Percentiles(2, 98))
    low, high = np.percentile(found, (2, 98), axis=(0, 1))
    np.testing.assert_allclose(low, 0, atol=1e-6)
    np.testing.assert_allclose(high, 1, atol=1e-6)


def test_the_floor_keeps_noise_small_and_leaves_other_images():
    rng = np.random.default_rng(0)
    noise = rng.normal(8, 2, (64, 64, 1)).clip(0).astype(np.uint8)
    assert np.ptp(normalize(noise, Percentiles())) > 1
    assert normalize(noise, Percentiles(learned=LEARNED)).std() < 0.06
    bright = rng.integers(0, 200, (64, 64, 1), dtype=np.uint8)
    expected = normalize(bright, Percentiles())
    np.testing.assert_array_equal(
        normalize(bright, Percentiles(learned=LEARNED)), expected
    )


def test_a_constant_page_becomes_0_whatever_its_level():
    for level in (0, 17, 255):
        page = np.full((8, 8, 1), level, np.uint8)
        assert not normalize(page, Percentiles(learned=LEARNED)).any()


def test_over_the_data_set_brightness_keeps_its_meaning():
    method = Percentiles(over="dataset", learned=LEARNED)
    page = np.full((2, 2, 1), 55, np.uint8)
    np.testing.assert_allclose(normalize(page, method), 0.5)


def test_percentiles_of_a_large_image_are_nearly_those_of_all_its_pixels():
    side = 2 * int(SAMPLED_PIXELS**0.5)
    image = np.random.default_rng(0).gamma(2, 100, (side, side, 1)).astype(np.uint16)
    scale = Percentiles().scale(image)
    found = (scale.mean[0], scale.mean[0] + scale.std[0])
    np.testing.assert_allclose(found, np.percentile(image, (1, 99.8)), rtol=0.05)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"low": 99, "high": 1}, "low must be below high, got 99 and 1"),
        ({"high": 101}, "numbers of 0 to 100"),
        ({"over": "page"}, "over must be one of"),
    ],
)
def test_percentiles_that_cannot_be_are_refused(group, message):
    with pytest.raises(ValueError, match=message):
        method_of("percentiles", group)
