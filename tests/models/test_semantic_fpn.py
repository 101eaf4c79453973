"""Semantic FPN: what it is made of, the sizes it takes, and tiles."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.resnet import ResNet
from segjax.backbones.vgg import VGG
from segjax.layers.norm import Norm
from segjax.models import SemanticFPN
from segjax.predict.tiled import Predictor


def abstract(model, height, width):
    image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    return jax.eval_shape(init, image)


def test_branches_have_a_convolution_for_each_doubling():
    outputs, variables = abstract(SemanticFPN(19, ResNet(18)), 64, 96)
    chex.assert_shape(outputs["logits"], (2, 64, 96, 19))
    branches = {name for name in variables["params"] if name.startswith("branch")}
    assert branches == {
        *("branch2_1", "branch3_1", "branch4_1", "branch4_2"),
        *("branch5_1", "branch5_2", "branch5_3"),
    }
    assert "output5" in variables["params"]["pyramid"]
    smps = SemanticFPN(19, ResNet(18), output_convs=False)
    params = abstract(smps, 64, 96)[1]["params"]
    assert set(params["pyramid"]) == {f"lateral{level}" for level in (2, 3, 4, 5)}


def test_statistics_of_the_image_and_aligned_corners_leave_no_tiles():
    whole = SemanticFPN(2, ResNet(18)).geometry
    assert (whole.tiles, whole.offset, whole.minimum) == (False, 0, 32)
    assert SemanticFPN(2, ResNet(18), norm=Norm()).geometry.tiles
    aligned = SemanticFPN(2, ResNet(18), norm=Norm(), align_corners=True)
    assert not aligned.geometry.tiles


@pytest.mark.slow
def test_tiles_give_what_the_whole_image_gives():
    backbone = VGG(11, features=(2, 2, 2, 2, 2))
    model = SemanticFPN(
        2, backbone, pyramid_features=3, features=2, output_convs=False, norm=Norm()
    )
    image = np.random.default_rng(0).normal(size=(64, 1024, 1)).astype(np.float32)
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), jnp.asarray(image[None, :32, :32])
    )
    apply = lambda v, x: model.apply(v, x, train=False)["logits"]
    partial = jax.tree_util.Partial(apply, variables)
    whole, tiled = (
        Predictor(partial, model.geometry, tile=tile).logits(image) for tile in (0, 64)
    )
    assert np.std(whole) > 0.01 * np.abs(whole).max()
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


def test_other_maps_and_groups_are_refused_by_name():
    with pytest.raises(ValueError, match=r"at strides \[4, 8, 16, 16\]; they have"):
        SemanticFPN(2, ResNet(18, output_stride=16))
    with pytest.raises(ValueError, match=r"features is 48, which norm\.groups, 32"):
        SemanticFPN(2, ResNet(18), features=48)
