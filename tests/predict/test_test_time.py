"""Scales, mirror images and overlapping crops, against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.geometry.input_sizes import Geometry
from segjax.ops.resizing.resize import resize_bilinear
from segjax.predict.test_time import (
    AveragedPredictor,
    TestTimeAugmentation,
    crop_starts,
)
from segjax.predict.tiled import Predictor

ANY = Geometry(stride=1, halo=None, offset=None)


def image_of(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((height, width, 3)).astype(np.float32)


def network(image):
    """Three classes from the pixel, its right neighbour and the mean of the image."""
    right = jnp.roll(image, -1, 2)
    return image * 2 + right + image.mean((1, 2), keepdims=True) * 5


def softmax(image):
    return np.asarray(jax.nn.softmax(network(jnp.asarray(image)[None]))[0])


def resized(array, size):
    return np.asarray(resize_bilinear(jnp.asarray(array)[None], size=size)[0])


def probabilities(passes, image, **options):
    predictor = AveragedPredictor(network, ANY, passes, **options)
    return next(predictor.pages([image], ("probabilities",)))["probabilities"]


def test_one_pass_is_the_plain_prediction():
    image = image_of(9, 7)
    expected = Predictor(network, ANY, tile=0).probabilities(image)
    np.testing.assert_allclose(
        probabilities(TestTimeAugmentation(), image), expected, rtol=1e-5
    )


def test_the_mirror_image_is_averaged_in():
    image = image_of(6, 5)
    expected = (softmax(image) + softmax(image[:, ::-1])[:, ::-1]) / 2
    found = probabilities(TestTimeAugmentation(flip=True), image)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(expected - softmax(image)).max() > 0.01


def test_scales_are_averaged_at_the_size_of_the_image():
    image = image_of(12, 10)
    half = resized(softmax(resized(image, (6, 5))), (12, 10))
    more = resized(softmax(resized(image, (18, 15))), (12, 10))
    expected = (half + softmax(image) + more) / 3
    found = probabilities(TestTimeAugmentation(scales=(0.5, 1.0, 1.5)), image)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_images_are_squeezed_and_probabilities_brought_back():
    image = image_of(12, 10)
    expected = resized(softmax(resized(image, (8, 15))), (12, 10))
    found = probabilities(TestTimeAugmentation(size=(8, 15)), image)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not TestTimeAugmentation(size=(8, 15)).is_one
    with pytest.raises(ValueError, match=r"size is \(height, width\) in whole pixels"):
        TestTimeAugmentation(size=(8, 0))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_overlapping_crops_are_averaged_by_how_often_a_pixel_was_seen(batch_size):
    image = image_of(11, 8)
    total, count = np.zeros((11, 8, 3)), np.zeros((11, 8, 1))
    for i in (0, 4, 5):
        for j in (0, 2):
            total[i : i + 6, j : j + 6] += softmax(image[i : i + 6, j : j + 6])
            count[i : i + 6, j : j + 6] += 1
    passes = TestTimeAugmentation(crop=(6, 6))
    found = probabilities(passes, image, batch_size=batch_size)
    np.testing.assert_allclose(found, total / count, rtol=1e-5)


def test_an_image_smaller_than_the_crop_is_filled_up_with_the_mean():
    image = image_of(4, 9)
    expected = softmax(np.pad(image, ((0, 2), (0, 0), (0, 0))))[:4]
    found = probabilities(TestTimeAugmentation(crop=(6, 9)), image)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_sides_that_the_network_does_not_take_are_mirrored_up():
    def picky(image):
        assert image.shape[1] % 4 == image.shape[2] % 4 == 0
        return image

    predictor = AveragedPredictor(
        picky, Geometry(stride=4, halo=None), TestTimeAugmentation(flip=True)
    )
    image = image_of(10, 7)
    page = next(predictor.pages([image], ("labels",)))
    np.testing.assert_array_equal(page["labels"], image.argmax(-1))


def test_images_of_several_sizes_come_out_in_order():
    images = [image_of(5, 6), image_of(7, 4, seed=1), image_of(5, 6, seed=2)]
    predictor = AveragedPredictor(network, ANY, TestTimeAugmentation(flip=True))
    labels = [page["labels"] for page in predictor.pages(images)]
    for image, label in zip(images, labels, strict=True):
        expected = (softmax(image) + softmax(image[:, ::-1])[:, ::-1]).argmax(-1)
        np.testing.assert_array_equal(label, expected)


def test_crops_are_two_thirds_of_their_side_apart_and_end_with_the_image():
    assert crop_starts(900, 473, 2 / 3) == [0, 316, 427]
    assert crop_starts(473, 473, 2 / 3) == [0]
    covered = np.zeros(1001, int)
    for start in crop_starts(1001, 97, 0.5):
        covered[start : start + 97] += 1
    assert covered.min() >= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"scales": ()},
        {"scales": (0.0,)},
        {"crop": (5,)},
        {"crop": (5, 2.5)},
        {"crop_stride": 0.0},
        {"crop_stride": 1.5},
    ],
)
def test_wrong_passes_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TestTimeAugmentation(**wrong)


def test_a_crop_that_the_network_does_not_take_is_named():
    with pytest.raises(ValueError, match=r"crop height = 10 .* nearest: 8 and 12"):
        AveragedPredictor(
            network, Geometry(stride=4), TestTimeAugmentation(crop=(10, 12))
        )
