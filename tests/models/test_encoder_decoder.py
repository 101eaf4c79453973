"""The upsampling laboratory: forms differ in the operator, and in nothing else."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import config
from segjax.geometry.fields import input_window
from segjax.models import EncoderDecoder
from segjax.models.encoder_decoder import UPSAMPLING

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = tuple(UPSAMPLING)
FREE = tuple(name for name in OPERATORS if name != "transposed")


def small(**changes):
    return EncoderDecoder(**({"num_classes": 3, "features": (4, 6)} | changes))


@functools.cache
def initialised(model, side=16):
    image = jnp.zeros((1, side, side, 3))
    return jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(image)


@functools.cache
def applied(model):
    return jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])


def random_image(height=16, width=16, size=1):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(size, height, width, 3)), jnp.float32)


def flat(variables):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
    }


def test_all_forms_begin_with_the_same_weights_wherever_they_share_a_shape():
    plain = flat(initialised(small()))
    for changes in (
        *({"upsampling": name} for name in FREE),
        {"upsampling": "transposed"},
        {"upsampling": "bilinear", "skip": True},
    ):
        other = flat(initialised(small(**changes)))
        assert plain.keys() <= other.keys()
        shared = [n for n in plain if plain[n].shape == other[n].shape]
        assert {n for n in plain if n.startswith("encode")} <= set(shared)
        for name in shared:
            np.testing.assert_array_equal(plain[name], other[name], err_msg=name)


def test_only_a_transposed_convolution_and_a_skip_add_parameters():
    shapes = lambda **changes: {
        name: leaf.shape for name, leaf in flat(initialised(small(**changes))).items()
    }
    plain = shapes()
    assert all(shapes(upsampling=name) == plain for name in FREE)
    learned = shapes(upsampling="transposed")
    assert {n: learned[n] for n in learned.keys() - plain.keys()} == {
        "upsample1/kernel": (4, 4, 4, 4),
        "upsample2/kernel": (4, 4, 6, 6),
    }
    with_skip = shapes(upsampling="bilinear", skip=True)
    assert {n for n in plain if plain[n] != with_skip[n]} == {
        "decode1/conv/kernel",
        "decode2/conv/kernel",
    }
    assert with_skip["decode2/conv/kernel"] == (3, 3, 12, 4)


@pytest.mark.parametrize("upsampling", OPERATORS)
def test_every_size_is_legal_and_kept(upsampling):
    model = small(upsampling=upsampling, features=(2, 2, 2, 2))
    for height, width in ((1, 1), (17, 30), (45, 16)):
        image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
        outputs = jax.eval_shape(
            lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0],
            image,
        )
        assert outputs["logits"].shape == (1, height, width, 3)


def test_before_training_the_transposed_convolution_interpolates_bilinearly():
    """Away from the border, where zeros leak in."""
    image = random_image(48, 48)
    found, expected = (
        applied(small(upsampling=name))(initialised(small(upsampling=name)), image)
        for name in ("transposed", "bilinear")
    )
    inner = (slice(None), slice(16, -16), slice(16, -16))
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)
    assert np.abs(found - expected).max() > 1e-3


def enlarged(upsampling):
    """What enters the last convolution: one level, each channel passed through."""
    model = EncoderDecoder(3, features=(3,), upsampling=upsampling)
    variables = jax.tree.map(jnp.asarray, initialised(model))
    kernel = jnp.zeros((3, 3, 3, 3)).at[1, 1].set(jnp.eye(3))
    params = {name: dict(group) for name, group in variables["params"].items()}
    for name in ("encode1", "decode1"):
        params[name] = params[name] | {"conv": {"kernel": kernel}}
    params["logits"] = {"kernel": jnp.eye(3)[None, None], "bias": jnp.zeros(3)}
    rows = [[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]
    image = jnp.repeat(jnp.asarray(rows, jnp.float32)[None, :, :, None], 3, axis=-1)
    return applied(model)(variables | {"params": params}, image)[0, :, :, 0]


@pytest.mark.parametrize(
    ("upsampling", "expected"),
    [
        ("nearest", [[5, 5, 6, 6], [5, 5, 6, 6], [7, 7, 8, 8], [7, 7, 8, 8]]),
        ("bed_of_nails", [[5, 0, 6, 0], [0, 0, 0, 0], [7, 0, 8, 0], [0, 0, 0, 0]]),
        ("index_unpooling", [[0, 0, 6, 0], [0, 5, 0, 0], [0, 0, 0, 0], [7, 0, 0, 8]]),
        (
            "bilinear",
            [
                [5, 5.25, 5.75, 6],
                [5.5, 5.75, 6.25, 6.5],
                [6.5, 6.75, 7.25, 7.5],
                [7, 7.25, 7.75, 8],
            ],
        ),
        (
            "transposed",
            [
                [2.8125, 3.9375, 4.3125, 3.375],
                [4.125, 5.75, 6.25, 4.875],
                [4.875, 6.75, 7.25, 5.625],
                [3.9375, 5.4375, 5.8125, 4.5],
            ],
        ),
    ],
)
def test_each_operator_enlarges_the_pooled_example_of_the_lecture(upsampling, expected):
    np.testing.assert_allclose(enlarged(upsampling), expected, rtol=1e-4)


def test_every_skip_matters():
    """With the upsampled half of a convolution cut off, its level is seen all the same."""
    model = small(upsampling="bilinear", skip=True)
    variables = initialised(model)
    image = random_image()

    @jax.jit
    @jax.grad
    def gradient(params, kept):
        for i, features in enumerate(model.features, 1):
            kernel = params[f"decode{i}"]["conv"]["kernel"]
            kernel = kernel.at[:, :, :features].multiply(kept[i - 1])
            params = params | {
                f"decode{i}": params[f"decode{i}"] | {"conv": {"kernel": kernel}}
            }
        logits = model.apply(variables | {"params": params}, image, train=False)
        return (logits["logits"] ** 2).sum()

    def reaches(level, kept):
        found = gradient(variables["params"], jnp.asarray(kept))
        return bool((found[f"encode{level}"]["conv"]["kernel"] != 0).any())

    assert reaches(2, kept=(1.0, 0.0))
    assert reaches(1, kept=(0.0, 1.0))
    assert not reaches(2, kept=(0.0, 1.0))


@pytest.mark.parametrize("upsampling", OPERATORS)
def test_an_input_pixel_changes_no_outputs_but_those_that_the_layers_say(upsampling):
    model = small(upsampling=upsampling)
    side = 64
    variables = initialised(model)
    base = random_image(side, 8, 1)
    rows = range(20, 28)
    moved = jnp.concatenate([base] + [base.at[:, row].add(3.0) for row in rows])
    logits = np.asarray(applied(model)(variables, moved)).sum((2, 3))
    reached = 0
    for row, found in zip(rows, logits[1:], strict=True):
        for output in np.flatnonzero(np.abs(found - logits[0]) > 1e-4):
            first, last = input_window(model.layers(), int(output), int(output) + 1)
            assert first <= row < last
            reached += 1
    assert reached > 2 * len(rows)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"upsampling": "cubic"}, "upsampling is one of nearest.*got 'cubic'"),
        ({"skip": "yes"}, "skip is True or False, got 'yes'"),
        ({"features": ()}, "features holds integers"),
        ({"num_classes": 0}, "num_classes is an integer of at least 1, got 0"),
        ({"norm": None}, "norm"),
        ({"dtype": "int32"}, "dtype is a dtype of real numbers"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(**changes)


def test_the_experiments_differ_in_the_operator_alone():
    def load(preset):
        return config.load(f"{ROOT}/configs/upsampling_camvid.py:{preset}").to_dict()

    for ending in ("", "_synthetic", "_smoke"):
        found = {name: load(f"{name}{ending}") for name in (*OPERATORS, "skip")}
        operators = {
            name: (group["model"].pop("upsampling"), group["model"].pop("skip"))
            for name, group in found.items()
        }
        assert operators == {name: (name, False) for name in OPERATORS} | {
            "skip": ("bilinear", True)
        }
        assert all(group == found["nearest"] for group in found.values())
