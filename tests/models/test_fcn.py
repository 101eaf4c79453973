"""FCN: counts and fields of the paper, alignment to the pixel, stages of training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from segjax.backbones.alexnet import AlexNet
from segjax.backbones.googlenet import GoogLeNet
from segjax.backbones.resnet import ResNet
from segjax.backbones.vgg import VGG
from segjax.geometry.fields import input_window, receptive_field
from segjax.models.fcn import FCN
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.resizing.resize import bilinear_kernel
from segjax.predict.tiled import Predictor

RELEASE = {"first_padding": 100, "fully_convolutional": True}
STAGES = {"32s": (), "16s": ("stage4",), "8s": ("stage4", "stage3")}
ALEXNET = AlexNet(**RELEASE)
GOOGLENET = GoogLeNet(first_padding=100)


def vgg(features=(4, 4, 4, 4, 4), fc_features=8, depth=16, dropout_rate=0.0):
    return VGG(
        depth,
        features=features,
        fc_features=fc_features,
        dropout_rate=dropout_rate,
        ceil_mode=True,
        **RELEASE,
    )


QUICK = {"xla_backend_optimization_level": 0}
"""Small networks are run once: what they cost is the compilation."""

SMALL = VGG(11, features=(4, 6, 8, 8, 8), ceil_mode=True)
"""Quick to compile; its stages have strides 2 to 32."""


def abstract(model, side, train=False):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=train)
    outputs, variables = jax.eval_shape(init, image)
    return outputs, variables["params"]


def initialised(model, shape, seed=0):
    init = functools.partial(model.init, train=False)
    quick = jax.jit(init, compiler_options=QUICK)
    return quick(jax.random.key(seed), jnp.zeros(shape))


def random_weights(model, shape, seed=0):
    """Variables as they could be after training; nothing is compiled."""
    shapes = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros(shape)
    )
    rng = np.random.default_rng(seed)

    def sample(leaf):
        inputs = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        values = rng.normal(size=leaf.shape) * np.sqrt(2 / inputs)
        return jnp.asarray(values, jnp.float32)

    return jax.tree.map(sample, shapes)


def logits_of(model):
    return lambda v, x: model.apply(v, x, train=False)["logits"]


def logits(model):
    return jax.jit(logits_of(model), compiler_options=QUICK)


def picture(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


# The paper's figures


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (FCN(21), 134_346_581),
        (FCN(21, skips=STAGES["16s"]), 134_357_354),
        (FCN(21, skips=STAGES["8s"]), 134_362_751),
        (FCN(21, skips=STAGES["8s"], skip_scales=(0.01, 0.0001)), 134_362_751),
        (FCN(21, upsampling="learned"), 136_152_917),
        (FCN(21, skips=STAGES["16s"], upsampling="learned"), 134_815_994),
        (FCN(21, skips=STAGES["8s"], upsampling="learned"), 134_489_759),
        (FCN(21, skips=STAGES["8s"], upsampling="paper"), 134_362_751 + 2 * 7_056),
        (FCN(21, ALEXNET), 56_954_261),
        (FCN(21, ALEXNET, upsampling="learned"), 58_704_590),
        (FCN(21, GOOGLENET), 5_995_077),
    ],
)
def test_parameter_counts_are_those_of_the_paper(model, expected):
    outputs, params = abstract(model, 100)
    assert count(params) == expected
    assert outputs["logits"].shape == (1, 100, 100, 21)


@pytest.mark.parametrize(
    ("depth", "aux_stage", "expected"),
    [
        (50, None, 32_957_013),
        (101, "stage4", 54_314_346),
    ],
)
def test_torchvisions_form_has_as_many_parameters_as_torchvisions(
    depth, aux_stage, expected
):
    outputs, params = abstract(torchvisions(21, depth, aux_stage), 129, train=True)
    assert count(params) == expected
    assert {x.shape for x in outputs.values()} == {(1, 129, 129, 21)}
    assert set(outputs) == {"logits"} | ({"aux_logits"} if aux_stage else set())


def torchvisions(num_classes, depth, aux_stage):
    return FCN(
        num_classes,
        ResNet(depth, output_stride=8),
        upsampling="resize",
        head="conv",
        dropout_rate=0.1,
        aux_stage=aux_stage,
    )


@pytest.mark.parametrize(
    ("model", "size"),
    [(FCN(21), 404), (FCN(21, ALEXNET), 355), (FCN(21, GOOGLENET), 715)],
    ids=["VGG-16", "AlexNet", "GoogLeNet"],
)
def test_scores_see_what_the_paper_says(model, size):
    field = receptive_field(model.score_layers())
    assert (field.size, field.stride) == (size, 32)


@pytest.mark.parametrize("backbone", [vgg(), ALEXNET, GOOGLENET, ResNet(18)])
@pytest.mark.parametrize("skips", [(), ("stage4", "stage3")], ids=["32s", "8s"])
def test_logits_sit_on_the_pixels_of_the_image(backbone, skips):
    field = receptive_field(FCN(21, backbone, skips).layers())
    assert (field.centre, field.stride) == (0, 1)


# Alignment, seen from outside


def responses(model, height):
    """Rows of the logits above the answer to nothing, averaged over all phases.

    Each image of the batch has one bright row, the next one a row further down; each
    answer is moved back by as much. With positive weights that are symmetric, what is
    left is symmetric about row 0 if, and only if, nothing is shifted on the way.
    """
    stride, middle = 32, height // 2
    rows = middle + np.arange(stride)
    image = np.zeros((stride, height, 1, 3), np.float32)
    image[np.arange(stride), rows] = 1.0
    shapes = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), image
    )
    variables = jax.tree_util.tree_map_with_path(_positive, shapes)
    found = np.asarray(_parts(model, variables, image))[..., 0, 0].astype(np.float64)
    reach = min(rows[0], height - rows[-1]) - 1
    total = np.zeros((found.shape[0], 2 * reach + 1))
    for answer, row in zip(found.swapaxes(0, 1), rows, strict=True):
        total += answer[:, row - reach : row + reach + 1]
    return total, np.arange(-reach, reach + 1)


def _positive(path, leaf):
    name = path[-1].key
    if name == "kernel":
        return jnp.full(leaf.shape, 1.0 / np.prod(leaf.shape[:3]), leaf.dtype)
    return jnp.full(leaf.shape, 1.0 if name in ("scale", "var") else 0.0, leaf.dtype)


def _parts(model, variables, image):
    """The logits of each scored map by itself, `[parts, B, H, W, K]`."""
    scores = [name for name in variables["params"] if name.startswith("score")]
    alone = {
        name: jax.tree.map(
            lambda x, i=i: jnp.stack([x * float(i == j) for j in range(len(scores))]),
            variables["params"][name],
        )
        for i, name in enumerate(scores)
    }
    shared = {k: v for k, v in variables["params"].items() if k not in alone}

    def apply(alone):
        given = variables | {"params": shared | alone}
        return model.apply(given, image, train=False)["logits"]

    return jax.jit(jax.vmap(apply), compiler_options=QUICK)(alone)


ONE = {"features": (1, 1, 1, 1, 1), "fc_features": 1}


@pytest.mark.quick(1)
@pytest.mark.parametrize("height", [523, 531, 537, 541, 547, 555, 561])
def test_fcn_8s_is_aligned_with_the_image_to_the_pixel(height):
    """Moved by one pixel, the mean of a response would be one pixel off."""
    total, rows = responses(FCN(1, vgg(**ONE), STAGES["8s"]), height)
    assert len(total) == 3
    for part in total:
        assert part.sum() > 0
        assert abs((part * rows).sum() / part.sum()) < 0.02
        assert part[0] + part[-1] < 1e-3 * part.max()


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("model", "height"),
    [
        (FCN(1, vgg(**ONE)), 525),
        (FCN(1, vgg(**ONE), STAGES["16s"]), 527),
        (FCN(1, AlexNet(**ONE, **RELEASE, groups=(1,) * 5, lrn=False)), 491),
        (FCN(1, ResNet(18, features=1), STAGES["8s"]), 601),
    ],
    ids=["32s", "16s", "AlexNet", "ResNet"],
)
def test_the_others_are_aligned_with_the_image_to_the_pixel(model, height):
    total, rows = responses(model, height)
    for part in total:
        assert part.sum() > 0
        assert abs((part * rows).sum() / part.sum()) < 0.02


# Skips and stages of training


def test_the_release_is_what_the_code_of_the_release_does():
    """FCN-8s written out: plain transposed convolutions, and its own offsets."""
    model = FCN(2, vgg(), STAGES["8s"], (0.01, 0.0001), zero_scores=False)
    image = jnp.asarray(picture(1, 70, 45, 3))
    variables = random_weights(model, image.shape)
    stages = jax.jit(lambda v, x: vgg().apply(v, x, train=False))(
        {"params": variables["params"]["backbone"]}, image
    )

    def score(name, x):
        weights = variables["params"][name]
        return x @ weights["kernel"][0, 0] + weights["bias"][None, None, None]

    def deconvolve(x, taps, stride):
        return conv_transpose(x, bilinear_kernel(taps, channels=2), stride=stride)

    def cut(x, offset, reference):
        height, width = reference.shape[1:3]
        return x[:, offset : offset + height, offset : offset + width]

    x = deconvolve(score("score", stages["fc7"]), 4, 2)
    x += cut(score("score_stage4", 0.01 * stages["stage4"]), 5, x)
    x = deconvolve(x, 4, 2)
    x += cut(score("score_stage3", 0.0001 * stages["stage3"]), 9, x)
    expected = cut(deconvolve(x, 16, 8), 31, image)
    found = logits(model)(variables, image)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_scores_start_at_zero_and_so_do_the_logits():
    model = FCN(3, SMALL, STAGES["8s"])
    image = picture(1, 33, 33, 3)
    variables = initialised(model, image.shape)
    assert not logits(model)(variables, image).any()


def test_a_coarser_net_starts_the_next_which_begins_where_it_ended():
    """All names fit; with the new score at zero, what is learned is still there."""
    image = picture(1, 64, 64, 3)
    trained = random_weights(FCN(3, vgg(depth=11)), image.shape)["params"]
    before = logits(FCN(3, vgg(depth=11)))({"params": trained}, image)
    assert float(jnp.abs(before).max()) > 1e-3
    for name in ("16s", "8s"):
        model = FCN(3, vgg(depth=11), STAGES[name])
        _, shapes = abstract(model, 64)
        assert trained.keys() < shapes.keys()
        assert jax.tree.map(jnp.shape, trained) == jax.tree.map(
            jnp.shape, {key: shapes[key] for key in trained}
        )
        new = {key: shapes[key] for key in shapes.keys() - trained.keys()}
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), new)
        after = logits(model)({"params": trained | zeros}, image)
        agree = np.corrcoef(np.ravel(before), np.ravel(after))[0, 1]
        assert agree > 0.95


@pytest.mark.parametrize("upsampling", ["fixed", "learned", "resize"])
def test_every_skip_matters(upsampling):
    model = FCN(2, SMALL, STAGES["8s"], upsampling=upsampling)
    image = picture(1, 161, 161, 3)
    params = random_weights(model, image.shape)["params"]
    upsampling = {key: x for key, x in params.items() if "upsample" in key}
    for key, value in upsampling.items():
        kernel = bilinear_kernel(value["kernel"].shape[0], channels=2)
        params[key] = {"kernel": kernel}
    apply = logits(model)
    whole = apply({"params": params}, image)
    for name in ("score", "score_stage4", "score_stage3"):
        more = params[name] | {"bias": params[name]["bias"] + 1.0}
        found = apply({"params": params | {name: more}}, image) - whole
        np.testing.assert_allclose(found[0, 64:-64, 64:-64], 1.0, rtol=1e-4)


def test_learned_upsampling_begins_as_the_fixed_one():
    image = picture(1, 65, 49, 3)
    fixed = FCN(2, SMALL, STAGES["8s"], zero_scores=False)
    learned = fixed.clone(upsampling="learned")
    variables = initialised(learned, image.shape)
    assert variables["params"]["upsample_stage4"]["kernel"].shape == (4, 4, 2, 2)
    assert variables["params"]["upsample8"]["kernel"].shape == (16, 16, 2, 2)
    less = {k: v for k, v in variables["params"].items() if "upsample" not in k}
    expected = logits(fixed)(variables | {"params": less}, image)
    found = logits(learned)(variables, image)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_alone():
    model = FCN(2, SMALL, dropout_rate=0.5, zero_scores=False)
    image = picture(1, 16, 16, 3)
    variables = random_weights(model, image.shape)
    apply = jax.jit(model.apply, static_argnames="train")
    found = lambda train, key: apply(
        variables, image, train=train, rngs={"dropout": jax.random.key(key)}
    )["logits"]
    np.testing.assert_array_equal(found(False, 0), found(False, 1))
    assert (found(True, 0) != found(True, 1)).any()


# Tiles, sizes and errors


@pytest.mark.parametrize("skips", [(), ("stage4", "stage3")], ids=["32s", "8s"])
def test_tiles_give_what_the_whole_image_gives(skips):
    model = FCN(2, vgg(depth=11), skips, zero_scores=False)
    image = picture(577, 41, 3)
    variables = random_weights(model, (1, 33, 33, 3))
    apply = Partial(logits_of(model), variables)
    expected = np.asarray(logits(model)(variables, image[None]))[0]
    predictor = Predictor(apply, model.geometry, tile=33)
    found = predictor.logits(image)
    assert expected.std() > 1e-3
    assert 2 * model.geometry.halo + 33 < image.shape[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


def test_tiles_of_a_side_that_is_no_multiple_of_the_stride_are_the_whole_image_too():
    """They end anywhere within a stride, so the halo is that of the farthest pixel."""
    model = FCN(2, vgg(depth=11), STAGES["8s"], zero_scores=False)
    image = picture(590, 9, 3)
    variables = random_weights(model, (1, 33, 33, 3))
    apply = Partial(logits_of(model), variables)
    expected = np.asarray(logits(model)(variables, image[None]))[0]
    found = Predictor(apply, model.geometry, tile=33).logits(image)
    assert model.geometry.halo % 32
    assert 2 * model.geometry.halo + 2 * 33 < image.shape[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.std())


def test_the_halo_is_what_the_pixel_that_looks_farthest_needs():
    model = FCN(21)
    windows = [input_window(model.layers(), i, i + 1) for i in range(32)]
    reach = [max(i - a, b - 1 - i) for i, (a, b) in enumerate(windows)]
    assert model.geometry.halo == max(reach) == 233


@pytest.mark.parametrize("upsampling", ["fixed", "learned", "resize"])
def test_logits_are_not_rounded_where_the_computation_is_in_bfloat16(upsampling):
    model = FCN(2, SMALL, upsampling=upsampling, zero_scores=False, dtype=jnp.bfloat16)
    image = picture(1, 64, 9, 3)
    found = logits(model)(random_weights(model, image.shape), image)
    assert found.dtype == jnp.float32
    rounded = found.astype(jnp.bfloat16).astype(jnp.float32)
    assert (rounded != found).mean() > 0.2


def test_resized_logits_are_never_tiled():
    assert FCN(2, ResNet(18), upsampling="resize").geometry.halo is None


def test_unpadded_scores_that_cannot_reach_the_border_are_refused():
    backbone = VGG(ceil_mode=True, fully_convolutional=True)
    with pytest.raises(ValueError, match="a larger first_padding of the backbone"):
        FCN(21, backbone)
    assert FCN(21, backbone.clone(first_padding=88)).geometry.minimum == 19


def test_an_image_below_the_minimum_is_refused():
    model = FCN(2, GoogLeNet())
    assert model.geometry.minimum == 31
    with pytest.raises(ValueError, match="image W = 30 is too small"):
        jax.eval_shape(
            lambda x: model.init(jax.random.key(0), x, train=False),
            jnp.zeros((1, 31, 30, 3)),
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"upsampling": "nearest"}, "upsampling of FCN is one of fixed, .*'nearest'"),
        ({"head": "dense"}, "head of FCN is one of score, conv, got 'dense'"),
        ({"skips": ("stage4",), "skip_scales": (1.0, 2.0)}, "skip_scales holds one"),
        ({"skips": ("stage3", "stage4")}, "from coarse to fine"),
        ({"skips": ("stage6",)}, "stage of VGG is one of"),
        ({"num_classes": 0}, "num_classes is an integer of at least 1, got 0"),
        ({"dropout_rate": 1.0}, "dropout_rate is at least 0 and less than 1"),
        ({"dtype": "int32"}, "dtype is a dtype of real numbers"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        FCN(**({"num_classes": 2} | changes))
