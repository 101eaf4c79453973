import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from segjax.ops.resizing.resize import (
    bed_of_nails,
    bilinear_kernel,
    bilinear_profile,
    center_crop,
    crop,
    resize_bilinear,
    resize_nearest,
    upsample_nearest,
)

GOLDEN = dict(np.load(Path(__file__).parents[2] / "golden" / "ops.npz"))
CASES = [
    key.removesuffix(" value")
    for key in GOLDEN
    if key.startswith("resize") and key.endswith(" value")
]
LINEAR = {
    "nearest by factor": partial(upsample_nearest, factor=(2, 3)),
    "bed of nails": partial(bed_of_nails, factor=(3, 2)),
    "nearest up": partial(resize_nearest, size=(7, 9)),
    "nearest down": partial(resize_nearest, size=(2, 3)),
    "bilinear up": partial(resize_bilinear, size=(9, 7)),
    "bilinear down": partial(resize_bilinear, size=(2, 3)),
    "bilinear corners": partial(resize_bilinear, size=(9, 3), align_corners=True),
    "bilinear far up": partial(resize_bilinear, size=(90, 5)),
    "crop": partial(crop, offset=(1, 0), size=(2, 3)),
    "centre crop": partial(center_crop, size=(2, 2)),
}
SQUARE = jnp.array([[0.0, 1], [2, 3]])[None, :, :, None]


def operator(case):
    name, options = case.split()
    options = json.loads(options)
    options["size"] = tuple(options["size"])
    functions = {"resize_nearest": resize_nearest, "resize_bilinear": resize_bilinear}
    return partial(functions[name], **options)


def random_array(shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jnp.float32)


def plane(x):
    return np.array(x)[0, :, :, 0]


def transposed(x, profile, stride, padding):
    """A one-channel transposed convolution, spelt out."""
    kernel = jnp.asarray(np.outer(profile, profile), jnp.float32)[:, :, None, None]
    rest = len(profile) - 1 - padding
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [(rest, rest)] * 2,
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_those_of_torch(case):
    @jax.jit
    def value_and_gradient(x, cotangent):
        value, pullback = jax.vjp(operator(case), x)
        return value, *pullback(cotangent)

    cotangent = GOLDEN[f"{case} cotangent"].astype(np.float32)
    value, gradient = value_and_gradient(GOLDEN["input"], cotangent)
    np.testing.assert_allclose(value, GOLDEN[f"{case} value"], atol=1e-5)
    # Gradients add up as many as 30 x 30 products of magnitude 4.
    np.testing.assert_allclose(gradient, GOLDEN[f"{case} gradient"], atol=3e-5)


def test_golden_arrays_hold_every_case():
    assert len(CASES) == 8 * 3


@pytest.mark.parametrize("name", LINEAR)
def test_gradient_is_the_transpose_of_the_matrix(name):
    function = jax.jit(LINEAR[name])
    shape = (1, 4, 5, 1)
    basis = jnp.eye(20).reshape(20, *shape)
    matrix = np.array(jax.jit(jax.vmap(function))(basis)).reshape(20, -1).T
    x = random_array(shape)
    value, pullback = jax.vjp(function, x)
    np.testing.assert_allclose(matrix @ x.ravel(), value.ravel(), atol=1e-5)
    g = random_array(value.shape, seed=1)
    (gradient,) = pullback(g)
    np.testing.assert_allclose(matrix.T @ g.ravel(), gradient.ravel(), atol=2e-5)
    np.testing.assert_allclose(
        jnp.vdot(value, g), jnp.vdot(x, gradient), rtol=1e-4, atol=1e-4
    )
    check_grads(function, (x,), order=1, modes=("rev",), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", LINEAR)
def test_eager_jit_and_vmap_agree(name):
    function = LINEAR[name]
    x = random_array((2, 1, 4, 5, 3))
    eager = jnp.stack([function(part) for part in x])
    np.testing.assert_allclose(jax.jit(function)(x[0]), eager[0], atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(x), eager, atol=1e-6)


def test_lecture_examples_of_nearest_and_bed_of_nails():
    x = jnp.array([[1, 2], [3, 4]])[None, :, :, None]
    nearest = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert plane(upsample_nearest(x, factor=2)).tolist() == nearest
    assert plane(resize_nearest(x, size=(4, 4))).tolist() == nearest
    nails = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    assert plane(bed_of_nails(x, factor=2)).tolist() == nails


def test_nearest_reads_the_floor_of_the_scaled_index():
    x = jnp.arange(10, dtype=jnp.uint8).reshape(1, 1, 10, 1)
    y = resize_nearest(x, size=(1, 4))
    assert y.dtype == jnp.uint8
    assert plane(y).tolist() == [[0, 2, 5, 7]]
    jax_answer = jax.image.resize(x, (1, 1, 4, 1), "nearest")
    assert plane(jax_answer).tolist() != plane(y).tolist()


@pytest.mark.parametrize(
    ("corners", "rows"),
    [
        (True, {0: [0, 1 / 3, 2 / 3, 1], 1: [2 / 3, 1, 4 / 3, 5 / 3]}),
        (False, {0: [0, 0.25, 0.75, 1], 1: [0.5, 0.75, 1.25, 1.5]}),
    ],
)
def test_square_of_the_examples_is_interpolated_to_four(corners, rows):
    result = plane(resize_bilinear(SQUARE, size=(4, 4), align_corners=corners))
    for row, expected in rows.items():
        np.testing.assert_allclose(result[row], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "corners", "expected"),
    [
        (8, True, np.arange(8) * 30 / 7),
        (8, False, [0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30]),
        (7, True, [0, 5, 10, 15, 20, 25, 30]),
        (7, False, [0, 3.5714286, 9.2857143, 15, 20.7142857, 26.4285714, 30]),
        (3, True, [0, 15, 30]),
        (3, False, [5 / 3, 15, 85 / 3]),
        (2, True, [0, 30]),
        (2, False, [5, 25]),
        (1, True, [0]),
        (1, False, [15]),
    ],
)
def test_row_of_the_examples_is_interpolated(size, corners, expected):
    x = jnp.array([0.0, 10, 20, 30]).reshape(1, 1, 4, 1)
    result = resize_bilinear(x, size=(1, size), align_corners=corners)
    np.testing.assert_allclose(plane(result)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("function", [resize_bilinear, resize_nearest])
def test_dtype_is_kept_and_rounded_once(function, half):
    x = random_array((1, 5, 6, 2)).astype(half)
    resize = jax.jit(partial(function, size=(8, 4)))
    result = resize(x)
    assert result.dtype == half
    expected = resize(x.astype(jnp.float32)).astype(half)
    np.testing.assert_array_equal(result, expected)


def test_gradient_can_be_differentiated_again():
    x = random_array((1, 3, 4, 1))

    def energy(x):
        return (resize_bilinear(x, size=(5, 6)) ** 3).sum()

    hessian = jax.jit(jax.jacrev(jax.grad(energy)))(x).reshape(12, 12)
    matrix = jax.jacrev(partial(resize_bilinear, size=(5, 6)))(x).reshape(30, 12)
    middle = 6 * resize_bilinear(x, size=(5, 6)).ravel()
    np.testing.assert_allclose(
        hessian, matrix.T @ (middle[:, None] * matrix), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("taps", "first"),
    [
        (2, [0.5]),
        (3, [0.5, 1]),
        (4, [0.25, 0.75]),
        (8, [0.125, 0.375, 0.625, 0.875]),
        (16, np.arange(1, 16, 2) / 16),
        (63, np.arange(1, 33) / 32),
        (64, np.arange(1, 64, 2) / 64),
    ],
)
def test_bilinear_profiles_are_those_of_the_table(taps, first):
    profile = bilinear_profile(taps)
    assert len(profile) == taps
    np.testing.assert_allclose(profile[: len(first)], first)
    np.testing.assert_array_equal(profile, profile[::-1])


def test_bilinear_kernel_stands_on_the_diagonal():
    square = np.outer(bilinear_profile(4), bilinear_profile(4))
    full = np.array(bilinear_kernel(4, channels=6))
    for i in range(6):
        for j in range(6):
            np.testing.assert_array_equal(full[:, :, i, j], square * (i == j))
    halves = np.array(bilinear_kernel(4, channels=6, groups=2))
    np.testing.assert_array_equal(halves[..., :3], full[:, :, :3, :3])
    np.testing.assert_array_equal(halves[..., 3:], full[:, :, 3:, 3:])
    single = np.array(bilinear_kernel(4, channels=6, groups=6))
    np.testing.assert_array_equal(single, np.repeat(square[..., None, None], 6, 3))


def test_transposed_convolution_with_the_kernel_is_that_of_the_examples():
    profile = bilinear_profile(4)
    expected = [
        [0, 0.1875, 0.5625, 0.5625],
        [0.375, 0.75, 1.25, 1.125],
        [1.125, 1.75, 2.25, 1.875],
        [1.125, 1.6875, 2.0625, 1.6875],
    ]
    np.testing.assert_allclose(plane(transposed(SQUARE, profile, 2, 1)), expected)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_kernel_interpolates_as_bilinear_does_inside(factor):
    x = random_array((1, 6, 5, 1))
    taps = 2 * factor - factor % 2
    padding = (taps - factor) // 2
    by_kernel = plane(transposed(x, bilinear_profile(taps), factor, padding))
    resized = plane(resize_bilinear(x, size=(6 * factor, 5 * factor)))
    inside = (slice(factor, -factor),) * 2
    np.testing.assert_allclose(by_kernel[inside], resized[inside], atol=1e-5)


def test_crops_keep_the_asked_rectangle():
    x = jnp.arange(30).reshape(1, 5, 6, 1)
    assert plane(crop(x, offset=(3, 1), size=(2, 2))).tolist() == [[19, 20], [25, 26]]
    assert plane(center_crop(x, size=(3, 2))).tolist() == [[8, 9], [14, 15], [20, 21]]
    assert plane(center_crop(x, size=(2, 1))).tolist() == [[8], [14]]


@pytest.mark.parametrize(
    ("whole", "part", "offset"), [(64, 56, 4), (136, 104, 16), (280, 200, 40)]
)
def test_centre_crops_of_the_unet_take_the_same_from_every_side(whole, part, offset):
    x = jnp.arange(whole).reshape(1, whole, 1, 1)
    cropped = plane(center_crop(x, size=(part, 1)))[:, 0]
    assert (cropped[0], cropped[-1]) == (offset, whole - 1 - offset)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: upsample_nearest(x, factor=0), "factor is 0; allowed is an integer"),
        (lambda x: bed_of_nails(x, factor=(1, 0)), r"factor is \(1, 0\); allowed"),
        (lambda x: resize_nearest(x, size=(0, 4)), r"size is \(0, 4\); allowed"),
        (lambda x: resize_bilinear(x[0], size=(2, 2)), "x has shape .* allowed is"),
        (
            lambda x: resize_bilinear(x.astype(int), size=(2, 2)),
            "x is of dtype int32; allowed are floating-point",
        ),
        (lambda x: bilinear_kernel(0), "taps is 0; it must be at least 1"),
        (
            lambda x: bilinear_kernel(4, channels=21, groups=2),
            "groups is 2 for channels 21; allowed are its divisors",
        ),
        (
            lambda x: center_crop(x, size=(4, 7)),
            "size asks for a width of 7, .* 1 to 6",
        ),
        (
            lambda x: crop(x, offset=(2, 0), size=(4, 2)),
            r"offset and size ask for rows \[2, 6\) of a map that has 5",
        ),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(jnp.zeros((1, 5, 6, 1)))
