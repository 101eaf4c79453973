"""DeconvNet: the figures of the paper and of the release, and where its points go."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.geometry.fields import receptive_field
from segjax.layers.norm import Norm
from segjax.models import DeconvNet
from segjax.models.deconvnet import FullyConnectedTranspose
from segjax.ops.convolution.transposed import conv_transpose

PAPER = DeconvNet(21)
SMALL = DeconvNet(3, features=(4, 5), depths=(2, 1), fc_features=6, window=3)


def abstract(model, height, width, **options):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(
        jax.random.key(0), x, train=False, **options
    )
    return jax.eval_shape(init, image)


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@functools.cache
def initialised(model, side=16):
    image = jnp.zeros((1, side, side, 3))
    return jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(image)


def test_parameter_count_is_that_of_the_release():
    params = abstract(PAPER, 224, 224)[1]["params"]
    assert count(params) == 251_805_653
    norms = {name: leaf for name, leaf in params.items() if name.startswith("norm")}
    assert count(norms) == 33_408


def test_sizes_are_those_of_the_release():
    outputs, state = abstract(PAPER, 224, 224, capture_intermediates=True)
    assert outputs["logits"].shape == (1, 224, 224, 21)
    side = lambda name: state["intermediates"][name]["__call__"][0].shape[1:]
    expected = {
        "conv1_2": (224, 224, 64),
        "conv5_3": (14, 14, 512),
        "fc6": (1, 1, 4096),
        "fc7": (1, 1, 4096),
        "fc6_deconv": (7, 7, 512),
        "deconv5_3": (14, 14, 512),
        "deconv4_3": (28, 28, 256),
        "deconv3_3": (56, 56, 128),
        "deconv2_2": (112, 112, 64),
        "deconv1_2": (224, 224, 64),
    }
    assert {name: side(name) for name in expected} == expected


def test_receptive_field_of_fc7_is_that_of_the_specification():
    layers = PAPER.layers()
    fc7 = [layer.name for layer in layers].index("fc7") + 1
    field = receptive_field(layers[:fc7])
    assert (field.size, field.stride) == (404, 32)
    assert receptive_field(layers).centre == 0


def test_larger_images_are_multiples_of_32():
    geometry = PAPER.geometry
    accepted = [side for side in range(400) if geometry.accepted(side)]
    assert accepted == list(range(224, 400, 32))
    assert abstract(PAPER, 256, 224)[0]["logits"].shape == (1, 256, 224, 21)


@pytest.mark.parametrize(
    ("size", "nearest"), [((100, 224), "nearest: 224"), ((224, 250), "224 and 256")]
)
def test_illegal_sizes_are_refused_with_the_nearest_legal_ones(size, nearest):
    with pytest.raises(ValueError, match=nearest):
        abstract(PAPER, *size)


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_spread_is_the_transposed_convolution(size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 5))
    module = FullyConnectedTranspose(4, window=7)
    y, variables = module.init_with_output(jax.random.key(1), x)
    expected = conv_transpose(x, variables["params"]["kernel"])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_a_point_comes_out_where_it_went_in():
    """fc6 takes each place of its window to a channel of its own, and `FullyConnectedTranspose` back."""
    model = DeconvNet(1, (1,) * 5, (1,) * 5, fc_features=49, norm=Norm(epsilon=0.0))
    shapes = abstract_of_one_channel(model)

    def leaf(path, x):
        layer, name = path[-2].key, path[-1].key
        if x.ndim < 4:
            return np.full(x.shape, float(name in ("scale", "var")), np.float32)
        kernel = np.zeros(x.shape, np.float32)
        if layer in ("fc6", "fc6_deconv"):
            kernel.reshape(49, 49)[:] = np.eye(49)
        elif layer == "fc7":
            kernel[0, 0] = np.eye(49)
        else:
            kernel[x.shape[0] // 2, x.shape[1] // 2] = 1.0
        return kernel

    variables = jax.tree_util.tree_map_with_path(leaf, shapes)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    rng = np.random.default_rng(0)
    places = rng.integers(0, 224, (20, 2))
    image = np.zeros((20, 224, 224, 1), np.float32)
    image[np.arange(20), places[:, 0], places[:, 1]] = 1.0
    np.testing.assert_array_equal(apply(image), image)
    # In a larger image more than one window holds the point, and they add up.
    image = np.zeros((1, 256, 224, 1), np.float32)
    image[0, 100, 57] = 1.0
    np.testing.assert_array_equal(apply(image), 2 * image)


def abstract_of_one_channel(model):
    image = jax.ShapeDtypeStruct((1, 224, 224, 1), jnp.float32)
    return jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), image
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"window": 0}, "window is an integer of at least 1, got 0"),
        ({"depths": (1, 1, 1)}, "depths holds one number a level.*it has 3 for 2"),
        ({"fc_features": 2.5}, "fc_features is an integer of at least 1, got 2.5"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        SMALL.clone(**changes)


@pytest.mark.parity
def test_outputs_are_those_of_pytorch():
    """The decoder as the release has it: transposed convolutions 3x3, padding 1."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: jnp.asarray(x + 0.3 * np.abs(rng.normal(size=x.shape)), x.dtype),
        initialised(SMALL),
    )
    image = rng.normal(size=(2, 16, 20, 3)).astype(np.float32)
    tensor = lambda x: torch.from_numpy(np.array(x))
    params, statistics = variables["params"], variables["batch_stats"]

    def normalized(x, name):
        mean, var = (tensor(statistics[name][k]) for k in ("mean", "var"))
        scale, bias = (tensor(params[name][k]) for k in ("scale", "bias"))
        return functional.batch_norm(x, mean, var, scale, bias).relu()

    def conv(x, name, padding=1):
        kernel, bias = (tensor(params[name][k]) for k in ("kernel", "bias"))
        x = functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=padding)
        return x if name == "logits" else normalized(x, norm_of(name))

    def deconv(x, name):
        kernel, bias = (tensor(params[name][k]) for k in ("kernel", "bias"))
        turned = kernel.flip(0, 1).permute(2, 3, 0, 1)
        x = functional.conv_transpose2d(x, turned, bias, padding=1)
        return normalized(x, norm_of(name))

    def norm_of(name):
        return f"norm_{name}" if name[0] != "c" else name.replace("conv", "norm")

    x, kept = tensor(image).permute(0, 3, 1, 2), []
    for i, depth in enumerate(SMALL.depths, 1):
        for j in range(1, depth + 1):
            x = conv(x, f"conv{i}_{j}")
        x, indices = functional.max_pool2d(x, 2, return_indices=True)
        kept.append(indices)
    x = conv(conv(x, "fc6", 0), "fc7", 0)
    kernel, bias = (tensor(params["fc6_deconv"][k]) for k in ("kernel", "bias"))
    x = functional.conv_transpose2d(x, kernel.permute(3, 2, 0, 1), bias)
    x = normalized(x, "norm_fc6_deconv")
    for i in (2, 1):
        x = functional.max_unpool2d(x, kept[i - 1], 2)
        for j in range(1, SMALL.depths[i - 1] + 1):
            x = deconv(x, f"deconv{i}_{j}")
    theirs = conv(x, "logits", 0).permute(0, 2, 3, 1).numpy()
    ours = jax.jit(lambda x: SMALL.apply(variables, x, train=False)["logits"])(image)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
