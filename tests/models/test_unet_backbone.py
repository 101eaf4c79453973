"""U-Net on a backbone: the sizes it takes, and tiles."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.mobilenet_v2 import MobileNetV2
from segjax.backbones.mobilenet_v3 import MobileNetV3
from segjax.backbones.resnet import ResNet
from segjax.backbones.vgg import VGG
from segjax.geometry.fields import Layer
from segjax.layers.conv_norm import ConvNorm
from segjax.layers.norm import Norm
from segjax.models import UNetBackbone
from segjax.predict.tiled import Predictor

OF_VGG = ("conv2", "conv3", "conv4", "conv5", "stage5")


class TwoStages(nn.Module):
    """A backbone of two convolutions, with zeros as PyTorch or as TensorFlow puts them."""

    same_padding: bool = False

    @nn.compact
    def __call__(self, image, *, train):
        x, stages = image, {}
        padding = "same" if self.same_padding else None
        for name in ("stage1", "stage2"):
            conv = ConvNorm(3, (3, 3), 2, padding, name=name)
            x = stages[name] = conv(x, train=train)
        return stages

    def layers(self, stage="stage2"):
        count = int(stage[-1])
        return tuple(Layer(f"stage{i + 1}/conv", 3, 2, 1) for i in range(count))


@pytest.mark.parametrize("same_padding", [False, True])
def test_tiles_give_what_the_whole_image_gives(same_padding):
    stages = ("stage1", "stage2")
    model = UNetBackbone(2, TwoStages(same_padding), stages, (3, 2))
    image = np.random.default_rng(0).normal(size=(61, 54, 1)).astype(np.float32)
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), jnp.asarray(image[None, :16, :16])
    )
    apply = lambda v, x: model.apply(v, x, train=False)["logits"]
    partial = jax.tree_util.Partial(apply, variables)
    whole, tiled = (
        Predictor(partial, model.geometry, tile=tile).logits(image) for tile in (0, 16)
    )
    assert np.std(whole) > 0.01
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


def test_backbones_that_round_down_want_multiples_of_their_stride():
    assert UNetBackbone(2, ResNet(18)).geometry.offset is None
    assert UNetBackbone(2, MobileNetV2()).geometry.offset is None
    assert UNetBackbone(2, VGG(11, ceil_mode=True), OF_VGG).geometry.offset is None
    of_vgg = UNetBackbone(2, VGG(11), OF_VGG).geometry
    assert (of_vgg.offset, of_vgg.minimum, of_vgg.tiles) == (0, 32, True)


def test_what_averages_over_the_image_is_not_cut_into_tiles():
    assert not UNetBackbone(2, ResNet(18, norm=Norm("group"))).geometry.tiles
    assert not UNetBackbone(2, MobileNetV3()).geometry.tiles


@pytest.mark.parametrize(
    ("backbone", "stages", "features"),
    [
        (VGG(11), OF_VGG, (8, 8, 8, 8, 8)),
        (ResNet(18, output_stride=16), None, (8, 8, 8, 8, 8)),
        (
            ResNet(50, last_stage="stage3"),
            ("stage1", "stage2", "stage3"),
            (16, 8, 8),
        ),
    ],
)
def test_logits_have_the_size_of_the_image_on_maps_of_any_stride(
    backbone, stages, features
):
    more = {} if stages is None else {"stages": stages}
    model = UNetBackbone(5, backbone, features=features, **more)
    image = jax.ShapeDtypeStruct((2, 75, 49, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0]
    chex.assert_shape(jax.eval_shape(init, image)["logits"], (2, 75, 49, 5))


def test_levels_and_maps_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"one number for each of the stages \('stage1"
    ):
        UNetBackbone(2, ResNet(18), features=(64, 32))
    with pytest.raises(ValueError, match="stages names no map of the backbone"):
        UNetBackbone(2, ResNet(18, last_stage="stage4"))
