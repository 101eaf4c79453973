"""Filters beside loops in float64: values, constants, symmetry, gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.crf.features import (
    appearance_features,
    smoothness_features,
    transform_features,
)
from segjax.ops.crf.gaussian import ExactFilter
from segjax.ops.crf.inference import NORMALIZATIONS, make_kernel
from segjax.ops.crf.permutohedral import permutohedral_lattice
from segjax.ops.crf.spatial import SeparableFilter, WindowFilter

SIZE = (9, 13)
PIXELS = SIZE[0] * SIZE[1]
GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.uniform(0, 255, (*SIZE, 3)).astype(np.float32)
VALUES = GENERATOR.uniform(size=(PIXELS, 4)).astype(np.float32)
OTHER = GENERATOR.normal(size=(PIXELS, 4)).astype(np.float32)


def gaussian_matrix(image, alpha, beta) -> np.ndarray:
    """All pairs in float64; a `beta` of None leaves colour out."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].reshape(2, -1) / np.float64(alpha)
    features = [x, y]
    if beta is not None:
        features += list(image.reshape(-1, image.shape[2]).T / np.float64(beta))
    squares = sum((f[:, None] - f[None]) ** 2 for f in features)
    return np.exp(-squares / 2)


def window_of(radius: int, dilation: int = 1) -> np.ndarray:
    """Which pairs of pixels lie in a window."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].reshape(2, -1)
    inside = np.ones((PIXELS, PIXELS), bool)
    for position in (y, x):
        offset = np.abs(position[:, None] - position[None])
        inside &= (offset <= radius * dilation) & (offset % dilation == 0)
    return inside


def appearance() -> jax.Array:
    return appearance_features(jnp.asarray(IMAGE), 6.0, 70.0)


FILTERS = {
    "exact": (
        lambda: ExactFilter(appearance(), tile=(32, 50)),
        lambda: gaussian_matrix(IMAGE, 6.0, 70.0),
    ),
    "exact in one tile": (
        lambda: ExactFilter(appearance(), form="differences"),
        lambda: gaussian_matrix(IMAGE, 6.0, 70.0),
    ),
    "attention": (
        lambda: ExactFilter(appearance(), tile=(32, 50), form="attention"),
        lambda: gaussian_matrix(IMAGE, 6.0, 70.0),
    ),
    "separable": (
        lambda: SeparableFilter(jnp.array([2.0, 2.0]), SIZE),
        lambda: gaussian_matrix(IMAGE, 2.0, None),
    ),
    "cut on one side only": (
        lambda: SeparableFilter(jnp.array(2.0), SIZE, radius=11),
        lambda: gaussian_matrix(IMAGE, 2.0, None),
    ),
    "window": (
        lambda: WindowFilter(appearance(), SIZE, radius=2),
        lambda: gaussian_matrix(IMAGE, 6.0, 70.0) * window_of(2),
    ),
    "dilated window": (
        lambda: WindowFilter(appearance(), SIZE, radius=2, dilation=3),
        lambda: gaussian_matrix(IMAGE, 6.0, 70.0) * window_of(2, 3),
    ),
}
EVERY_FILTER = pytest.mark.parametrize("name", FILTERS)


@EVERY_FILTER
def test_filter_is_the_sum_over_pairs(name) -> None:
    make, matrix = FILTERS[name]
    expected = matrix() @ VALUES.astype(np.float64)
    np.testing.assert_allclose(make()(VALUES), expected, rtol=1e-5)


@EVERY_FILTER
def test_filter_is_its_own_transpose(name) -> None:
    filter = FILTERS[name][0]()
    there, back = np.vdot(filter(VALUES), OTHER), np.vdot(VALUES, filter(OTHER))
    scale = np.linalg.norm(filter(VALUES)) * np.linalg.norm(OTHER)
    assert abs(there - back) <= 1e-6 * scale


@EVERY_FILTER
def test_gradient_to_values_is_the_transpose(name) -> None:
    make, matrix = FILTERS[name]
    found = jax.vjp(make(), jnp.asarray(VALUES))[1](jnp.asarray(OTHER))[0]
    expected = matrix().T @ OTHER.astype(np.float64)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@EVERY_FILTER
def test_filter_without_the_pixel_itself(name) -> None:
    make, matrix = FILTERS[name]
    filter = make()
    alone = type(filter)(**{**vars(filter), "self_included": False})
    expected = (matrix() - np.eye(PIXELS)) @ VALUES
    np.testing.assert_allclose(alone(VALUES), expected, rtol=1e-5)


@pytest.mark.parametrize("name", [*FILTERS, "lattice"])
def test_factors_stand_before_and_behind_the_sums(name) -> None:
    if name == "lattice":
        filter = permutohedral_lattice(appearance())
    else:
        filter = FILTERS[name][0]()
    before, after = (0.5 + np.abs(x[:, :1]) for x in (VALUES, OTHER))
    expected = after * filter(jnp.asarray(before * VALUES))
    found = filter.scaled(before, after)(VALUES)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    behind = filter.scaled(None, after)
    np.testing.assert_allclose(behind(VALUES), after * filter(VALUES), rtol=1e-5)
    twice = behind.scaled(before, None)
    np.testing.assert_allclose(twice(VALUES), expected, rtol=1e-5)


def test_constants_are_kept_after_normalization() -> None:
    kernel = make_kernel(
        ExactFilter(appearance()),
        num_pixels=PIXELS,
        compatibility=1.0,
        normalization="after",
    )
    np.testing.assert_allclose(kernel.filter(jnp.ones((PIXELS, 2))), 1, atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalizations_are_those_of_the_matrix(normalization) -> None:
    matrix = gaussian_matrix(IMAGE, 6.0, 70.0)
    sums = matrix.sum(1)
    before, after = {
        "none": (1.0, 1.0),
        "before": (1 / sums, 1.0),
        "after": (1.0, 1 / sums),
        "symmetric": (sums**-0.5, sums**-0.5),
    }[normalization]
    expected = (after * (matrix * before).T).T @ VALUES
    kernel = make_kernel(
        ExactFilter(appearance()),
        num_pixels=PIXELS,
        compatibility=1.0,
        normalization=normalization,
    )
    np.testing.assert_allclose(kernel.filter(jnp.asarray(VALUES)), expected, rtol=1e-5)


@pytest.mark.parametrize(("truncate", "error"), [(3.0, 3e-3), (4.0, 1e-4), (5.0, 1e-6)])
def test_separable_gaussian_cut_at_so_many_widths(truncate, error) -> None:
    width, size = 3.0, (24, 40)
    values = GENERATOR.uniform(size=(size[0] * size[1], 2)).astype(np.float32)
    filter = SeparableFilter(jnp.array(width), size, radius=int(truncate * width))
    exact = SeparableFilter(jnp.array(width), size)(values)
    relative = np.linalg.norm(filter(values) - exact) / np.linalg.norm(exact)
    assert relative <= error


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (2, 3)])
def test_separable_gaussian_of_sides_shorter_than_its_window(size) -> None:
    image = np.zeros((*size, 1))
    values = GENERATOR.uniform(size=(size[0] * size[1], 2)).astype(np.float32)
    found = SeparableFilter(jnp.array(2.0), size, radius=3)(values)
    full = gaussian_matrix(image, 2.0, None)
    y, x = np.mgrid[: size[0], : size[1]].reshape(2, -1)
    near = np.abs(np.subtract.outer(y, y)) <= 3
    near &= np.abs(np.subtract.outer(x, x)) <= 3
    # An axis not longer than its window is not cut at all.
    far = (size[0] <= 3) and (size[1] <= 3)
    expected = (full if far else full * near) @ values
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("position", "color", "error"), [(80.0, 13.0, 1e-5), (67.0, 3.0, 5e-4)]
)
def test_attention_splits_features_finely_enough(position, color, error) -> None:
    size = (24, 36)
    image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.float32)
    # Neighbours alike, as in photographs, so that sums are more than the pixel itself.
    image = image.reshape(8, 3, 12, 3, 3).mean((1, 3)).repeat(3, 0).repeat(3, 1)
    features = appearance_features(jnp.asarray(image), position / 10, color)
    values = np.random.default_rng(2).uniform(size=(size[0] * size[1], 2))
    values = values.astype(np.float32)
    exact = ExactFilter(features, form="differences")(values)
    attention = ExactFilter(features, form="attention")(values)
    relative = jnp.linalg.norm(attention - exact) / jnp.linalg.norm(exact)
    assert float(relative) <= error


def directional(function, x, direction, step) -> float:
    """Finite difference in one direction."""
    return float(function(x + step * direction) - function(x - step * direction)) / (
        2 * step
    )


@pytest.mark.parametrize("name", ["exact", "window"])
def test_gradient_to_features_by_finite_differences(name) -> None:
    make = FILTERS[name][0]
    filter = make()
    options = {k: v for k, v in vars(filter).items() if k != "features"}
    direction = np.random.default_rng(3).normal(size=filter.features.shape)
    direction = jnp.asarray(direction, jnp.float32)

    def loss(features):
        return jnp.vdot(type(filter)(features, **options)(VALUES), OTHER)

    gradient = jax.grad(loss)(filter.features)
    found = float(jnp.vdot(gradient, direction))
    expected = directional(loss, filter.features, direction, 1e-2)
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_gradient_to_features_is_that_of_the_plain_form() -> None:
    features = appearance()

    def plain(features):
        squares = jnp.square(features[:, None] - features[None]).sum(-1)
        return jnp.vdot(jnp.exp(-squares / 2) @ VALUES, OTHER)

    def streamed(features):
        return jnp.vdot(ExactFilter(features, tile=(32, 50))(VALUES), OTHER)

    expected = jax.grad(plain)(features)
    found = jax.grad(streamed)(features)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found / scale, expected / scale, atol=2e-6)


@pytest.mark.parametrize("radius", [None, 6])
def test_gradient_to_the_width_of_the_separable_gaussian(radius) -> None:
    def loss(width):
        return jnp.vdot(SeparableFilter(width, SIZE, radius)(VALUES), OTHER)

    width = jnp.array([1.5, 2.5])
    direction = jnp.array([0.6, -0.8])
    found = float(jnp.vdot(jax.grad(loss)(width), direction))
    expected = directional(loss, width, direction, 1e-2)
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_covariance_is_a_number_a_diagonal_or_a_matrix() -> None:
    features = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    matrix = jnp.array([[1.0, 2.0], [0.0, 3.0]])
    assert transform_features(features, 2.0).tolist() == [[2.0, 4.0], [6.0, 8.0]]
    by_diagonal = transform_features(features, jnp.array([2.0, 3.0]))
    assert by_diagonal.tolist() == [[2.0, 6.0], [6.0, 12.0]]
    by_matrix = transform_features(features, matrix)
    np.testing.assert_allclose(by_matrix, [[5.0, 6.0], [11.0, 12.0]])
    with pytest.raises(ValueError, match=r"scale has the shape \[3\]; allowed"):
        transform_features(features, jnp.ones(3))


def test_order_of_the_features_is_x_y_channels() -> None:
    features = appearance_features(jnp.asarray(IMAGE), (2.0, 4.0), (1.0, 2.0, 3.0))
    pixel = 1 * SIZE[1] + 5
    expected = [5 / 2, 1 / 4, *(IMAGE[1, 5] / [1, 2, 3])]
    np.testing.assert_allclose(features[pixel], expected, rtol=1e-6)
    np.testing.assert_allclose(smoothness_features(SIZE, 2.0)[pixel], [2.5, 0.5])


def test_bad_choices_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="normalization is 'both'; allowed are 'none'"):
        make_kernel(lambda x: x, num_pixels=1, compatibility=1, normalization="both")
    with pytest.raises(ValueError, match=r"compatibility has the shape \[2, 3\]"):
        make_kernel(lambda x: x, num_pixels=1, compatibility=np.ones((2, 3)))
    with pytest.raises(ValueError, match='form is "attention" for the distance'):
        ExactFilter(appearance(), distance="chebyshev", form="attention")
    with pytest.raises(ValueError, match="radius is 0; allowed is 1 or more"):
        WindowFilter(appearance(), SIZE, radius=0)
