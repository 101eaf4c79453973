"""The front end and the context module, against table 1 and the release."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.vgg import VGG
from segjax.geometry.fields import output_size, receptive_field
from segjax.models.dilated import Context, DilatedNet, identity
from segjax.predict.tiled import Predictor

FRONT = VGG(padding=0, first_padding=0, output_stride=8, fully_convolutional=True)
SMALL = VGG(
    features=(3, 3, 4, 4, 4),
    fc_features=4,
    padding=0,
    first_padding=0,
    output_stride=8,
    fully_convolutional=True,
)


def shapes(model, side):
    init = functools.partial(model.init_with_output, train=False)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), image)


@functools.cache
def initialised(model):
    """The variables of a network; its geometry says the smallest image that it takes."""
    side = model.geometry.minimum
    init = jax.jit(functools.partial(model.init, train=False))
    return init(jax.random.key(0), jnp.zeros((1, side, side, 3)))


@pytest.mark.parametrize(
    ("arguments", "side", "output", "parameters", "field"),
    [
        ({"num_classes": 21}, 900, 528, 134_346_581, 380),
        ({"num_classes": 21, "context": "basic"}, 900, 528, 134_374_973, 908),
        (
            {"num_classes": 21, "context": "large", "context_padding": "first"},
            *(900, 528, 141_149_720, 908),
        ),
        ({"num_classes": 11, "context": "basic"}, 900, 528, 134_313_443, 908),
        (
            {"num_classes": 11, "context": "basic", "dilations": (1, 1, 2, 4, 8, 1)},
            *(900, 528, 134_312_343, 652),
        ),
        (
            {
                "num_classes": 19,
                "context": "basic",
                "dilations": (1, 1, 2, 4, 8, 16, 32, 64, 1),
                "upsampling": "learned",
            },
            *(1396, 1024, 134_373_043, 2444),
        ),
    ],
)
def test_the_published_networks_have_their_sizes(
    arguments, side, output, parameters, field
):
    model = DilatedNet(backbone=FRONT, **arguments)
    outputs, variables = shapes(model, side)
    assert outputs["logits"].shape == (1, output, output, arguments["num_classes"])
    assert sum(x.size for x in jax.tree.leaves(variables)) == parameters
    scores = model.layers()[:-1]
    assert receptive_field(scores).size == field
    assert output_size(scores, side) == output // 8


def test_sizes_of_the_front_end_are_those_of_the_release():
    layers = FRONT.layers("fc7")
    sizes = {x.name: output_size(layers[: i + 1], 900) for i, x in enumerate(layers)}
    expected = {
        **{"conv1_2": 896, "pool1": 448, "conv2_2": 444, "pool2": 222, "conv3_3": 216},
        **{"pool3": 108, "conv4_3": 102, "conv5_1": 98, "conv5_2": 94, "conv5_3": 90},
        "fc7": 66,
    }
    assert sizes.items() >= expected.items()


def test_the_basic_context_starts_as_the_identity():
    x = jnp.asarray(np.random.default_rng(0).random((1, 7, 9, 4)), jnp.float32)
    context = Context(4)
    y, _ = context.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(y, x, atol=1e-6)


def test_the_large_context_starts_as_the_identity_but_for_noise():
    x = jnp.asarray(np.random.default_rng(0).random((1, 7, 9, 4)), jnp.float32)
    y, variables = Context(4, "large").init_with_output(jax.random.key(0), x)
    assert 0 < jnp.abs(y - x).max() < 0.2
    kernels = {k: v["kernel"].shape[-1] for k, v in variables["params"].items()}
    widths = (2, 2, 4, 8, 16, 32, 32, 1)
    assert kernels == {f"conv{i}": 4 * w for i, w in enumerate(widths, 1)}


def test_identity_is_equation_5():
    shape, classes = (3, 3, 4, 8), 2
    kernel = np.asarray(identity(classes)(jax.random.key(1), shape, jnp.float32))
    for a in range(4):
        for b in range(8):
            if a * classes // 4 == b * classes // 8:
                assert kernel[1, 1, a, b] == classes / 8
            else:
                assert abs(kernel[1, 1, a, b]) < 0.02
    assert np.std(kernel[0]) == pytest.approx(0.01 / 4, rel=0.3)


def test_padding_first_and_padding_each_agree_on_the_sizes():
    shape = (1, 66, 66, 3)
    for padding in ("first", "each"):
        out = jax.eval_shape(
            Context(3, padding=padding).init_with_output,
            jax.random.key(0),
            jax.ShapeDtypeStruct(shape, jnp.float32),
        )[0]
        assert out.shape == shape


@pytest.mark.quick(1)
@pytest.mark.parametrize("context", [None, "basic"])
def test_tiles_give_what_the_whole_image_gives(context):
    model = DilatedNet(2, SMALL, context=context, dilations=(1, 2, 1))
    rng = np.random.default_rng(0)
    image = rng.standard_normal((90, 150, 3)).astype(np.float32)
    variables = initialised(model)
    apply = lambda v, x: model.apply(v, x, train=False)["logits"]
    partial = jax.tree_util.Partial(apply, variables)
    whole, tiled = (
        Predictor(partial, model.geometry, tile=tile).logits(image) for tile in (0, 64)
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


def test_scores_sit_on_the_pixels_that_they_were_made_of():
    """What an impulse changes lies around it, on average over the phases of pooling."""
    model = DilatedNet(2, SMALL)
    side = model.geometry.minimum + 416
    image = jnp.zeros((1, side, side, 3))
    variables = initialised(model)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    margin, shifts = model.geometry.margin, []
    nothing = apply(image)
    for place in range(margin + 208, margin + 216):
        changed = apply(image.at[0, place, place].set(100.0)) != nothing
        rows = np.flatnonzero(np.asarray(changed).any((0, 2, 3)))
        assert 0 < rows[0] < rows[-1] < changed.shape[1] - 1
        shifts.append((rows[0] + rows[-1]) / 2 - (place - margin))
    assert np.mean(shifts) == 0


def test_learned_upsampling_starts_as_the_fixed_one():
    image = jnp.asarray(
        np.random.default_rng(0).standard_normal((1, 396, 396, 3)), jnp.float32
    )
    learned = DilatedNet(2, SMALL, upsampling="learned")
    begun = initialised(learned)["params"]
    rest = {name: x for name, x in begun.items() if "upsample" not in name}
    assert rest.keys() < begun.keys()
    fixed, found = (
        jax.jit(lambda v, model=model: model.apply(v, image, train=False)["logits"])(
            {"params": params}
        )
        for model, params in (
            (learned.clone(upsampling="fixed"), rest),
            (learned, begun),
        )
    )
    inner = (slice(None), slice(8, -8), slice(8, -8))
    largest = np.abs(fixed).max()
    assert np.std(fixed) > 0.05 * largest > 0
    np.testing.assert_allclose(fixed[inner], found[inner], atol=1e-4 * largest)


@pytest.mark.parametrize(
    "wrong",
    [
        {"context": "huge"},
        {"context_padding": "none"},
        {"upsampling": "nearest"},
        {"dilations": ()},
        {"num_classes": 0},
    ],
)
def test_wrong_attributes_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DilatedNet(**({"num_classes": 2, "backbone": SMALL} | wrong))


def test_an_illegal_side_names_the_nearest_legal_ones():
    with pytest.raises(ValueError, match=r"image H = 384 .* nearest: 380 and 388"):
        shapes(DilatedNet(21, FRONT), 384)
