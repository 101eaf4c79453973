"""DeepLab v3, v3+ and LR-ASPP: published figures, one set of weights at two strides,
where the logits lie, torchvision.
"""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.mobilenet_v3 import MobileNetV3
from segjax.backbones.resnet import ResNet
from segjax.backbones.xception import Xception
from segjax.geometry.fields import Layer
from segjax.layers.conv_norm import ConvNorm
from segjax.models import LRASPP, DeepLabV3, DeepLabV3Plus
from segjax.predict.tiled import Predictor

QUICK = {"xla_backend_optimization_level": 0}
"""Small networks are run once: what they cost is the compilation."""

TORCHVISION = {"refine": True, "align_corners": False, "dropout_rate": 0.5}


class Strided(nn.Module):
    """A backbone of one convolution a stage, whose strides can be left out."""

    output_stride: int = 16

    @nn.compact
    def __call__(self, image, *, train):
        x, stages = image, {}
        for layer in self.layers():
            name, kernel = layer.name.split("/")[0], (layer.kernel, layer.kernel)
            geometry = layer.stride, layer.padding, layer.dilation
            x = ConvNorm(4, kernel, *geometry, name=name)(x, train=train)
            stages[name] = x
        return stages

    def layers(self, stage="stage5"):
        path, dilation = [], 1
        for i in range(1, int(stage.removeprefix("stage")) + 1):
            stride = 2 if 2**i <= self.output_stride else 1
            layer = Layer(f"stage{i}/conv", 3, stride, dilation, dilation)
            path.append(layer)
            dilation *= 2 // stride
        return tuple(path)


SMALL = {
    "v3": DeepLabV3(2, Strided(), rates=(1, 2), features=3),
    "v3plus": DeepLabV3Plus(
        2,
        Strided(),
        rates=(1, 2),
        features=3,
        low_level_features=3,
        decoder_features=(3,),
    ),
    "lraspp": LRASPP(2, Strided(), features=3, align_corners=True),
}


def shapes(model, height=65, width=65):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    return jax.eval_shape(init, image)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def apply(model, variables, image):
    forward = functools.partial(model.apply, train=False)
    return jax.jit(forward, compiler_options=QUICK)(variables, image)["logits"]


# Published figures


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (DeepLabV3(21, ResNet(50, output_stride=16)), 39_048_533),
        (DeepLabV3(21, ResNet(50, output_stride=16, stem="deep")), 39_172_309),
        (DeepLabV3(21, ResNet(50, output_stride=8), **TORCHVISION), 39_638_869),
        (DeepLabV3(21, ResNet(101, output_stride=8), **TORCHVISION), 58_630_997),
        (
            DeepLabV3(
                21, ResNet(50, output_stride=8), aux_stage="stage4", **TORCHVISION
            ),
            42_004_074,
        ),
        (
            DeepLabV3(
                21,
                MobileNetV3(output_stride=16, dilate_first_block=True),
                aux_stage="stage3_first",
                **TORCHVISION,
            ),
            11_029_328,
        ),
        (DeepLabV3Plus(19, Xception(output_stride=16)), 41_054_899),
        (DeepLabV3Plus(150, Xception(output_stride=16)), 41_088_566),
        (DeepLabV3Plus(21, ResNet(101, output_stride=16)), 45_688_261),
        (
            DeepLabV3Plus(21, ResNet(50, output_stride=16), separable=False),
            40_352_181,
        ),
        (
            DeepLabV3Plus(21, ResNet(101, output_stride=16), separable=False),
            59_344_309,
        ),
        (
            DeepLabV3Plus(
                21, ResNet(101, output_stride=16, stem="deep"), separable=False
            ),
            59_468_085,
        ),
    ],
)
def test_parameter_counts_are_the_published_ones(model, expected):
    outputs, variables = shapes(model)
    assert outputs["logits"].shape == (1, 65, 65, model.num_classes)
    assert count(variables["params"]) == expected


def test_norms_of_the_head_are_those_of_the_release():
    head = DeepLabV3(21, ResNet(50, output_stride=16))
    assert head.norm.momentum == 0.9997


# One set of weights at two output strides


def random_weights(model, seed=0, image_branch=True):
    rng = np.random.default_rng(seed)

    def sample(path, leaf):
        names = [entry.key for entry in path]
        if names[-1] == "kernel":
            if not image_branch and ("image" in names or "scale" in names):
                return jnp.zeros(leaf.shape)
            return jnp.asarray(rng.uniform(0, 1, leaf.shape), jnp.float32)
        if names[-1] in ("bias", "mean"):
            return jnp.zeros(leaf.shape)
        return jnp.ones(leaf.shape)

    return jax.tree_util.tree_map_with_path(sample, shapes(model)[1])


@pytest.mark.parametrize("model", SMALL.values(), ids=SMALL)
def test_output_stride_8_takes_the_variables_of_16(model):
    dense = model.clone(backbone=model.backbone.clone(output_stride=8))
    assert jax.tree.map(jnp.shape, shapes(dense)[1]) == jax.tree.map(
        jnp.shape, shapes(model)[1]
    )


def test_rates_double_so_that_dense_logits_hold_the_strided_ones():
    """Without the mean over the image, which at another stride is over other pixels."""
    model = SMALL["v3"]
    variables = random_weights(model, image_branch=False)
    image = np.random.default_rng(1).uniform(size=(1, 65, 97, 3)).astype(np.float32)
    strided = apply(model, variables, image)[:, ::16, ::16]
    dense_model = model.clone(backbone=model.backbone.clone(output_stride=8))
    dense = apply(dense_model, variables, image)[:, ::16, ::16]
    np.testing.assert_allclose(dense, strided, rtol=1e-5)
    assert np.std(strided) > 0.01 * np.abs(strided).max()


# Where the logits lie


@functools.cache
def responses(name):
    """The model with symmetric weights, as a function of the image alone."""
    model = SMALL[name]
    variables = random_weights(model, image_branch=False)

    def symmetric(leaf):
        if leaf.ndim != 4:
            return leaf
        leaf = leaf + leaf[::-1]
        return leaf + leaf[:, ::-1]

    variables = jax.tree.map(symmetric, variables)
    return lambda image: model.apply(variables, image, train=False)["logits"]


@pytest.mark.parametrize("name", SMALL)
def test_logits_lie_on_what_they_see_whatever_the_size_of_the_image(name):
    """A dot at a pixel of the coarse map shows up around it, and moves with it."""
    pairs = 10 if name == "v3plus" else 2
    predictor = Predictor(responses(name), SMALL[name].geometry, tile=0)
    rows, columns = np.mgrid[:241, :257]
    for height, width in [(240 - i, 247 + i) for i in range(pairs)]:
        for dot in [(112, 112), (128, 112), (112, 128)]:
            image = np.zeros((height, width, 3), np.float32)
            image[dot] = 1.0
            response = predictor.logits(image)[..., 0]
            weight = response - response[0, 0]
            assert weight.max() > 0
            centre = [
                (weight * axis[:height, :width]).sum() / weight.sum()
                for axis in (rows, columns)
            ]
            np.testing.assert_allclose(centre, dot, atol=0.01)


# Bad input


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: DeepLabV3(0, Strided()),
            "num_classes is an integer of at least 1, got 0",
        ),
        (
            lambda: DeepLabV3(2, Strided(), rates=(0,)),
            "rates holds integers of at least 1, got (0,)",
        ),
        (
            lambda: DeepLabV3(2, Strided(output_stride=32), rates=(3,)),
            "rates are (3,) at output stride 16, of which 3 is not an integer of pixels "
            "at output_stride 32; allowed are multiples of 2",
        ),
        (
            lambda: DeepLabV3(2, ResNet(18), aux_stage="layer3"),
            "aux_stage names no map of the backbone: stage is one of stage1 to stage5, "
            "got 'layer3'",
        ),
        (
            lambda: DeepLabV3Plus(2, ResNet(18), low_level_stage="conv2"),
            "low_level_stage names no map of the backbone: stage is one of stage1 to "
            "stage5, got 'conv2'",
        ),
        (
            lambda: DeepLabV3Plus(2, Strided(), dropout_rate=1.0),
            "dropout_rate is at least 0 and less than 1, got 1.0",
        ),
        (
            lambda: LRASPP(2, Strided(), dtype="int8"),
            'dtype is a dtype of real numbers, such as "float32" or "bfloat16", got '
            "'int8'",
        ),
    ],
)
def test_bad_attributes_are_reported_in_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        make()
