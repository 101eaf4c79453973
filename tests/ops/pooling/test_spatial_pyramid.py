"""Spatial pyramid pooling: its four rules, against loops, PyTorch and differences."""

import functools
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.pooling.spatial_pyramid import (
    MODES,
    caffe_order,
    spatial_pyramid_pool,
    spp_bins,
)
from segjax.ops.pooling.windowed import max_pool

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 13, 13, 3)).astype(np.float32)
OBLONG = RNG.normal(size=(2, 9, 7, 3)).astype(np.float32)


def by_loop(x, levels, mode):
    _, height, width, _ = x.shape
    vectors = []
    for image in x:
        parts = []
        for level in levels:
            for top, bottom in spp_bins(height, level, mode=mode):
                for left, right in spp_bins(width, level, mode=mode):
                    parts.append(image[top:bottom, left:right].max((0, 1)))
        vectors.append(np.concatenate(parts))
    return np.stack(vectors)


def covered(bins, side):
    return sorted({i for start, stop in bins for i in range(start, stop)}) == list(
        range(side)
    )


@pytest.mark.parametrize(
    ("level", "bins"),
    [
        (6, [(0, 3), (2, 5), (4, 7), (6, 9), (8, 11), (10, 13)]),
        (3, [(0, 5), (4, 9), (8, 13)]),
        (2, [(0, 7), (7, 13)]),
        (1, [(0, 13)]),
    ],
)
def test_released_bins_are_the_windows_of_the_prototxt(level, bins):
    assert list(spp_bins(13, level, mode="released")) == bins
    if level != 2:
        assert spp_bins(13, level) == spp_bins(13, level, mode="released")
        assert spp_bins(13, level) == spp_bins(13, level, mode="paper")


def test_the_second_of_two_bins_of_13_is_where_three_rules_differ():
    second = {mode: spp_bins(13, 2, mode=mode)[1] for mode in MODES}
    assert second == {
        "adaptive": (6, 13),
        "paper": (6, 13),
        "released": (7, 13),
        "caffe": (6, 13),
    }
    first = {mode: spp_bins(13, 2, mode=mode)[0] for mode in MODES}
    assert first["caffe"] == (0, 6)
    assert {first[mode] for mode in ("adaptive", "paper", "released")} == {(0, 7)}


@pytest.mark.parametrize("level", [1, 2, 3, 4, 6, 7])
def test_adaptive_bins_cover_maps_of_every_size(level):
    for side in range(1, 41):
        bins = spp_bins(side, level)
        assert len(bins) == level
        assert covered(bins, side)
        assert all(start < stop for start, stop in bins)


def test_the_papers_bins_leave_out_what_the_division_leaves_over():
    for level in (1, 2, 3, 4, 6):
        for side in range(level, 41):
            bins = spp_bins(side, level, mode="paper")
            sizes = {stop - start for start, stop in bins}
            assert sizes == {-(-side // level)}
            assert bins[-1][1] == side - max(side % level - 1, 0)
    assert spp_bins(10, 6, mode="paper")[-1] == (5, 7)


def test_caffes_bins_are_tiles_that_cover_the_map():
    assert spp_bins(13, 4, mode="caffe") == ((0, 2), (2, 6), (6, 10), (10, 13))
    for level in (1, 2, 4, 8):
        for side in range(25, 41):
            if (side, level) == (25, 8):
                continue
            bins = spp_bins(side, level, mode="caffe")
            assert bins[0][0] == 0
            assert bins[-1][1] == side
            assert all(a[1] == b[0] for a, b in pairwise(bins))
            assert all(start < stop for start, stop in bins)


@pytest.mark.parametrize(
    ("x", "levels", "mode"),
    [
        (X, (6, 3, 2, 1), "adaptive"),
        (X, (6, 3, 2, 1), "paper"),
        (X, (1, 2, 3, 6), "released"),
        (X, (1, 2, 4), "caffe"),
        (OBLONG, (4, 3, 2, 1), "adaptive"),
        (OBLONG, (4, 3, 2, 1), "paper"),
        (OBLONG, (1, 2, 4), "caffe"),
        (OBLONG[:, :2], (3, 1), "adaptive"),
    ],
)
def test_every_bin_is_the_maximum_of_its_pixels(x, levels, mode):
    expected = by_loop(x, levels, mode)
    pool = functools.partial(spatial_pyramid_pool, levels=levels, mode=mode)
    np.testing.assert_array_equal(jax.jit(pool)(x), expected)
    assert expected.shape == (2, 3 * sum(n * n for n in levels))


def test_jit_and_vmap_change_nothing():
    x = OBLONG[:, :3, :3]
    pool = functools.partial(spatial_pyramid_pool, levels=(2, 1))
    expected = by_loop(x, (2, 1), "adaptive")
    np.testing.assert_array_equal(pool(x), expected)
    mapped = jax.jit(jax.vmap(pool))(x[:, None])
    np.testing.assert_array_equal(mapped[:, 0], expected)


def test_released_pooling_is_that_of_caffes_four_layers():
    layers = {1: (13, 13), 2: (7, 7), 3: (5, 4), 6: (3, 2)}

    @jax.jit
    def both(x):
        pooled = [
            max_pool(x, window=window, stride=stride, ceil_mode=True).reshape(2, -1)
            for window, stride in layers.values()
        ]
        found = spatial_pyramid_pool(x, levels=tuple(layers), mode="released")
        return found, jnp.concatenate(pooled, 1)

    found, expected = both(X)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("side", [13, 10, 4])
def test_maps_of_every_size_give_vectors_of_one_length(side):
    x = jax.ShapeDtypeStruct((1, side, side + 1, 256), jnp.float32)
    assert jax.eval_shape(spatial_pyramid_pool, x).shape == (1, 50 * 256)
    fewer = functools.partial(spatial_pyramid_pool, levels=(4, 3, 2, 1))
    assert jax.eval_shape(fewer, x).shape == (1, 30 * 256)


def test_caffes_order_finds_every_entry_in_caffes_vector():
    levels, channels = (1, 2, 3), 3
    caffe = np.concatenate(
        [
            by_loop(OBLONG, (n,), "adaptive").reshape(2, n * n, channels)
            .transpose(0, 2, 1).reshape(2, -1)
            for n in levels
        ],
        1,
    )  # fmt: skip
    ours = by_loop(OBLONG, levels, "adaptive")
    order = caffe_order(levels, channels)
    np.testing.assert_array_equal(ours, caffe[:, order])
    weights = RNG.normal(size=(order.size, 4)).astype(np.float32)
    np.testing.assert_allclose(ours @ weights[order], caffe @ weights, rtol=1e-5)


def test_the_gradient_is_that_of_differences():
    pool = functools.partial(spatial_pyramid_pool, levels=(3, 2), mode="adaptive")
    direction = RNG.normal(size=(2, 39)).astype(np.float32)
    total = lambda x: (pool(x) * direction).sum()
    gradient = np.asarray(jax.jit(jax.grad(total))(OBLONG))
    step = 1e-3 * RNG.normal(size=OBLONG.shape).astype(np.float32)
    loops = [
        (
            by_loop(np.float64(OBLONG) + sign * step, (3, 2), "adaptive") * direction
        ).sum()
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(
        (gradient * step).sum(), (loops[0] - loops[1]) / 2, rtol=1e-3
    )


def test_of_equal_maxima_the_first_gets_the_gradient():
    total = lambda x: spatial_pyramid_pool(x, levels=(2,)).sum()
    gradient = jax.jit(jax.grad(total))(jnp.zeros((1, 3, 3, 1)))
    assert gradient[0, :, :, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_dtypes_stay():
    for dtype in (jnp.bfloat16, jnp.int32):
        x = jnp.arange(16).astype(dtype).reshape(1, 4, 4, 1)
        for mode in ("adaptive", "caffe"):
            pool = functools.partial(spatial_pyramid_pool, levels=(2,), mode=mode)
            pooled = jax.jit(pool)(x)
            assert pooled.dtype == dtype
            assert pooled.tolist() == [[5, 7, 13, 15]]


@pytest.mark.parametrize(
    ("side", "level", "mode", "sentence"),
    [
        (13, 2, "floor", "mode is 'floor'; allowed is one of adaptive, paper"),
        (0, 2, "adaptive", "side is 0"),
        (13, 0, "adaptive", "level is 0"),
        (13, 2.0, "adaptive", r"level is 2\.0"),
        (10, 2, "released", "level is 2 on a side of 10.*for a side of 13"),
        (13, 4, "released", "the levels 1, 2, 3 and 6"),
        (5, 6, "paper", "level is 6 on a side of 5"),
        (5, 4, "caffe", "would pad by 2, and Caffe refuses as much as a window, 2"),
    ],
)
def test_what_a_rule_has_no_bins_for_is_refused(side, level, mode, sentence):
    with pytest.raises(ValueError, match=sentence):
        spp_bins(side, level, mode=mode)


def test_what_is_no_map_and_no_level_is_refused():
    with pytest.raises(ValueError, match=r"x has shape \(3, 4, 5\)"):
        spatial_pyramid_pool(jnp.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match="levels is empty"):
        spatial_pyramid_pool(X, levels=())
    with pytest.raises(ValueError, match="level is 0"):
        spatial_pyramid_pool(X, levels=(2, 0))
    with pytest.raises(ValueError, match="channels is 0"):
        caffe_order((2, 1), 0)


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(13, 13), (10, 7), (4, 5)])
def test_adaptive_pooling_is_that_of_pytorch(shape):
    torch = pytest.importorskip("torch")
    x = RNG.normal(size=(2, 3, *shape)).astype(np.float32)
    parts = []
    for level in (6, 3, 2, 1):
        pooled = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(x), level)
        parts.append(pooled.permute(0, 2, 3, 1).reshape(2, -1).numpy())
    found = jax.jit(spatial_pyramid_pool)(x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found, np.concatenate(parts, 1))


@pytest.mark.parity
@pytest.mark.parametrize("side", [13, 14, 15])
def test_the_papers_pooling_is_the_first_windows_of_pytorchs(side):
    torch = pytest.importorskip("torch")
    x = RNG.normal(size=(1, 2, side, side)).astype(np.float32)
    parts = []
    for n in (6, 3, 2, 1):
        window, stride = -(-side // n), side // n
        pooled = torch.nn.functional.max_pool2d(torch.from_numpy(x), window, stride)
        parts.append(pooled[:, :, :n, :n].permute(0, 2, 3, 1).reshape(1, -1).numpy())
    pool = jax.jit(functools.partial(spatial_pyramid_pool, mode="paper"))
    found = pool(x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found, np.concatenate(parts, 1))
