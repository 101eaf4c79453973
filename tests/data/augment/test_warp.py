import numpy as np
import pytest
from scipy import ndimage

from segjax.data.augment.warp import displacement, mirror, sample


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_mirror_reads_what_numpy_pads(length):
    padded = np.pad(np.arange(length), 20, mode="reflect")
    at = np.arange(-20, length + 20)
    np.testing.assert_array_equal(mirror(at, length), padded)
    np.testing.assert_array_equal(mirror(at.astype(np.float32), length), padded)


@pytest.mark.parametrize(("grid", "size"), [(2, (5, 9)), (3, (64, 48)), (5, (40, 41))])
def test_displacement_is_the_cubic_zoom_of_scipy(grid, size):
    nodes = np.random.default_rng(0).normal(size=(2, grid, grid)).astype(np.float32)
    zoom = [
        ndimage.zoom(n, (size[0] / grid, size[1] / grid), mode="mirror") for n in nodes
    ]
    np.testing.assert_allclose(displacement(nodes, size), zoom, atol=2e-5)


def test_displacement_meets_the_nodes():
    nodes = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
    field = displacement(nodes, (65, 33))
    np.testing.assert_allclose(field[::32, ::16], nodes, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(20, 31), (1, 9), (9, 1)])
def test_images_are_sampled_as_scipy_does_it_linearly_and_labels_by_nearest(
    shape, channels
):
    rng = np.random.default_rng(2)
    image = rng.random((*shape, channels), dtype=np.float32)
    label = rng.integers(0, 256, shape, dtype=np.int32)
    rows, columns = rng.uniform(-12, 40, (2, 50, 60)).astype(np.float32)
    out = sample({"image": image, "label": label}, rows, columns)
    folded = [mirror(rows, shape[0]), mirror(columns, shape[1])]
    for channel in range(channels):
        linear = ndimage.map_coordinates(image[..., channel], folded, order=1)
        np.testing.assert_allclose(out["image"][..., channel], linear, atol=2e-5)
    nearest = label[np.rint(folded[0]).astype(int), np.rint(folded[1]).astype(int)]
    np.testing.assert_array_equal(out["label"], nearest)
    assert out["image"].dtype == np.float32
    assert out["label"].dtype == np.int32


def test_sampling_at_the_pixels_is_exact():
    rng = np.random.default_rng(3)
    image = rng.random((7, 8, 2), dtype=np.float32)
    rows, columns = np.indices((7, 8)).astype(np.float32)
    out = sample({"image": image}, rows, columns)["image"]
    np.testing.assert_array_equal(out, image)
