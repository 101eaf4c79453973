"""The whole CRF beside float64, its invariances, its gradients, bad input."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.crf import dense, permutohedral
from segjax.ops.crf.dense import (
    choose_method,
    crf_capacity,
    dense_crf,
    logits_from_labels,
    logits_from_probabilities,
)
from segjax.ops.crf.features import appearance_features
from segjax.ops.crf.filters import crf_filters
from segjax.ops.crf.gaussian import ExactFilter
from segjax.ops.crf.inference import NORMALIZATIONS, make_kernel, mean_field
from segjax.ops.crf.permutohedral import CapacityError, LatticeSize
from segjax.types import IGNORE_LABEL

SIZE = (10, 12)
PIXELS = SIZE[0] * SIZE[1]
OPTIONS = {
    "sigma_alpha": 5.0,
    "sigma_beta": 30.0,
    "sigma_gamma": 2.0,
    "w1": 3.0,
    "w2": 2.0,
}
METHODS = ["exact", "lattice", "lattice_separable", "window"]
SOME_METHODS = [
    *METHODS[:2],
    *(pytest.param(method, marks=pytest.mark.slow) for method in METHODS[2:]),
]
CAPACITY = LatticeSize(512, 4096)
"""Room for the lattice of any grey image that is sampled here."""


def random_case(seed: int = 0, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """An image of two halves with noise, and logits that know little of them."""
    generator = np.random.default_rng(seed)
    image = generator.normal(60, 20, (*SIZE, 3))
    image[:, 6:] += 100
    logits = generator.normal(size=(*SIZE, labels))
    logits[:, 6:, 0] += 0.7
    return image.clip(0, 255).astype(np.float32), logits.astype(np.float32)


IMAGE, LOGITS = random_case()


def picture(method: str, image: np.ndarray = IMAGE) -> np.ndarray:
    """The image, grey for the lattices, whose programs then compile sooner."""
    return image[..., :1] if method.startswith("lattice") else image


@functools.cache
def refine(method="exact", num_iterations=5, capacity=CAPACITY, **options):
    """`dense_crf` under `jit`, one program for all tests that want the same."""
    fixed = {**OPTIONS, "num_iterations": num_iterations, "capacity": capacity}
    return jax.jit(functools.partial(dense_crf, **{**fixed, **options}, method=method))


def marginals_in_float64(normalization, compatibility, iterations) -> np.ndarray:
    """Mean field with matrices of all pairs."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].reshape(2, -1).astype(np.float64)
    position = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    colors = IMAGE.reshape(-1, 3).astype(np.float64)
    color = np.square(colors[:, None] - colors).sum(-1)
    kernels = []
    for weight, matrix in (
        (3.0, np.exp(-position / 2 / 5.0**2 - color / 2 / 30.0**2)),
        (2.0, np.exp(-position / 2 / 2.0**2)),
    ):
        sums = matrix.sum(1)
        scaled = {
            "none": matrix,
            "before": matrix / sums,
            "after": matrix / sums[:, None],
            "symmetric": matrix / np.sqrt(sums * sums[:, None]),
        }[normalization]
        kernels.append(weight * scaled)
    current = unary = LOGITS.reshape(PIXELS, -1).astype(np.float64)
    for _ in range(iterations):
        q = np.exp(current - current.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        current = unary - sum(k @ q for k in kernels) @ compatibility
    q = np.exp(current - current.max(1, keepdims=True))
    return (q / q.sum(1, keepdims=True)).reshape(LOGITS.shape)


FULL = np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 0.6], [0.3, 0.6, -0.2]])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_marginals_after_ten_steps_are_those_of_float64(normalization) -> None:
    found = refine(normalization=normalization, num_iterations=10)(IMAGE, LOGITS)
    expected = marginals_in_float64(normalization, -np.eye(3), 10)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("compatibility", "matrix"),
    [
        (FULL, FULL),
        (np.triu(2 * FULL) - np.diag(np.diag(FULL)), FULL),
        (np.array([-1.0, -0.5, 0.2]), np.diag([-1.0, -0.5, 0.2])),
    ],
    ids=["matrix", "its symmetric part", "diagonal"],
)
def test_compatibilities_are_those_of_float64(compatibility, matrix) -> None:
    found = refine(num_iterations=10)(IMAGE, LOGITS, compatibility=compatibility)
    expected = marginals_in_float64("symmetric", matrix, 10)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_potts_is_the_matrix_with_ones_off_its_diagonal() -> None:
    run = refine(normalization="after", num_iterations=10)
    found = run(IMAGE, LOGITS, compatibility=1 - np.eye(3))
    potts = run(IMAGE, LOGITS)
    np.testing.assert_allclose(found, potts, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_marginals_are_probabilities_that_know_their_labels(method) -> None:
    run = functools.partial(refine(method), picture(method))
    found = np.asarray(run(LOGITS))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    shifted = run(LOGITS + 7)
    np.testing.assert_allclose(shifted, found, atol=2e-5)
    order = [2, 0, 1]
    permuted = run(LOGITS[..., order])
    np.testing.assert_allclose(permuted, found[..., order], atol=1e-5)


def test_without_weights_the_softmax_is_left_alone() -> None:
    found = refine(num_iterations=10)(IMAGE, LOGITS, w1=0.0, w2=0.0)
    np.testing.assert_allclose(found, jax.nn.softmax(LOGITS), atol=1e-6)


@pytest.mark.parametrize("method", SOME_METHODS)
def test_jit_eager_and_a_batch_of_four_are_equal(method) -> None:
    pairs = [random_case(seed) for seed in range(4)]
    pairs = [(picture(method, image), logits) for image, logits in pairs]
    images, logits = (jnp.stack(arrays) for arrays in zip(*pairs, strict=True))
    options = {**OPTIONS, "num_iterations": 3, "method": method, "capacity": CAPACITY}
    eager = np.stack([dense_crf(*pair, **options) for pair in pairs])
    programs = dense.refine._cache_size()
    batched = dense_crf(images, logits, **options)
    assert dense.refine._cache_size() == programs
    run = functools.partial(dense_crf, **options)
    # In float32 another program sums in another order, which three steps amplify: up to
    # 1.5e-5 was seen, a third of what is allowed.
    mapped = jax.jit(jax.vmap(run))(images, logits)
    for found in (batched, jax.jit(run)(images, logits), mapped):
        np.testing.assert_allclose(found, eager, atol=5e-5)


def test_images_of_one_size_share_few_programs() -> None:
    options = {**OPTIONS, "num_iterations": 5, "method": "lattice"}
    counts, programs = set(), dense.refine._cache_size()
    for seed in range(4):
        image, logits = random_case(seed)
        image = jnp.asarray(picture("lattice", image))
        counts.add(crf_capacity(image, sigma_alpha=5.0, sigma_beta=30.0).vertices)
        found = dense_crf(image, logits, **options)
        expected = refine("lattice")(image, logits)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    rooms = {permutohedral.rounded_capacity(count) for count in counts}
    assert len(rooms) < len(counts)
    assert dense.refine._cache_size() <= programs + len(rooms)


@pytest.mark.parametrize("method", METHODS)
def test_a_transform_of_features_stands_for_other_widths(method) -> None:
    """`DIAG_KERNEL` and `FULL_KERNEL` of pydensecrf."""
    image = jnp.asarray(picture(method))
    options = {**OPTIONS, "num_iterations": 3, "method": method}
    expected = dense_crf(image, LOGITS, **options)
    wider = options | {"sigma_alpha": 10.0, "sigma_beta": 15.0}
    scale = jnp.array([2.0, 2.0] + [0.5] * image.shape[-1])
    for transform in (scale, jnp.diag(scale)):
        found = dense_crf(image, LOGITS, transform=transform, **wider)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    other = dense_crf(image, LOGITS, transform=jnp.array(3.0), **options)
    assert np.abs(other - expected).max() > 1e-3
    if method == "lattice":
        widths = {key: wider[key] for key in ("sigma_alpha", "sigma_beta")}
        needed = crf_capacity(image, **widths, transform=scale)
        assert needed == crf_capacity(image, sigma_alpha=5.0, sigma_beta=30.0)
    with pytest.raises(ValueError, match="scale has the shape"):
        dense_crf(image, LOGITS, transform=jnp.ones(2), **options)


def test_a_turned_kernel_is_that_of_its_covariance() -> None:
    """`FULL_KERNEL` with axes that belong together, beside the pairs in float64."""
    size, angle = (6, 7), 0.5
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    transform = np.eye(3)
    transform[:2, :2] = np.diag([2.0, 0.5]) @ turn
    image, logits = (jnp.asarray(a[: size[0], : size[1]]) for a in random_case())
    grey = image[..., :1]
    appearance, _ = crf_filters(
        grey, 3.0, 40.0, 1.0, method="exact", transform=jnp.asarray(transform)
    )
    y, x = np.mgrid[: size[0], : size[1]].reshape(2, -1)
    raw = np.stack([x, y, np.asarray(grey, np.float64).ravel()])
    raw = raw / np.array([[3.0], [3.0], [40.0]])
    apart = raw[:, :, None] - raw[:, None]
    distance = np.einsum("inm,ij,jnm->nm", apart, transform.T @ transform, apart)
    values = logits.reshape(-1, 3)
    np.testing.assert_allclose(
        appearance(values), np.exp(-distance / 2) @ values, rtol=2e-5, atol=1e-5
    )


def test_a_known_smoothness_needs_no_room_for_the_worst_case_under_jit() -> None:
    sizes = []

    @jax.jit
    def build(image):
        filters = crf_filters(image, 5.0, 30.0, 3.0, method="lattice")
        sizes.append([filter.max_vertices for filter in filters])
        return filters[1](jnp.ones((image.shape[0] * image.shape[1], 1)))

    image = jnp.asarray(picture("lattice"))
    pixels = image.shape[0] * image.shape[1]
    found = build(image)
    (worst, known), *_ = sizes
    assert worst == pixels * (2 + image.shape[2] + 1)
    assert known < pixels
    _, eager = crf_filters(image, 5.0, 30.0, 3.0, method="lattice")
    np.testing.assert_allclose(found, eager(jnp.ones((pixels, 1))), rtol=1e-5)


def test_lattice_capacity_may_be_just_enough_and_may_be_too_small() -> None:
    image = picture("lattice")
    capacity = crf_capacity(jnp.asarray(image), sigma_alpha=5.0, sigma_beta=30.0)
    expected = refine("lattice")(image, LOGITS)
    found = refine("lattice", capacity=capacity)(image, LOGITS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    small = capacity._replace(vertices=capacity.vertices - 1)
    assert np.isnan(refine("lattice", capacity=small)(image, LOGITS)).all()
    options = {**OPTIONS, "num_iterations": 1, "method": "lattice", "capacity": small}
    with pytest.raises(CapacityError, match=f"capacity.*needs {capacity.vertices}; "):
        dense_crf(image, LOGITS, **options)


@pytest.mark.slow
@pytest.mark.parametrize("method", SOME_METHODS)
def test_gradients_by_finite_differences(method) -> None:
    generator = np.random.default_rng(5)
    probe = jnp.asarray(generator.normal(size=LOGITS.shape), jnp.float32)
    inputs = {
        "logits": jnp.asarray(LOGITS),
        "w1": jnp.array(3.0),
        "w2": jnp.array(2.0),
        "compatibility": jnp.asarray(FULL, jnp.float32),
    }
    fixed = {k: v for k, v in OPTIONS.items() if k not in inputs}
    fixed |= {"num_iterations": 2, "method": method, "capacity": CAPACITY}
    if method == "exact":
        widths = [name for name in OPTIONS if name.startswith("sigma")]
        inputs |= {name: jnp.array(fixed.pop(name)) for name in widths}

    @jax.jit
    @jax.value_and_grad
    def loss(inputs):
        return jnp.vdot(dense_crf(picture(method), **inputs, **fixed), probe)

    _, gradient = loss(inputs)
    for name, x in inputs.items():
        direction = generator.normal(size=x.shape) if x.ndim else np.ones(())
        step = 1e-2 * jnp.asarray(direction, jnp.float32)
        up, down = (loss(inputs | {name: x + s})[0] for s in (step, -step))
        found = 2 * float(jnp.vdot(gradient[name], step))
        np.testing.assert_allclose(found, float(up - down), rtol=0.02, atol=2e-5)


def test_free_energy_falls_and_is_that_of_the_definition() -> None:
    features = appearance_features(jnp.asarray(IMAGE), 5.0, 30.0)
    kernel = make_kernel(ExactFilter(features), num_pixels=PIXELS, compatibility=5.0)
    logits = jnp.asarray(LOGITS).reshape(PIXELS, 3)
    found = mean_field(logits, [kernel], num_iterations=6, trace=True)
    total = np.asarray(found.trace.total)
    assert total.shape == (7,)
    assert (np.diff(total) <= 1e-3).all()
    assert total[-1] < total[0] - 1
    q = np.asarray(found.marginals, np.float64)
    np.testing.assert_allclose(
        found.trace.entropy[-1], (q * np.log(q)).sum(), rtol=1e-5
    )
    np.testing.assert_allclose(found.trace.unary[-1], -(q * logits).sum(), rtol=1e-5)
    message = np.asarray(kernel.filter(jnp.asarray(q, jnp.float32)))
    expected = -0.5 * 5.0 * (q * message).sum()
    np.testing.assert_allclose(found.trace.pairwise[-1], expected, rtol=1e-5)


def test_default_is_chosen_by_size_and_backend() -> None:
    assert choose_method(5_000, "cpu") == "exact"
    assert choose_method(5_001, "cpu") == "lattice"
    assert choose_method(32_768, "gpu") == "exact"
    assert choose_method(32_769, "tpu") == "lattice_separable"


@pytest.mark.parametrize(
    ("size", "method"), [((1, 2), "exact"), ((7, 1), "exact"), ((1, 9), "lattice")]
)
def test_narrow_and_grey_images(size, method) -> None:
    image = jnp.full((*size, 1), 9.0)
    logits = jnp.zeros((*size, 2)).at[..., 1].set(1.0)
    found = refine(method, num_iterations=1)(image, logits)
    assert (np.asarray(found.argmax(-1)) == 1).all()


def test_logits_of_labels_and_of_probabilities() -> None:
    labels = jnp.array([[0, 2, IGNORE_LABEL]])
    logits = logits_from_labels(labels, 3, certainty=0.7)
    expected = [[[0.7, 0.15, 0.15], [0.15, 0.15, 0.7], [1 / 3, 1 / 3, 1 / 3]]]
    np.testing.assert_allclose(np.exp(logits), expected, rtol=1e-6)
    np.testing.assert_allclose(
        logits_from_probabilities(jnp.array([0.25, 0.75, 0.0])),
        np.log([0.25, 0.75, 1e-5]),
        rtol=1e-6,
    )


def changed(**options):
    return {"image": IMAGE, "logits": LOGITS, "num_iterations": 1, **OPTIONS, **options}


WITH_NAN = np.where(np.arange(3) == 1, np.nan, LOGITS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logits": WITH_NAN}, "logits has 120 values that are NaN or infinite"),
        ({"image": IMAGE[:-1]}, "allowed are the same height, width and batch"),
        (
            {"image": IMAGE / 255},
            r"maximum of 0\.\d+, as images in 0\.\.1 have; .* 255$",
        ),
        ({"image": IMAGE[..., 0]}, r"allowed are \[H, W, C\] and \[H, W, K\]"),
        ({"sigma_alpha": -1.0}, r"sigma_alpha is -1\.0; allowed is above 1e-06"),
        ({"sigma_beta": 0.0}, r"sigma_beta is 0\.0; allowed is above 1e-06"),
        ({"sigma_gamma": (1.0,) * 3}, r"sigma_gamma has the shape \[3\]; allowed"),
        ({"w1": np.inf}, "w1 is inf; allowed are finite numbers"),
        ({"logits": LOGITS[..., :1]}, "logits has 1 label; allowed are 2 or more"),
        ({"image": IMAGE[:1, :1], "logits": LOGITS[:1, :1]}, "2 pixels or more"),
        ({"method": "grid"}, "method is 'grid'; allowed are 'auto', 'exact'"),
        ({"normalization": "row"}, "normalization is 'row'; allowed are 'none'"),
        ({"output": "labels"}, "output is 'labels'; allowed are 'marginals'"),
        ({"num_iterations": -1}, "num_iterations is -1; allowed is 0 or more"),
        ({"compatibility": np.eye(2)}, r"compatibility has the shape \[2, 2\]"),
        ({"method": "window", "radius": 0}, "radius is 0; allowed is 1 or more"),
    ],
)
def test_bad_input_is_one_sentence(options, message) -> None:
    with pytest.raises(ValueError, match=message) as error:
        dense_crf(**changed(**options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros_like(IMAGE),
        np.full_like(IMAGE, 1e-5),
        np.ones_like(IMAGE),
        np.where(IMAGE.mean() < IMAGE, 1.5, 0.5),
        (IMAGE / 255).round().astype(np.uint8),
    ],
    ids=["black", "black to rounding", "of ones", "dark", "dark integers"],
)
def test_dark_images_in_0_to_255_are_refined(image) -> None:
    assert np.isfinite(dense_crf(**changed(image=image))).all()


def test_under_jit_values_are_not_looked_at() -> None:
    few = changed(image=IMAGE / 255, method="exact")
    arrays = {name: few.pop(name) for name in ("image", "logits")}
    found = jax.jit(lambda image, logits: dense_crf(image, logits, **few))(**arrays)
    assert np.isfinite(found).all()


def test_bad_probabilities_and_labels_are_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"of a pixel sum to 0\.8; allowed is 1"):
        logits_from_probabilities(np.array([[0.5, 0.5], [0.5, 0.3]]))
    with pytest.raises(ValueError, match=r"from -0\.5 to 1\.5; allowed is 0 to 1"):
        logits_from_probabilities(np.array([-0.5, 1.5]))
    with pytest.raises(ValueError, match="labels has 3; allowed are 0 to 2, and 255"):
        logits_from_labels(np.array([0, 3]), 3, certainty=0.5)
    with pytest.raises(ValueError, match=r"certainty is 1\.0; allowed is between"):
        logits_from_labels(np.array([0]), 3, certainty=1.0)
