"""Sliding window: patch by patch and all at once, the numbers are the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.geometry.fields import receptive_field
from segjax.layers.norm import Norm
from segjax.models import SlidingWindow
from segjax.predict.tiled import Predictor

N4 = SlidingWindow(2)
NORM = Norm(momentum=0.95)
N3 = SlidingWindow(2, kernels=(5, 5, 5), patch=65, norm=NORM)
SMALL = {
    "N4-like": SlidingWindow(3, (4, 3, 2), 4, 6, patch=27),
    "N3-like, with a rest": SlidingWindow(3, (3, 2), 4, 6, patch=17, norm=NORM),
}


@functools.cache
def random_weights(model):
    """Variables with statistics and scales that are not 0 and 1."""
    image = jnp.zeros((1, model.patch, model.patch, 2))
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0), image)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(x + 0.2 * np.abs(rng.normal(size=x.shape)), x.dtype),
        variables,
    )


def apply(model, variables, image):
    run = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])
    return run(variables, image)


def patchwise(model, variables, image):
    """The definition: cut a patch, classify it, take the next."""
    side = model.patch
    classify = jax.jit(
        lambda x: model.clone(form="patches").apply(variables, x, train=False)["logits"]
    )
    rows, columns = (n - side + 1 for n in image.shape[1:3])
    patches = (
        image[:, r : r + side, c : c + side]
        for r in range(rows)
        for c in range(columns)
    )
    logits = np.stack([classify(patch)[:, 0, 0] for patch in patches], 1)
    return logits.reshape(image.shape[0], rows, columns, -1)


@pytest.mark.parametrize("form", ["dense", "patches"])
@pytest.mark.parametrize(
    ("model", "expected"), [(N4, 219_290), (N3, 270_746 + 2 * 2 * 48)]
)
def test_parameter_counts_are_those_of_the_specification(model, expected, form):
    image = jax.ShapeDtypeStruct((1, 95, 95, 1), jnp.float32)
    init = lambda x: model.clone(form=form).init(jax.random.key(0), x, train=False)
    params = jax.eval_shape(init, image)["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == expected


def test_patches_are_seen_as_far_as_poolings_reach():
    assert receptive_field(N4.layers()).size == 95
    # Of 61 columns, 30 windows of 2 leave one over, and so on: 5 pixels in all.
    assert receptive_field(N3.layers()).size == 60
    assert (N3.geometry.margin, N3.geometry.minimum) == (32, 65)


@pytest.mark.parametrize("name", SMALL)
def test_all_forms_give_the_logits_of_patches_cut_by_hand(name):
    model, variables = SMALL[name], random_weights(SMALL[name])
    size = (2, model.patch + 6, model.patch + 3, 2)
    image = np.random.default_rng(1).normal(size=size).astype(np.float32)
    expected = patchwise(model, variables, image)
    assert expected.shape == (2, 7, 4, 3)
    for form in ("dense", "patches"):
        found = apply(model.clone(form=form), variables, image)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_many_patches_are_done_row_by_row_with_the_same_result():
    model = SMALL["N3-like, with a rest"]
    size = (1, model.patch + 19, model.patch + 16, 2)
    image = np.random.default_rng(1).normal(size=size).astype(np.float32)
    dense = apply(model, random_weights(model), image)
    rows = apply(model.clone(form="patches"), random_weights(model), image)
    assert dense.shape == (1, 20, 17, 3)
    np.testing.assert_allclose(rows, dense, rtol=1e-4, atol=1e-4)


def test_both_forms_have_the_same_gradient():
    model = SMALL["N4-like"]
    size = (1, model.patch + 4, model.patch + 2, 2)
    image = np.random.default_rng(1).normal(size=size).astype(np.float32)

    def gradient(form):
        def total(variables):
            logits = model.clone(form=form).apply(variables, image, train=True)
            return (logits["logits"] ** 2).sum()

        return jax.jit(jax.grad(total))(random_weights(model))

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-2),
        gradient("dense"),
        gradient("patches"),
    )


def test_pixels_at_the_border_are_classified_by_mirrored_patches():
    model = SMALL["N3-like, with a rest"]
    image = np.random.default_rng(1).normal(size=(9, 12, 2)).astype(np.float32)
    predict = jax.tree_util.Partial(
        lambda v, x: model.apply(v, x, train=False)["logits"], random_weights(model)
    )
    found = Predictor(predict, model.geometry).logits(image)
    half = model.patch // 2
    mirrored = np.pad(image, ((half, half), (half, half), (0, 0)), mode="reflect")
    expected = patchwise(model, random_weights(model), mirrored[None])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_work_of_one_patch_is_the_sum_over_its_layers():
    layers = 92**2 * 4**2 * 48 + 42**2 * 5**2 * 48**2
    layers += (18**2 + 6**2) * 4**2 * 48**2 + 3**2 * 48 * 200 + 200 * 2
    patches = N4.clone(form="patches")
    assert patches.multiply_adds(1) == layers
    assert patches.multiply_adds(10) == 100 * layers


def test_work_of_the_dense_form_is_a_fraction():
    ratios = [
        N4.clone(form="patches").multiply_adds(side) / N4.multiply_adds(side)
        for side in (1, 32, 512, 10**6)
    ]
    assert ratios == sorted(ratios)
    shared = 4**2 * 48 + (5**2 + 2 * 4**2) * 48**2 + 3**2 * 48 * 200 + 200 * 2
    assert ratios[-1] == pytest.approx(
        N4.clone(form="patches").multiply_adds(1) / shared, rel=1e-3
    )
    assert ratios[0] < 1


@pytest.mark.parametrize("form", ["dense", "patches"])
def test_images_smaller_than_a_patch_are_refused(form):
    model = N3.clone(form=form)
    with pytest.raises(ValueError, match=r"image W = 64 is not a size.*at least 65"):
        jax.eval_shape(
            lambda x: model.init(jax.random.key(0), x, train=False),
            jnp.zeros((1, 65, 64, 1)),
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"form": "sparse"}, 'form is "dense" or "patches", got \'sparse\''),
        ({"patch": 94}, "patch is an odd number of pixels.*got 94"),
        ({"patch": 15}, "leave at least one, got 15"),
        ({"kernels": ()}, "kernels holds integers"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        N4.clone(**changes)
