"""DeepLab v1 against table 2 of the paper and the released definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.vgg import VGG
from segjax.geometry.fields import output_size, receptive_field
from segjax.models.deeplab_v1 import DeepLabV1
from segjax.predict.tiled import Predictor

PUBLISHED = VGG(pool_window=3, ceil_mode=True, output_stride=8)
SMALL = PUBLISHED.clone(depth=11, features=(2, 2, 3, 3, 3))


def shapes(model, side):
    init = functools.partial(model.init_with_output, train=False)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), image)


@pytest.mark.parametrize(
    ("arguments", "parameters", "field"),
    [
        ({}, 20_505_429, 435),
        ({"fc6_kernel": 7, "fc6_dilation": 4, "fc_features": 4096}, 134_346_581, 435),
        ({"fc6_kernel": 4, "fc6_dilation": 8, "fc_features": 4096}, 65_140_565, 435),
        ({"fc6_kernel": 4, "fc6_dilation": 4, "fc_features": 4096}, 65_140_565, 339),
    ],
)
def test_the_four_forms_of_table_2_have_their_sizes(arguments, parameters, field):
    model = DeepLabV1(21, PUBLISHED, **arguments)
    outputs, variables = shapes(model, 321)
    assert outputs["logits"].shape == (1, 321, 321, 21)
    assert sum(x.size for x in jax.tree.leaves(variables)) == parameters
    assert receptive_field(model.layers()[:-1]).size == field
    assert [output_size(model.layers()[:-1], n) for n in (321, 513)] == [41, 65]


def test_receptive_fields_along_the_path_are_those_of_the_definition():
    layers = DeepLabV1(21, PUBLISHED).layers()
    found = {
        layer.name.split("/")[-1]: receptive_field(layers[: i + 1]).size
        for i, layer in enumerate(layers)
    }
    expected = {
        **{"conv1_2": 5, "pool1": 7, "conv2_2": 15, "pool2": 19, "conv3_3": 43},
        **{"pool3": 51, "conv4_3": 99, "pool4": 115, "conv5_3": 211, "pool5": 227},
        **{"pool5a": 243, "fc6": 435},
    }
    assert found.items() >= expected.items()


def test_the_multi_scale_form_adds_640_channels_to_fc7():
    _, variables = shapes(DeepLabV1(21, PUBLISHED, multi_scale=True), 321)
    assert variables["params"]["logits"]["kernel"].shape == (1, 1, 1024 + 640, 21)
    seen = {name for name in variables["params"] if name.endswith("_conv1")}
    assert seen == {
        f"{name}_conv1" for name in ("image", *map("stage{}".format, "1234"))
    }


def initialised(model):
    init = jax.jit(functools.partial(model.init, train=False))
    return init(jax.random.key(0), jnp.zeros((1, 33, 33, 3)))


@pytest.mark.parametrize("side", [33, 36, 50])
def test_the_multi_scale_form_takes_every_size(side):
    model = DeepLabV1(3, SMALL, fc_features=4, multi_scale=True)
    assert shapes(model, side)[0]["logits"].shape == (1, side, side, 3)


def test_tiles_give_what_the_whole_image_gives():
    model = DeepLabV1(2, SMALL, fc6_dilation=2, fc_features=4)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((70, 333, 3)).astype(np.float32)
    variables = initialised(model)
    apply = lambda v, x: model.apply(v, x, train=False)["logits"]
    partial = jax.tree_util.Partial(apply, variables)
    whole, tiled = (
        Predictor(partial, model.geometry, tile=tile).logits(image) for tile in (0, 64)
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


def test_a_shift_by_the_stride_shifts_the_scores():
    """Scores are aligned with the image, or they would move by another amount."""
    model = DeepLabV1(2, SMALL, fc6_dilation=1, fc_features=4)
    image = jnp.zeros((1, 225, 225, 3))
    variables = initialised(model)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    nothing = apply(image)
    changes = [
        np.abs(apply(image.at[0, place, place].set(100.0)) - nothing).max((0, 2, 3))
        for place in (112, 120)
    ]
    np.testing.assert_allclose(changes[0][60:160], changes[1][68:168], atol=1e-5)
    rows = np.flatnonzero(changes[0])
    assert (rows[0] + rows[-1]) / 2 == 112


@pytest.mark.parametrize(
    "wrong",
    [
        {"fc6_kernel": 0},
        {"fc6_kernel": 4, "fc6_dilation": 3},
        {"fc_features": 0},
        {"dropout_rate": 1.0},
    ],
)
def test_wrong_attributes_are_named(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        DeepLabV1(2, SMALL, **wrong)
