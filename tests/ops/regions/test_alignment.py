"""RoIAlign and RoIPool against loops over bins, samples and cells."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.regions.alignment import pyramid_level, pyramid_roi_align, roi_align
from segjax.ops.regions.pooling import pyramid_roi_pool, roi_pool

SIZE, SCALE = (2, 3), 0.5
RAMP = (6 * np.arange(6.0)[:, None] + np.arange(6.0)).astype(np.float32)[
    None, ..., None
]
EXAMPLES = np.array([[[1, 1, 3, 4], [2, 1, 8, 9]]], np.float32)
"""Two boxes of the worked example, section 18.13 of the facts, (y0, x0, y1, x1)."""


def random_case(seed=0, regions=9):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, 7, 9, 2)).astype(np.float32)
    ends = rng.uniform(-0.3, 1.3, (2, regions, 2, 2)) * [14, 18]
    boxes = np.concatenate([ends.min(2), ends.max(2)], -1).astype(np.float32)
    boxes[0, 0] = 0
    boxes[0, 1] = [5, 5, 2, 9]
    boxes[1, 0] = [-2, -2, -2, 20]
    return features, boxes


def bilinear(plane, y, x):
    """The value of `[h, w, C]` at a place in cells, by torchvision's rules."""
    high, wide = plane.shape[:2]
    if not (-1 <= y <= high and -1 <= x <= wide):
        return np.zeros(plane.shape[2])
    y, x = np.clip(y, 0, high - 1), np.clip(x, 0, wide - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, high - 1), min(left + 1, wide - 1)
    v, u = y - top, x - left
    upper = (1 - u) * plane[top, left] + u * plane[top, right]
    lower = (1 - u) * plane[below, left] + u * plane[below, right]
    return (1 - v) * upper + v * lower


def aligned_by_hand(features, boxes, size, scale, ratio, aligned):
    features, boxes = features.astype(float), boxes.astype(float) * scale
    result = np.zeros((*boxes.shape[:2], *size, features.shape[-1]))
    for b, r in np.ndindex(*boxes.shape[:2]):
        start, extent = boxes[b, r, :2], boxes[b, r, 2:] - boxes[b, r, :2]
        start = start - 0.5 if aligned else start
        bins = (extent if aligned else np.maximum(extent, 1)) / size
        counts = [ratio or max(int(np.ceil(bin_)), 0) for bin_ in bins]
        for i, j in np.ndindex(*size):
            values = [
                bilinear(
                    features[b],
                    start[0] + (i + (v + 0.5) / counts[0]) * bins[0],
                    start[1] + (j + (u + 0.5) / counts[1]) * bins[1],
                )
                for v, u in np.ndindex(*counts)
            ]
            result[b, r, i, j] = np.mean(values, 0) if values else 0
    return result


def pooled_by_hand(features, boxes, size, scale):
    boxes = np.trunc(boxes * scale + np.copysign(0.5, boxes)).astype(int)
    result = np.zeros((*boxes.shape[:2], *size, features.shape[-1]))
    for b, r in np.ndindex(*boxes.shape[:2]):
        spans = []
        for axis in range(2):
            first, last = boxes[b, r, axis], boxes[b, r, 2 + axis]
            bins = max(last - first + 1, 1) / size[axis]
            limit = features.shape[1 + axis]
            spans.append(
                [
                    np.clip(
                        [first + np.floor(i * bins), first + np.ceil((i + 1) * bins)],
                        0,
                        limit,
                    ).astype(int)
                    for i in range(size[axis])
                ]
            )
        for i, j in np.ndindex(*size):
            part = features[b, slice(*spans[0][i]), slice(*spans[1][j])]
            if part.size:
                result[b, r, i, j] = part.max((0, 1))
    return result


METHODS = {
    "aligned": partial(roi_align, sampling_ratio=2),
    "aligned, adaptive": partial(roi_align, sampling_ratio=0),
    "unaligned, three samples": partial(roi_align, sampling_ratio=3, aligned=False),
    "pooled": roi_pool,
}
BY_HAND = {
    "aligned": partial(aligned_by_hand, ratio=2, aligned=True),
    "aligned, adaptive": partial(aligned_by_hand, ratio=0, aligned=True),
    "unaligned, three samples": partial(aligned_by_hand, ratio=3, aligned=False),
    "pooled": pooled_by_hand,
}


@pytest.fixture(scope="module", name="results", params=METHODS)
def fixture_results(request):
    """Name, value and gradient along a random cotangent, compiled once for all tests."""
    features, boxes = random_case()
    method = partial(METHODS[request.param], size=SIZE, scale=SCALE)
    cotangent = np.random.default_rng(5).normal(size=(2, 9, *SIZE, 2))

    @jax.jit
    def both(features, boxes, cotangent):
        value, pullback = jax.vjp(method, features, boxes)
        return value, *pullback(cotangent)

    cotangent = cotangent.astype(np.float32)
    return request.param, cotangent, *both(features, boxes, cotangent)


def test_bins_are_those_of_the_definition(results):
    name, _, value, _, _ = results
    expected = BY_HAND[name](*random_case(), SIZE, SCALE)
    np.testing.assert_allclose(value, expected, atol=2e-5)
    assert np.abs(expected).max() > 0.5


def test_the_gradient_is_the_transpose_of_the_definition(results):
    """Bins are linear in the map, or pick one cell: the change is the gradient's."""
    name, cotangent, _, gradient, by_boxes = results
    features, boxes = random_case()
    step = 1e-4 * np.random.default_rng(6).normal(size=features.shape)
    high, low = (
        BY_HAND[name](features.astype(float) + s, boxes, SIZE, SCALE)
        for s in (step, -step)
    )
    slope = ((high - low) / 2 * cotangent).sum()
    assert (gradient * step).sum() == pytest.approx(slope, rel=1e-3)
    assert not by_boxes.any()


@pytest.mark.parametrize("name", ["aligned, adaptive", "pooled"])
def test_eager_jitted_and_mapped_are_one(name):
    features, boxes = random_case(1)
    method = partial(METHODS[name], size=SIZE, scale=SCALE)
    expected = jax.jit(method)(features, boxes)
    eager = method(jnp.asarray(features), jnp.asarray(boxes))
    np.testing.assert_allclose(eager, expected, atol=1e-6)
    mapped = jax.jit(jax.vmap(method))(features[:, None], boxes[:, None])
    np.testing.assert_allclose(mapped[:, 0], expected, atol=1e-6)
    total = lambda features, boxes: (method(features, boxes) ** 2).sum()
    whole = jax.jit(jax.grad(total))(features, boxes)
    each = jax.jit(jax.vmap(jax.grad(total)))(features[:, None], boxes[:, None])
    np.testing.assert_allclose(each[:, 0], whole, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "scale", "box", "expected"),
    [
        (roi_pool, 1, 0, [14, 16, 20, 22]),
        (roi_pool, 0.5, 1, [15, 17, 27, 29]),
        (partial(roi_align, aligned=False), 1, 0, [10.75, 12.25, 16.75, 18.25]),
        (partial(roi_align, aligned=False), 0.5, 1, [12, 14, 21, 23]),
        (roi_align, 1, 0, [7.25, 8.75, 13.25, 14.75]),
        (roi_align, 0.5, 1, [8.5, 10.5, 17.5, 19.5]),
    ],
)
def test_bins_of_the_worked_example(method, scale, box, expected):
    found = jax.jit(partial(method, size=2, scale=scale))(RAMP, EXAMPLES[:, [box]])
    assert found.ravel().tolist() == pytest.approx(expected)


def test_more_regions_than_one_chunk_are_each_their_own():
    features, _ = random_case()
    rng = np.random.default_rng(2)
    boxes = rng.uniform(0, 12, (2, 67, 4)).astype(np.float32)
    boxes[..., 2:] = boxes[..., :2] + 1 + boxes[..., 2:] / 2
    method = jax.jit(partial(roi_align, size=SIZE, scale=SCALE))
    found = method(features, boxes)
    order = rng.permutation(67)
    np.testing.assert_array_equal(method(features, boxes[:, order]), found[:, order])
    expected = aligned_by_hand(features, boxes[:, 60:], SIZE, SCALE, 2, True)
    np.testing.assert_allclose(found[:, 60:], expected, atol=1e-5)


def test_no_region_at_all_is_an_empty_answer_with_a_gradient_of_zero():
    features, boxes = random_case()
    for method in (roi_align, roi_pool):
        of = partial(method, boxes=boxes[:, :0], size=SIZE, scale=SCALE)
        value, gradient = jax.jit(jax.value_and_grad(lambda x, f=of: f(x).sum()))(
            features
        )
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("method", ["align", "adaptive", "pool"])
def test_many_regions_add_up_in_half_precision_as_well(method):
    """2,000 equal boxes: bfloat16 has no numbers above 256 that one could add 1 to."""
    apply = {
        "align": partial(roi_align, size=1, scale=1),
        "adaptive": partial(roi_align, size=1, scale=1, sampling_ratio=0),
        "pool": partial(roi_pool, size=1, scale=1),
    }[method]
    boxes = jnp.broadcast_to(jnp.array([1.0, 1, 3, 3]), (1, 2000, 4))
    gradients = {
        dtype: jax.grad(lambda x: apply(x, boxes).astype(jnp.float32).sum())(
            jnp.asarray(RAMP, dtype)
        ).astype(jnp.float32)
        for dtype in ("float32", "bfloat16")
    }
    np.testing.assert_allclose(gradients["bfloat16"].sum(), 2000, rtol=0.01)
    np.testing.assert_allclose(
        gradients["bfloat16"], gradients["float32"], rtol=0.01, atol=1
    )


def test_devices_that_share_a_batch_need_not_talk_about_regions():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    shapes = (jnp.zeros((4, 8, 8, 2)), jnp.zeros((4, 9, 4)))
    arguments = [jax.device_put(x, sharding) for x in shapes]

    def loss(features, boxes):
        return (roi_align(features, boxes, size=2, scale=0.5) ** 2).sum()

    step = jax.jit(jax.grad(loss), out_shardings=sharding)
    text = step.lower(*arguments).compile().as_text()
    for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert f" {name}" not in text, name


def test_levels_are_those_of_the_table():
    sides = np.array([32, 56, 111, 112, 223, 224, 447, 448, 896], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], 1)
    found = np.asarray(jax.jit(partial(pyramid_level, count=4))(boxes))
    assert (found + 2).tolist() == [2, 2, 2, 3, 3, 4, 4, 5, 5]
    strip = jnp.array([[0.0, 0.0, 112.0, 448.0], [3.0, 3.0, 3.0, 3.0]])
    assert pyramid_level(strip, count=4).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("of_pyramid", "of_map"),
    [(pyramid_roi_align, roi_align), (pyramid_roi_pool, roi_pool)],
)
def test_a_region_of_a_pyramid_is_that_of_its_level(of_pyramid, of_map):
    rng = np.random.default_rng(0)
    maps = [
        rng.normal(size=(2, 32 // s, 48 // s, 2)).astype(np.float32) for s in (2, 4)
    ]
    boxes = np.array([[0, 0, 7, 9], [3, 2, 30, 40], [1, 1, 17, 17], [9, 9, 9, 9]])
    boxes = np.stack([boxes, boxes + 2]).astype(np.float32)
    choice = {"canonical_size": 16, "canonical_level": 3}
    levels = np.asarray(jax.jit(partial(pyramid_level, count=2, **choice))(boxes))
    assert set(levels.ravel()) == {0, 1}

    @jax.jit
    def both(maps, boxes):
        whole = of_pyramid(maps, boxes, size=3, strides=(2, 4), **choice)
        alone = [
            of_map(x, boxes, size=3, scale=1 / s)
            for x, s in zip(maps, (2, 4), strict=True)
        ]
        return whole, jnp.stack(alone)

    found, alone = both(maps, boxes)
    expected = np.where(levels[..., None, None, None] == 0, alone[0], alone[1])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_samples_are_never_all_in_memory():
    """The corners of all regions at once would take 16 times the result."""
    features = jax.ShapeDtypeStruct((1, 50, 68, 32), np.float32)
    boxes = jax.ShapeDtypeStruct((1, 1000, 4), np.float32)
    forward = partial(roi_align, size=7, scale=0.25)
    gradient = jax.grad(lambda x, boxes: (forward(x, boxes) ** 2).sum())
    result = 1000 * 49 * 32 * 4
    for function, most in ((forward, 1.5), (gradient, 4)):
        memory = jax.jit(function).lower(features, boxes).compile().memory_analysis()
        assert memory.temp_size_in_bytes < most * result


MAP, BOXES = jnp.zeros((2, 4, 4, 3)), jnp.zeros((2, 5, 4))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"features": MAP[0]}, r"features has shape \(4, 4, 3\)"),
        ({"features": MAP.astype(int)}, "allowed are floating-point dtypes"),
        ({"boxes": BOXES[:1]}, r"boxes is \(1, 5, 4\); allowed is \[B, R, 4\], B 2"),
        ({"size": 0}, "size is 0"),
        ({"scale": -1}, "scales are"),
        ({"sampling_ratio": 1.5}, "sampling_ratio is 1.5; allowed are integers"),
    ],
)
def test_what_does_not_fit_is_refused(changed, sentence):
    arguments = {"features": MAP, "boxes": BOXES, "size": 2, "scale": 1.0} | changed
    with pytest.raises(ValueError, match=sentence):
        roi_align(**arguments)
    if "sampling_ratio" not in changed:
        with pytest.raises(ValueError, match=sentence):
            roi_pool(**arguments)


def test_levels_and_strides_must_be_as_many():
    with pytest.raises(ValueError, match="features are 2 maps with 1 strides"):
        pyramid_roi_align([MAP, MAP], BOXES, size=2, strides=(4,))
    with pytest.raises(ValueError, match="allowed are maps of one batch"):
        pyramid_roi_align([MAP, MAP[..., :2]], BOXES, size=2, strides=(4, 8))
