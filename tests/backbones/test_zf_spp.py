"""SPP-net on ZF-5: the release's figures, and one set of weights for all sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones import BACKBONES
from segjax.backbones.zf_spp import ZFSPP
from segjax.geometry.fields import output_size, receptive_field
from segjax.ops.convolution.convolve import conv
from segjax.ops.normalization.local_response import local_response_norm_within
from segjax.ops.pooling.spatial_pyramid import caffe_order, spatial_pyramid_pool
from segjax.ops.pooling.windowed import max_pool

NARROW = {"features": (4, 5, 6, 6, 3), "fc_features": 8, "levels": (1, 2)}
CONVOLUTIONS = [f"conv{i}" for i in range(1, 6)]


def abstract(model, side):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    stages, variables = jax.eval_shape(init, image)
    return {name: x.shape[1:] for name, x in stages.items()}, variables["params"]


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@functools.cache
def random_case(model, side):
    image = np.random.default_rng(0).normal(size=(2, side, side, 3))
    image = jnp.asarray(100 * image, jnp.float32)
    init = jax.jit(functools.partial(model.init, train=False))
    return image, init(jax.random.key(0), image)


def run(model, variables, image):
    return jax.jit(functools.partial(model.apply, train=False))(variables, image)


def test_parameters_are_those_of_the_release():
    params = abstract(ZFSPP(num_classes=1000), 224)[1]
    assert {name: count(values) for name, values in params.items()} == {
        "conv1": 14_208,
        "conv2": 614_656,
        "conv3": 885_120,
        "conv4": 1_327_488,
        "conv5": 884_992,
        "fc6": 52_432_896,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    }
    assert count({name: params[name] for name in CONVOLUTIONS}) == 3_726_464
    assert count(params) == 77_037_672


@pytest.mark.parametrize(
    ("side", "sizes"),
    [(224, (110, 55, 26, 13)), (180, (88, 44, 20, 10)), (97, (47, 23, 10, 5))],
)
def test_images_of_every_size_give_fifty_bins(side, sizes):
    model = ZFSPP(num_classes=1000)
    shapes, params = abstract(model, side)
    assert tuple(shapes[f"stage{i}"][0] for i in range(1, 5)) == sizes
    assert tuple(output_size(model.layers(f"stage{i}"), side) for i in range(1, 5)) == (
        sizes
    )
    assert shapes["pyramid"] == (50 * 256,)
    assert shapes["logits"] == (1000,)
    assert count(params) == 77_037_672


@pytest.mark.parametrize(
    ("stage", "stride", "centre", "size", "plain"),
    [
        ("stage1", 2, 2, 11, 7),
        ("stage2", 4, 4, 15, 11),
        ("stage3", 8, 12, 47, 27),
        ("stage4", 16, 20, 159, 139),
    ],
)
def test_receptive_fields_grow_by_the_normalisations(
    stage, stride, centre, size, plain
):
    field = receptive_field(ZFSPP().layers(stage))
    assert (field.stride, field.centre, field.size) == (stride, centre, size)
    assert receptive_field(ZFSPP(lrn=False).layers(stage)).size == plain


def test_one_set_of_weights_classifies_images_of_two_sizes():
    model = ZFSPP(num_classes=3, **NARROW)
    image, variables = random_case(model, 63)
    smaller = run(model, variables, image[:, :47, :55])
    larger = run(model, variables, image)
    assert smaller["pyramid"].shape == larger["pyramid"].shape == (2, 15)
    assert smaller["stage4"].shape == (2, 2, 2, 3)
    assert larger["stage4"].shape == (2, 3, 3, 3)
    assert (smaller["logits"] != larger["logits"]).any()
    assert larger["logits"].dtype == jnp.float32


@pytest.mark.parametrize("lrn", [True, False])
def test_stages_are_those_of_the_layers_one_by_one(lrn):
    model = ZFSPP(num_classes=3, **NARROW, lrn=lrn)
    image, variables = random_case(ZFSPP(num_classes=3, **NARROW), 63)
    params = variables["params"]
    # Biases, which start at zero, and more than the release's alpha can show.
    params = jax.tree.map(lambda x: x + 0.01 if x.ndim == 1 else x, params)

    @jax.jit
    def expected(params, image):
        def layer(name, x, **options):
            x = conv(x, params[name]["kernel"], **options)
            return jax.nn.relu(x + params[name]["bias"][None, None, None])

        norm = lambda x: x
        if lrn:
            norm = functools.partial(
                local_response_norm_within, size=3, alpha=5e-5, beta=0.75
            )
        pool = functools.partial(max_pool, window=3, stride=2, ceil_mode=True)
        stages = {"stage1": norm(layer("conv1", image, stride=2, padding=1))}
        stages["stage2"] = pool(stages["stage1"])
        stages["stage3"] = norm(layer("conv2", stages["stage2"], stride=2))
        x = pool(stages["stage3"])
        for name in ("conv3", "conv4", "conv5"):
            x = layer(name, x, padding=1)
        stages["stage4"] = x
        x = stages["pyramid"] = spatial_pyramid_pool(x, levels=(1, 2))
        for name in ("fc6", "fc7", "fc8"):
            x = x @ params[name]["kernel"] + params[name]["bias"][None]
            x = jax.nn.relu(x) if name != "fc8" else x
        return stages | {"logits": x}

    found = run(model, {"params": params}, image)
    for name, value in expected(params, image).items():
        scale = float(abs(value).max())
        np.testing.assert_allclose(found[name], value, atol=1e-4 * scale, err_msg=name)
        assert scale > 0


def test_normalisation_quietens_the_loud():
    image, variables = random_case(ZFSPP(num_classes=3, **NARROW), 63)
    loud, plain = (
        run(ZFSPP(**NARROW, lrn=lrn), variables, image)["stage1"]
        for lrn in (True, False)
    )
    assert (loud <= plain).all()
    assert loud.max() < 0.9 * plain.max()


def test_dropout_is_there_in_training_alone():
    model = ZFSPP(num_classes=3, **NARROW)
    image, variables = random_case(model, 63)
    train = jax.jit(
        lambda key: model.apply(variables, image, train=True, rngs={"dropout": key})
    )
    first, second = (train(jax.random.key(i)) for i in (1, 2))
    np.testing.assert_array_equal(first["pyramid"], second["pyramid"])
    assert (first["logits"] != second["logits"]).any()


def test_weights_in_caffes_order_score_caffes_vector_alike():
    model = ZFSPP(num_classes=3, **NARROW)
    image, variables = random_case(model, 63)
    stages = run(model, variables, image)
    x = np.asarray(stages["stage4"]).transpose(0, 3, 1, 2)
    caffe = np.concatenate(
        [
            x.max((2, 3)),
            np.stack(
                [
                    x[:, :, i : i + 2, j : j + 2].max((2, 3))
                    for i in (0, 1)
                    for j in (0, 1)
                ],
                -1,
            ).reshape(2, -1),
        ],
        1,
    )
    order = caffe_order(model.levels, 3)
    weights = np.random.default_rng(1).normal(size=(15, 8)).astype(np.float32)
    expected = caffe @ weights
    np.testing.assert_allclose(
        stages["pyramid"] @ weights[order], expected, atol=1e-4 * abs(expected).max()
    )


def test_the_released_bins_are_for_224_pixels_alone():
    model = ZFSPP(mode="released")
    assert abstract(model, 224)[0]["pyramid"] == (12_800,)
    with pytest.raises(ValueError, match=r"a side of 10.*use 'adaptive'"):
        abstract(model, 180)


def test_an_image_that_is_too_small_is_refused():
    assert abstract(ZFSPP(), 31)[0]["stage4"] == (1, 1, 256)
    with pytest.raises(ValueError, match="the input has to be larger"):
        abstract(ZFSPP(), 30)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": (4, 4)}, "one entry a convolution, five"),
        ({"features": (4, 4, 4, 4, 0)}, "features holds integers"),
        ({"levels": ()}, "levels is empty"),
        ({"levels": (2, 0)}, "level is 0"),
        ({"mode": "floor"}, "mode of ZFSPP is one of adaptive, .*got 'floor'"),
        ({"output_stride": 32}, "output_stride of ZFSPP is 16, got 32"),
        ({"num_classes": 0}, "num_classes is an integer"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
        ({"dtype": "int8"}, "dtype is a dtype of real numbers"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        ZFSPP(**changes)


def test_it_has_a_name_and_names_its_stages():
    assert BACKBONES["zf_spp"] is ZFSPP
    with pytest.raises(ValueError, match=r"one of stage1, .*stage4, got stage5"):
        ZFSPP().layers("stage5")
