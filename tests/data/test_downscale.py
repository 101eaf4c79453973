import numpy as np
import pytest

from segjax.data.downscale import area_average, nearest_label


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_every_block_becomes_its_rounded_mean(dtype, factor):
    top = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, top, (24, 36, 3), dtype=dtype)
    out = area_average(image, factor)
    blocks = image.reshape(24 // factor, factor, 36 // factor, factor, 3)
    assert out.dtype == dtype
    assert np.abs(out - blocks.mean((1, 3))).max() <= 0.5
    full = np.full((12, 12, 1), top, dtype)
    assert (area_average(full, factor) == top).all()


def test_labels_are_those_of_the_centres_of_the_blocks():
    label = np.arange(36).reshape(6, 6)
    np.testing.assert_array_equal(nearest_label(label, 3), [[7, 10], [25, 28]])
    np.testing.assert_array_equal(
        nearest_label(label, 2), [[7, 9, 11], [19, 21, 23], [31, 33, 35]]
    )


def test_a_factor_that_leaves_a_rest_is_refused():
    with pytest.raises(ValueError, match=r"divides 6 and 6, got 4"):
        nearest_label(np.zeros((6, 6)), 4)


def test_floats_are_averaged_as_floats():
    image = np.float32([[0.25, 0.5], [0.75, 1.0]])[..., None]
    np.testing.assert_allclose(area_average(image, 2), 0.625)
    assert area_average(image, 2).dtype == np.float32
