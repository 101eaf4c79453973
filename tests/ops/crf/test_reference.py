"""The CRF beside pydensecrf: its published examples, and live where it is installed."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from segjax.ops.crf.dense import dense_crf, logits_from_labels
from segjax.ops.crf.features import appearance_features, smoothness_features
from segjax.ops.crf.gaussian import ExactFilter
from segjax.ops.crf.inference import (
    NORMALIZATIONS,
    free_energy,
    make_kernel,
    mean_field,
)
from segjax.ops.crf.permutohedral import permutohedral_lattice
from segjax.ops.crf.spatial import SeparableFilter
from segjax.types import IGNORE_LABEL

infer = jax.jit(mean_field, static_argnames=("num_iterations", "trace"))

# The examples were made by functions of pydensecrf that put y before x.
Y_BEFORE_X = np.array([1, 0])


@functools.cache
def example(folder, name):
    """Image, log-probabilities, and what is known of an example."""
    about = json.loads((folder / "cases.json").read_text())[name]
    stored = np.load(folder / f"{name}.npz")
    image = np.asarray(Image.open(folder / about["image"]).convert("RGB"))
    if about["channel_order"] == "BGR":
        image = image[..., ::-1]
    labels = stored["labels"].astype(np.int32)
    if about["zero_is_unknown"]:
        labels = np.where(labels == 0, IGNORE_LABEL, labels - 1)
    logits = logits_from_labels(labels, about["n_labels"], certainty=0.7)
    reference = {
        steps: np.moveaxis(stored[f"q{steps}"].astype(np.float64) / 65535, 0, -1)
        for steps in (1, 5)
    }
    return image, logits, reference, stored["map5"], about


@functools.cache
def kernels_of(folder, name):
    image = example(folder, name)[0]
    order = np.concatenate([Y_BEFORE_X, [2, 3, 4]])
    appearance = appearance_features(jnp.asarray(image), 80.0, 13.0)[:, order]
    smoothness = smoothness_features(image.shape[:2], 3.0)[:, Y_BEFORE_X]
    num_pixels = appearance.shape[0]
    return [
        make_kernel(
            permutohedral_lattice(features),
            num_pixels=num_pixels,
            compatibility=weight,
        )
        for features, weight in ((appearance, 10.0), (smoothness, 3.0))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["case1", "case1-b", "case2", "case3"])
def test_published_examples_to_the_last_pixel(shared_data, name) -> None:
    folder = shared_data / "dense_crf"
    _, logits, reference, labels, about = example(folder, name)
    flat = logits.reshape(-1, logits.shape[-1])
    kernels = kernels_of(folder, name)
    for steps, expected in reference.items():
        found = infer(flat, kernels, num_iterations=steps).marginals
        found = np.asarray(found).reshape(logits.shape)
        difference = np.abs(found[..., :-1] - expected)
        assert np.quantile(difference, 0.999) <= 1e-4
    wrong = int((found.argmax(-1) != labels).sum())
    print(f"{name}: {wrong} of {labels.size} labels differ from pydensecrf")
    assert wrong <= 5e-4 * labels.size
    parts = free_energy(jnp.asarray(found).reshape(flat.shape), flat, kernels)
    # pydensecrf counts each pair twice.
    theirs = about["kl_divergence_after_steps_0_to_10"][5]
    ours = float(parts.entropy + parts.unary + 2 * parts.pairwise)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def small_example(folder, name):
    """An example at a quarter of its size, where the exact filter is feasible."""
    image, logits, *_ = example(folder, name)
    height, width = (side // 4 * 4 for side in image.shape[:2])
    blocks = image[:height, :width].reshape(height // 4, 4, width // 4, 4, 3)
    return blocks.mean((1, 3)), logits[:height:4, :width:4]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["case1", "case2", "case3"])
def test_lattice_is_near_the_exact_filter_on_photographs(shared_data, name) -> None:
    image, logits = small_example(shared_data / "dense_crf", name)
    options = {"sigma_alpha": 20.0, "sigma_beta": 13.0, "sigma_gamma": 3.0}
    options |= {"w1": 10.0, "w2": 3.0, "num_iterations": 5}
    lattice, exact = (
        dense_crf(image, logits, **options, method=method)
        for method in ("lattice", "exact")
    )
    agreement = float((lattice.argmax(-1) == exact.argmax(-1)).mean())
    print(f"{name}: {100 * agreement:.2f} % of labels as by the exact filter")
    assert agreement >= 0.97


def features_of(d: int, size: tuple[int, int]) -> np.ndarray:
    generator = np.random.default_rng(d)
    image = generator.uniform(0, 255, (*size, max(d - 2, 1)))
    image[:, size[1] // 2 :] *= 0.3
    if d == 2:
        return np.asarray(smoothness_features(size, 2.3))
    return np.asarray(appearance_features(jnp.asarray(image), 7.3, 21.7))


@pytest.fixture
def densecrf():
    return pytest.importorskip(
        "pydensecrf.densecrf", reason="needs pydensecrf2==1.1, see .ci/run"
    )


def by_pydensecrf(densecrf, logits, kernels, normalization="symmetric", steps=5):
    """Marginals `[N, K]`; `kernels` are pairs of features and compatibility."""
    mode = {"none": "NO_NORMALIZATION"}.get(
        normalization, f"NORMALIZE_{normalization.upper()}"
    )
    crf = densecrf.DenseCRF(*logits.shape)
    crf.setUnaryEnergy(np.ascontiguousarray(-logits.T))
    for features, compatibility in kernels:
        crf.addPairwiseEnergy(
            np.ascontiguousarray(np.asarray(features).T),
            compat=compatibility,
            kernel=densecrf.DIAG_KERNEL,
            normalization=getattr(densecrf, mode),
        )
    return np.asarray(crf.inference(steps)).T


PUBLISHED = [(80.0, 13.0, 3.0), (49.0, 5.0, 3.0), (67.0, 3.0, 1.0)]


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("widths", PUBLISHED)
def test_published_widths_beside_pydensecrf(densecrf, shared_data, widths) -> None:
    """On a photograph; on a quarter of it also beside the exact filter."""
    alpha, beta, gamma = widths
    whole = example(shared_data / "dense_crf", "case1")[:2]
    quarter = small_example(shared_data / "dense_crf", "case1")
    for (image, logits), shrink in ((whole, 1), (quarter, 4)):
        options = {
            "sigma_alpha": alpha / shrink,
            "sigma_beta": beta,
            "sigma_gamma": gamma,
        }
        options |= {"w1": 4.0, "w2": 3.0, "num_iterations": 10}
        found = np.asarray(dense_crf(image, logits, **options, method="lattice"))
        kernels = (
            (appearance_features(jnp.asarray(image), alpha / shrink, beta), 4.0),
            (smoothness_features(image.shape[:2], gamma), 3.0),
        )
        flat = np.asarray(logits).reshape(-1, logits.shape[-1])
        expected = by_pydensecrf(densecrf, flat, kernels, steps=10)
        expected = expected.reshape(logits.shape)
        same = (found.argmax(-1) == expected.argmax(-1)).mean()
        print(f"{widths}, {image.shape[:2]}: labels equal {100 * same:.3f} %", end="")
        assert same >= 0.9995
        assert np.quantile(np.abs(found - expected), 0.999) <= 1e-4
    exact = np.asarray(dense_crf(image, logits, **options, method="exact"))
    near = [(q.argmax(-1) == exact.argmax(-1)).mean() for q in (found, expected)]
    print(f", exact {100 * near[0]:.2f} % (pydensecrf {100 * near[1]:.2f} %)")
    assert near[0] >= 0.97
    assert abs(near[0] - near[1]) <= 5e-3


@pytest.mark.parity
@pytest.mark.parametrize("compatibility", ["potts", "vector", "matrix"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("d", [2, 3, 5])
def test_lattice_is_that_of_pydensecrf(
    densecrf, d, normalization, compatibility
) -> None:
    size, labels = (20, 24), 4
    features = features_of(d, size)
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(features.shape[0], labels)).astype(np.float32)
    matrix = generator.uniform(size=(labels, labels)).astype(np.float32)
    penalties = {
        "potts": 0.01 if normalization == "none" else 3.0,
        "matrix": matrix + matrix.T,
        "vector": -matrix[0],
    }[compatibility]
    expected = by_pydensecrf(densecrf, logits, [(features, penalties)], normalization)
    lattice = permutohedral_lattice(jnp.asarray(features))
    kernel = make_kernel(
        lattice,
        num_pixels=features.shape[0],
        compatibility=penalties,
        normalization=normalization,
    )
    found = np.asarray(infer(jnp.asarray(logits), [kernel], num_iterations=5).marginals)
    difference = np.abs(found - expected)
    same = (found.argmax(1) == expected.argmax(1)).mean()
    exact = make_kernel(
        ExactFilter(jnp.asarray(features)) if d > 2 else SeparableFilter(2.3, size),
        num_pixels=features.shape[0],
        compatibility=penalties,
        normalization=normalization,
    )
    truth = infer(jnp.asarray(logits), [exact], num_iterations=5).marginals
    near = [
        (q.argmax(1) == np.asarray(truth).argmax(1)).mean() for q in (found, expected)
    ]
    print(
        f"d = {d}, {normalization}, {compatibility}: labels equal {100 * same:.3f} %, "
        f"as by the exact filter {100 * near[0]:.2f} % (pydensecrf {100 * near[1]:.2f} %)"
    )
    assert same >= 0.9995
    assert np.quantile(difference, 0.999) <= 1e-4
    assert abs(near[0] - near[1]) <= 5e-3
