"""Models that come with segjax, on what they are for."""

import numpy as np
import pytest
from scipy import ndimage

import segjax
from segjax.pretrained.shipped import shipped_models

MOST_BYTES = 3_000_000


def nuclei(side: int = 256, count: int = 25, seed: int = 0) -> np.ndarray:
    """Bright, blurred ellipses on dark noise, uint16 `[side, side]`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    bright = np.zeros((side, side))
    places = 25 + 50 * np.array(np.divmod(np.arange(count), 5)).T
    for top, left in places + rng.integers(-6, 7, (count, 2)):
        height, width = rng.uniform(7, 12, 2)
        inside = ((y - top) / height) ** 2 + ((x - left) / width) ** 2 < 1
        bright[inside] = rng.uniform(0.4, 1.0)
    bright = ndimage.gaussian_filter(bright, 1.5)
    return (300 + 3000 * bright + rng.normal(0, 30, bright.shape)).astype(np.uint16)


def test_they_are_small() -> None:
    files = shipped_models()
    assert set(files) == {"nuclei"}
    assert all(path.stat().st_size <= MOST_BYTES for path in files.values())


@pytest.fixture(scope="module")
def model():
    return segjax.load("nuclei")


def test_drawn_nuclei_are_counted(model) -> None:
    numbers = model.instances(nuclei())
    assert numbers.max() == 25


def test_a_stack_of_one_channel_is_counted_page_by_page(model) -> None:
    stack = np.stack([nuclei(seed=1), nuclei(seed=2)])
    numbers = model.instances(stack)
    assert [len(np.unique(page)) - 1 for page in numbers] == [25, 25]


def test_pages_without_nuclei_have_none(model) -> None:
    noise = np.random.default_rng(3).normal(300, 30, (128, 128)).astype(np.uint16)
    for page in (noise, np.full_like(noise, 300)):
        assert model.instances(page).max() == 0
