"""Every family of weights gets the colours that it was trained with."""

import numpy as np
import pytest

from segjax.data.normalization import (
    NORMALIZATIONS,
    normalize,
    require_normalization,
    scale_of,
)

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
