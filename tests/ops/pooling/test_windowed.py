import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.ops.pooling.adaptive import adaptive_avg_pool, adaptive_max_pool
from segjax.ops.pooling.windowed import (
    avg_pool,
    max_pool,
    max_pool_with_indices,
    max_unpool,
)

GOLDEN = dict(np.load(Path(__file__).parents[2] / "golden" / "ops.npz"))
OPERATORS = {
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "adaptive_avg_pool": adaptive_avg_pool,
    "adaptive_max_pool": adaptive_max_pool,
}
CASES = [
    key.removesuffix(" value")
    for key in GOLDEN
    if key.endswith(" value") and key.split()[0] in OPERATORS
]
TOLERANCE = {"atol": 2e-2, "rtol": 2e-2, "eps": 2e-2}
LECTURE = jnp.array(
    [[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]], jnp.float32
)[None, :, :, None]


def operator(case):
    name, options = case.split()
    options = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in json.loads(options).items()
    }
    return partial(OPERATORS[name], **options)


def distinct(shape, seed=0):
    """Values that lie further apart than a step of numerical differentiation."""
    order = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return jnp.asarray(order.reshape(shape) / 7 - 3, jnp.float32)


def test_golden_arrays_hold_every_operator():
    assert {case.split()[0] for case in CASES} == set(OPERATORS)
    assert len(CASES) == 18 + 36 + 6 + 6


@pytest.mark.quick(20)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_those_of_torch(case):
    @jax.jit
    def value_and_gradient(x, cotangent):
        value, pullback = jax.vjp(operator(case), x)
        return value, *pullback(cotangent)

    cotangent = GOLDEN[f"{case} cotangent"].astype(np.float32)
    value, gradient = value_and_gradient(GOLDEN["input"], cotangent)
    np.testing.assert_allclose(value, GOLDEN[f"{case} value"], atol=1e-5)
    np.testing.assert_allclose(gradient, GOLDEN[f"{case} gradient"], atol=1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if c.startswith("max_pool")])
def test_indices_are_those_of_torch(case):
    pool = operator(case)
    pool = partial(max_pool_with_indices, **pool.keywords)
    value, indices = jax.jit(pool)(jnp.array(GOLDEN["input"]))
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(value, GOLDEN[f"{case} value"])
    np.testing.assert_array_equal(indices, GOLDEN[f"{case} indices"])


@pytest.mark.parametrize("case", CASES[::9])
def test_eager_jit_and_vmap_agree(case):
    pool = operator(case)
    x = jnp.stack([distinct((2, 9, 11, 3), seed) for seed in range(3)])
    eager = jnp.stack([pool(part) for part in x])
    np.testing.assert_allclose(jax.jit(jax.vmap(pool))(x), eager, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(pool)(x[0]), eager[0], rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ceil_mode": True},
        {"window": 3, "stride": 2, "padding": 1},
        {"window": (3, 2), "stride": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("pool", [max_pool, avg_pool], ids=["max", "avg"])
def test_gradient_is_that_of_small_steps(pool, options):
    x = distinct((1, 5, 7, 2))
    check_grads(jax.jit(partial(pool, **options)), (x,), order=1, **TOLERANCE)


@pytest.mark.parametrize("pool", [adaptive_max_pool, adaptive_avg_pool])
def test_gradient_of_adaptive_pooling_is_that_of_small_steps(pool):
    x = distinct((1, 5, 7, 2))
    check_grads(jax.jit(partial(pool, size=(2, 3))), (x,), order=1, **TOLERANCE)


@pytest.mark.parametrize("window", [2, 3], ids=["quarters", "slices"])
def test_gradient_of_equal_values_goes_to_the_first(window):
    x = jnp.zeros((1, 6, 6, 1))
    gradient = jax.grad(lambda x: max_pool(x, window=window).sum())(x)
    expected = np.zeros((6, 6))
    expected[::window, ::window] = 1
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@pytest.mark.parametrize("options", [{}, {"window": 3, "stride": 1, "padding": 1}])
def test_nan_is_the_maximum_and_the_last_one_is_its_place(options):
    x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 1].set(jnp.nan).at[0, 1, 0].set(jnp.nan)
    values, indices = max_pool_with_indices(x, **options)
    assert jnp.isnan(max_pool(x, **options)[0, 0, 0, 0])
    assert jnp.isnan(values[0, 0, 0, 0])
    assert int(indices[0, 0, 0, 0]) == 4
    assert not jnp.isnan(values[0, -1, -1, 0])


def test_window_of_minus_infinity_points_at_a_pixel_not_at_padding():
    x = jnp.full((1, 4, 4, 1), -jnp.inf)
    _, indices = max_pool_with_indices(x, window=3, stride=2, padding=1)
    assert indices[0, :, :, 0].tolist() == [[0, 1], [4, 5]]


@pytest.mark.parametrize("case", CASES[::9])
def test_dtype_is_kept(half, case):
    x = distinct((1, 9, 11, 1)).astype(half)
    pool = jax.jit(operator(case))
    value = pool(x)
    assert value.dtype == half
    wide = pool(x.astype(jnp.float32))
    np.testing.assert_array_equal(value, wide.astype(half))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32])
def test_maxima_of_integers_are_integers(dtype):
    x = jnp.arange(25).reshape(1, 5, 5, 1).astype(dtype)
    value = max_pool(x, window=3, stride=2, padding=1)
    assert value.dtype == dtype
    assert value[0, :, :, 0].tolist() == [[6, 8, 9], [16, 18, 19], [21, 23, 24]]


@pytest.mark.parametrize(
    "sizes",
    [
        [224, 112, 56, 28, 14, 7],
        [321, 161, 81, 41, 21, 11],
        [360, 180, 90, 45, 23, 12],
        [480, 240, 120, 60, 30, 15],
        [500, 250, 125, 63, 32, 16],
        [513, 257, 129, 65, 33, 17],
        [698, 349, 175, 88, 44, 22],
    ],
    ids=lambda sizes: str(sizes[0]),
)
def test_chains_of_ceil_mode_have_the_sizes_of_caffe(sizes):
    x = jax.ShapeDtypeStruct((1, sizes[0], 2, 1), jnp.float32)
    for size in sizes[1:]:
        x = jax.eval_shape(partial(max_pool, ceil_mode=True), x)
        assert x.shape == (1, size, 1, 1)


def test_lecture_example_of_pooling_and_unpooling():
    values, indices = max_pool_with_indices(LECTURE)
    assert values[0, :, :, 0].tolist() == [[5, 6], [7, 8]]
    assert indices[0, :, :, 0].tolist() == [[5, 2], [12, 15]]
    x = jnp.array([[1.0, 2], [3, 4]])[None, :, :, None]
    expected = [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
    for window in (None, 2):
        unpooled = max_unpool(x, indices, size=(4, 4), window=window)
        assert unpooled[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("size", "window"), [((8, 6), 2), ((9, 7), 2), ((9, 6), 3), ((11, 8), 3)]
)
def test_unpooling_by_blocks_is_unpooling_by_scatter(size, window):
    x = distinct((2, *size, 3))
    _, indices = max_pool_with_indices(x, window=window)
    y = distinct(indices.shape, seed=1)
    scatter = partial(max_unpool, indices=indices, size=size)
    blocks = partial(scatter, window=window)
    np.testing.assert_array_equal(scatter(y), blocks(y))
    g = distinct((2, *size, 3), seed=2)
    np.testing.assert_array_equal(*(jax.vjp(f, y)[1](g)[0] for f in (scatter, blocks)))


def test_gradient_of_pooling_is_unpooling():
    x, g = distinct((2, 9, 8, 3)), distinct((2, 4, 4, 3), seed=1)
    _, indices = max_pool_with_indices(x)
    (gradient,) = jax.vjp(max_pool, x)[1](g)
    np.testing.assert_array_equal(gradient, max_unpool(g, indices, size=(9, 8)))


def test_last_of_several_values_stands_and_gets_the_gradient():
    indices = jnp.array([[4, 4], [4, 1]])[None, :, :, None]
    x = jnp.array([[1.0, 2], [3, 4]])[None, :, :, None]
    unpool = partial(max_unpool, indices=indices, size=(3, 3))
    expected = [[0, 4, 0], [0, 3, 0], [0, 0, 0]]
    assert jax.jit(unpool)(x)[0, :, :, 0].tolist() == expected
    gradient = jax.grad(lambda x: unpool(x).sum())(x)
    assert gradient[0, :, :, 0].tolist() == [[0, 0], [1, 1]]


def test_indices_outside_of_the_map_are_left_out():
    indices = jnp.array([-1, 9, 8, 0]).reshape(1, 2, 2, 1)
    result = max_unpool(jnp.ones((1, 2, 2, 1)), indices, size=(3, 3))
    assert result[0, :, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_unpooling_is_the_same_under_vmap_and_linear():
    x = distinct((3, 1, 8, 8, 2))
    values, indices = jax.vmap(max_pool_with_indices)(x)
    unpool = partial(max_unpool, size=(8, 8))
    each = jnp.stack([unpool(*pair) for pair in zip(values, indices, strict=True)])
    np.testing.assert_array_equal(jax.vmap(unpool)(values, indices), each)
    g = distinct((1, 8, 8, 2), seed=1)
    (pulled,) = jax.linear_transpose(lambda y: unpool(y, indices[0]), values[0])(g)
    inner = jnp.vdot(unpool(values[0], indices[0]), g)
    np.testing.assert_allclose(inner, jnp.vdot(values[0], pulled), rtol=1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if "avg" in c][::7])
def test_average_pooling_is_its_matrix_and_the_gradient_the_transpose(case):
    pool = operator(case)
    shape = (1, 9, 11, 1)
    basis = jnp.eye(99).reshape(99, *shape)
    matrix = jax.jit(jax.vmap(pool))(basis).reshape(99, -1).T
    x = distinct(shape)
    value, pullback = jax.vjp(jax.jit(pool), x)
    np.testing.assert_allclose(matrix @ x.ravel(), value.ravel(), atol=1e-4)
    g = distinct(value.shape, seed=1)
    np.testing.assert_allclose(
        matrix.T @ g.ravel(), pullback(g)[0].ravel(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: max_pool(x, window=0), "window is 0; allowed is an integer"),
        (lambda x: max_pool(x, window=1.5), "window is 1.5; allowed is an integer"),
        (lambda x: max_pool(x, stride=(2, 0)), r"stride is \(2, 0\); allowed is"),
        (
            lambda x: max_pool(x, window=3, padding=2),
            "padding is 2; allowed is at most",
        ),
        (lambda x: max_pool(x, window=9), "window is 9, larger than .* at most 4"),
        (lambda x: max_pool(x[0]), r"x has shape \(4, 4, 1\); allowed is"),
        (lambda x: avg_pool(x.astype(int)), "x is of dtype int32; allowed are float"),
        (lambda x: adaptive_avg_pool(x, size=0), "size is 0; allowed is an integer"),
        (lambda x: adaptive_max_pool(x, size=(1, 2, 3)), "size is .* or two"),
        (
            lambda x: max_unpool(x, x, size=(8, 8)),
            r"indices is float32\[1, 4, 4, 1\]; allowed are integers of the shape",
        ),
        (
            lambda x: max_unpool(x, x.astype(int), size=(7, 8), window=2),
            "size has a height of 7 for 4 blocks of window 2; allowed is 8 to 9",
        ),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(jnp.zeros((1, 4, 4, 1)))
