"""SegNet-Basic and its decoders: the paper's sizes, and what each decoder does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.geometry.fields import receptive_field
from segjax.models import SegNetBasic
from segjax.models.segnet_basic import DECODERS

MILLIONS = {
    "bilinear_interpolation": 0.625,
    "segnet_basic": 1.425,
    "segnet_basic_encoder_addition": 1.425,
    "segnet_basic_single_channel_decoder": 0.625,
    "fcn_basic": 0.65,
    "fcn_basic_no_addition": 0.65,
    "fcn_basic_no_dim_reduction": 1.625,
    "fcn_basic_no_addition_no_dim_reduction": 1.625,
}
"""Parameters of each row of table 1, as printed."""


def small(decoder="segnet_basic", **changes):
    return SegNetBasic(
        **({"num_classes": 2, "features": (3, 3), "decoder": decoder} | changes)
    )


@functools.cache
def initialised(model, side=16):
    image = jnp.zeros((1, side, side, 3))
    return jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(image)


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


def abstract(model, height, width, **options):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(
        jax.random.key(0), x, train=False, **options
    )
    return jax.eval_shape(init, image)


def test_every_row_of_table_1_is_there():
    assert DECODERS.keys() == MILLIONS.keys()


@pytest.mark.parametrize("decoder", DECODERS)
def test_parameter_counts_are_near_those_of_table_1(decoder):
    """The table's figures are rounded; that of SegNet-Basic is 0.6 % above the sum."""
    outputs, variables = abstract(SegNetBasic(11, decoder=decoder), 45, 61)
    assert outputs["logits"].shape == (1, 45, 61, 11)
    assert count(variables["params"]) == pytest.approx(
        1e6 * MILLIONS[decoder], rel=0.03
    )


def test_parameter_count_of_the_release():
    _, variables = abstract(SegNetBasic(11), 16, 16)
    assert count(variables["params"]) == 1_416_587


def test_sizes_of_camvid_are_those_of_the_release():
    outputs, state = abstract(SegNetBasic(11), 360, 480, capture_intermediates=True)
    assert outputs["logits"].shape == (1, 360, 480, 11)
    side = lambda name: state["intermediates"][name]["__call__"][0].shape[1:3]
    expected = {
        "conv1": (360, 480),
        "conv4": (45, 60),
        "conv_decode4": (45, 60),
        "conv_decode3": (90, 120),
        "conv_decode1": (360, 480),
    }
    assert {name: side(name) for name in expected} == expected


def test_receptive_fields_are_those_of_the_specification():
    layers = SegNetBasic(11).layers()
    assert receptive_field(layers[:8]).size == 106
    whole = receptive_field(layers)
    assert (whole.smallest, whole.size) == (186, 202)


@pytest.mark.parametrize("decoder", DECODERS)
def test_mirrored_images_give_mirrored_logits(decoder):
    """With symmetric kernels nothing may lean to one side, not by half a pixel.

    Shifted far above 0, the maps have no equal maxima, of which the first one counts.
    """
    model = small(decoder)

    def symmetric(path, x):
        if x.ndim < 4:
            is_shift = path[-2].key in ("norm1", "norm2") and path[-1].key == "bias"
            return x + 50.0 * is_shift
        return x + x[::-1] + x[:, ::-1] + x[::-1, ::-1]

    variables = jax.tree_util.tree_map_with_path(symmetric, initialised(model))
    image = jax.random.normal(jax.random.key(1), (3, 16, 20, 3))
    images = [image, jnp.flip(image, 1), jnp.flip(image, 2)]
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    logits, down, across = np.split(np.asarray(apply(jnp.concatenate(images))), 3)
    tolerance = 1e-5 * np.abs(logits).max()
    np.testing.assert_allclose(down, np.flip(logits, 1), rtol=0, atol=tolerance)
    np.testing.assert_allclose(across, np.flip(logits, 2), rtol=0, atol=tolerance)


def test_learned_upsampling_starts_as_bilinear_interpolation():
    from segjax.models.segnet_basic import UpsampleByTwo
    from segjax.ops.resizing.resize import resize_bilinear

    x = jax.random.normal(jax.random.key(0), (1, 6, 7, 3))
    module = UpsampleByTwo(3)
    y, variables = module.init_with_output(jax.random.key(0), x)
    assert variables["params"]["kernel"].shape == (8, 8, 3, 3)
    expected = resize_bilinear(x, size=(12, 14))
    inside = np.s_[:, 1:-1, 1:-1]
    np.testing.assert_allclose(y[inside], expected[inside], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "decoder", [name for name, how in DECODERS.items() if how.adds]
)
def test_every_addition_matters(decoder):
    """With the deepest map cut off, the logits see the image through the addition."""
    model = small(decoder)
    variables = jax.tree.map(lambda x: x, initialised(model))
    deepest = variables["params"]["conv2"]
    variables["params"]["conv2"] = jax.tree.map(jnp.zeros_like, deepest)
    if decoder == "segnet_basic_encoder_addition":
        # What the first level adds is behind all that its indices can say.
        decoded = variables["params"]["conv_decode1"]
        variables["params"]["conv_decode1"] = jax.tree.map(jnp.zeros_like, decoded)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    one, other = apply(images)
    assert (one != other).mean() > 0.5


def test_the_single_channel_decoder_sees_each_channel_by_itself():
    params = initialised(small("segnet_basic_single_channel_decoder"))["params"]
    assert params["conv_decode1"]["kernel"].shape == (7, 7, 1, 3)
    assert params["conv2"]["kernel"].shape == (7, 7, 3, 3)


def test_decoders_end_without_a_relu():
    model = small()
    image = jax.random.normal(jax.random.key(1), (1, 16, 16, 3))
    _, state = model.apply(
        initialised(model), image, train=False, capture_intermediates=True
    )
    assert (state["intermediates"]["norm_decode1"]["__call__"][0] < 0).any()


def test_the_image_is_normalised_across_its_channels():
    """Local response normalisation: a louder image is not as much louder inside."""
    model = small()
    variables = initialised(model)
    image = 200.0 * jnp.ones((1, 16, 16, 3))
    _, state = model.apply(variables, image, train=False, capture_intermediates=True)
    kernel = variables["params"]["conv1"]["kernel"]
    factor = (1 + 1e-4 / 5 * 3 * 200.0**2) ** -0.75
    expected = factor * 200.0 * kernel.sum((0, 1, 2))
    found = state["intermediates"]["conv1"]["__call__"][0][0, 8, 8]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"decoder": "nearest"}, "decoder is one of bilinear_interp.*got 'nearest'"),
        (
            {"decoder": "segnet_basic_encoder_addition", "features": (3, 4)},
            r"features must be the same number on each level.*got \(3, 4\)",
        ),
        ({"features": ()}, "features holds integers of at least 1"),
        ({"norm": None}, 'norm is a Norm of the kind "batch", got None'),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(**changes)
