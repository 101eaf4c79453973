"""DeepLab v2 against the released definitions and its own description."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.resnet import ResNet
from segjax.backbones.vgg import VGG
from segjax.geometry.fields import output_size, receptive_field
from segjax.layers.norm import Norm
from segjax.models.deeplab_v2 import DeepLabV2

VGG16 = VGG(pool_window=3, ceil_mode=True, output_stride=8)
RESNET101 = ResNet(
    101,
    output_stride=8,
    stem_pool="ceil",
    stride_on="1x1",
    dilate_first_block=True,
    norm=Norm(frozen=True),
)
SMALL = VGG16.clone(depth=11, features=(2, 2, 3, 3, 3))


def shapes(model, side, train=False):
    def run(key, image):
        return model.init_with_output(
            {"params": key, "dropout": key}, image, train=train
        )

    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(run, jax.random.key(0), image)


def initialised(model, image):
    return jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), image)


def applied(model, variables, image, **options):
    """The outputs of a network, in one program."""
    apply = functools.partial(model.apply, **{"train": False} | options)
    return jax.jit(apply)(variables, image)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("backbone", "arguments", "parameters", "field"),
    [
        (VGG16, {"fc_features": 1024}, 37_877_652, 611),
        (RESNET101, {}, 44_048_532, 1411),
        (RESNET101, {"rates": (12,)}, 42_887_253, 1219),
        (RESNET101, {"rates": (6,)}, 42_887_253, 1123),
        (RESNET101, {"rates": (18,)}, 42_887_253, 1315),
    ],
)
def test_published_networks_have_their_sizes(backbone, arguments, parameters, field):
    model = DeepLabV2(21, backbone, **arguments)
    outputs, variables = shapes(model, 321)
    assert outputs["logits"].shape == (1, 321, 321, 21)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == parameters
    assert receptive_field(model.layers()[:-1]).size == field
    assert [output_size(model.layers()[:-1], n) for n in (321, 513)] == [41, 65]


def test_scores_of_all_rates_are_added():
    model = DeepLabV2(3, SMALL, rates=(1, 2))
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.standard_normal((1, 33, 33, 3)), jnp.float32)
    variables = initialised(model, image)
    total = applied(model, variables, image)["logits"]
    parts = []
    for i, rate in ((1, 1), (2, 2)):
        one = model.clone(rates=(rate,))
        params = dict(variables["params"])
        params["branch1"] = params.pop(f"branch{i}")
        params = {k: v for k, v in params.items() if k in ("backbone", "branch1")}
        parts.append(applied(one, {"params": params}, image)["logits"])
    np.testing.assert_allclose(total, sum(parts), atol=1e-5)
    assert np.abs(parts[1]).max() > 0


@pytest.mark.slow
def test_scores_of_all_scales_are_fused_by_their_maximum():
    model = DeepLabV2(3, SMALL, rates=(1,), scales=(1.0, 0.75, 0.5))
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.standard_normal((1, 65, 49, 3)), jnp.float32)
    variables = initialised(model, image)
    key = {"dropout": jax.random.key(1)}
    outputs = applied(model, variables, image, train=True, rngs=key)
    sides = outputs["side_logits"]
    assert [side.shape for side in sides] == [(1, 65, 49, 3)] * 3
    grid = (slice(None), slice(None, None, 8), slice(None, None, 8))
    fused = functools.reduce(jnp.maximum, [side[grid] for side in sides])
    np.testing.assert_allclose(outputs["logits"][grid], fused, atol=1e-5)
    alone = applied(model.clone(scales=(1.0,)), variables, image)["logits"]
    np.testing.assert_allclose(sides[0], alone, atol=1e-5)
    assert "side_logits" not in applied(model, variables, image)


def test_scales_resize_corner_to_corner():
    """513 gives 513, 385 and 257, as the definition says."""
    seen = []

    class Spy(ResNet):
        def __call__(self, image, *, train):
            seen.append(image.shape[1])
            return super().__call__(image, train=train)

    spy = Spy(18, output_stride=8, features=2)
    shapes(DeepLabV2(2, spy, scales=(1.0, 0.75, 0.5)), 513)
    assert seen == [513, 385, 257]


def test_several_scales_see_the_whole_image_and_one_does_not():
    assert DeepLabV2(21, VGG16).geometry.tiles
    assert not DeepLabV2(21, VGG16, scales=(1.0, 0.5)).geometry.tiles


@pytest.mark.parametrize(
    "wrong",
    [{"rates": ()}, {"scales": (0.5,)}, {"scales": (1.0, 2.0)}, {"fc_features": 0}],
)
def test_wrong_attributes_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DeepLabV2(2, SMALL, **wrong)
