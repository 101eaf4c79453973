"""What a run learns of its training images: the same numbers, from one reading of each."""

import numpy as np

from segjax.data.dataset import LazyRecords
from segjax.data.intensities import (
    COUNTED_IMAGES,
    RecordScales,
    Several,
    count_intensities,
    scale_of_image,
)
from segjax.data.normalization import Percentiles, normalize


def test_one_empty_image_does_not_lower_the_floor_to_nothing():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 100, (32, 32, 1), dtype=np.uint8) for _ in range(19)]
    images.insert(7, np.full((32, 32, 1), 50, np.uint8))
    found = count_intensities([{"image": image} for image in images], Percentiles())
    assert 90 < found.spread[0] <= 100


def test_channels_are_counted_apart():
    image = np.zeros((10, 10, 2), np.float32)
    image[..., 1] = np.linspace(-5, 5, 100).reshape(10, 10)
    found = count_intensities([{"image": image}], Percentiles(0, 100))
    assert found.spread == (0.0, 10.0)
    assert found.low == (0.0, -5.0)
    assert found.high == (0.0, 5.0)


def test_images_are_read_once_and_of_many_only_some():
    read = []

    def record(i):
        read.append(i)
        return {"image": np.full((2, 2, 1), i % 200, np.uint8)}

    count_intensities(LazyRecords(record, range(1000)), Percentiles())
    assert len(read) == len(set(read)) == COUNTED_IMAGES
    assert (read[0], read[-1]) == (0, 999)


def test_several_methods_give_channels_one_after_the_other_pages_of_a_stack_alike():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 50 * i, (6, 5, 1), np.uint8) for i in (1, 2, 4)]
    records = [{"image": image, "stack": "a"} for image in images]
    over_stack = Percentiles(0, 100, over="stack")
    scales = RecordScales(records, Several(("range", over_stack)))
    found = [scales(i, x)(x["image"]) for i, x in enumerate(records)]
    low, high = min(x.min() for x in images), max(x.max() for x in images)
    for image, both in zip(images, found, strict=True):
        np.testing.assert_allclose(both[..., :1], normalize(image, "range"))
        expected = (image.astype(float) - low) / (high - low)
        np.testing.assert_allclose(both[..., 1:], expected, rtol=1e-6)


def test_the_scale_of_an_image_brings_its_parts_to_what_the_whole_becomes():
    image = np.random.default_rng(0).integers(9, 240, (12, 10, 2), np.uint8)
    for method in (
        "per_image",
        Percentiles(1, 99),
        Several(("range", "per_image", Percentiles(1, 99))),
    ):
        scale = scale_of_image(image, method)
        if isinstance(method, Several):
            whole = np.concatenate(
                [normalize(image, each) for each in method.methods], -1
            )
        else:
            whole = normalize(image, method)
        np.testing.assert_allclose(scale(image[3:7, 2:]), whole[3:7, 2:], rtol=1e-6)
