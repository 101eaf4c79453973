"""AlexNet: CaffeNet's figures, and torchvision's form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.alexnet import AlexNet
from segjax.backbones.vgg import convolutionalize
from segjax.geometry.fields import output_size, receptive_field
from segjax.ops.convolution.convolve import conv
from segjax.ops.normalization.local_response import local_response_norm
from segjax.ops.pooling.windowed import max_pool

TORCHVISION = {
    "features": (64, 192, 384, 256, 256),
    "groups": (1, 1, 1, 1, 1),
    "lrn": False,
    "first_padding": 2,
    "ceil_mode": False,
}
FCN = AlexNet(first_padding=100, fully_convolutional=True)
NARROW = {
    "features": (4, 6, 8, 8, 8),
    "groups": (1, 2, 1, 2, 2),
    "fc_features": 16,
    "dropout_rate": 0.0,
}


def abstract(model, side):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    stages, variables = jax.eval_shape(init, image)
    return {name: x.shape[1:] for name, x in stages.items()}, variables["params"]


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


def run(model, variables, image):
    return jax.jit(functools.partial(model.apply, train=False))(variables, image)


@functools.cache
def random_case(model, side, seed=0):
    image = np.random.default_rng(seed).normal(size=(1, side, side, 3))
    image = jnp.asarray(image, jnp.float32)
    init = jax.jit(functools.partial(model.init, train=False))
    return image, init(jax.random.key(seed), image)


def test_parameters_of_each_layer_are_those_of_caffenet():
    params = abstract(AlexNet(num_classes=1000), 227)[1]
    assert {name: count(values) for name, values in params.items()} == {
        "conv1": 34_944,
        "conv2": 307_456,
        "conv3": 885_120,
        "conv4": 663_936,
        "conv5": 442_624,
        "fc6": 37_752_832,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    }


def test_torchvisions_form_has_as_many_parameters_as_torchvisions():
    params = abstract(AlexNet(num_classes=1000, **TORCHVISION), 224)[1]
    assert count(params) == 61_100_840


@pytest.mark.parametrize(
    ("stage", "size", "stride"),
    [
        ("stage2", 11, 4),
        ("stage3", 51, 8),
        ("stage4", 163, 16),
        ("stage5", 195, 32),
        ("fc7", 355, 32),
    ],
)
def test_receptive_fields_are_those_of_the_table(stage, size, stride):
    field = receptive_field(AlexNet().layers(stage))
    assert (field.size, field.stride) == (size, stride)


def test_sizes_of_an_image_of_500_pixels_are_those_of_fcn():
    stages, _ = abstract(FCN, 500)
    sizes = {"stage2": 173, "stage3": 86, "stage4": 43, "stage5": 21, "fc7": 16}
    assert {name: shape[0] for name, shape in stages.items()} == sizes
    assert {name: output_size(FCN.layers(name), 500) for name in sizes} == sizes


def test_groups_do_not_see_each_other():
    model = AlexNet(**NARROW, lrn=False)
    image, variables = random_case(model, 99)
    params = variables["params"]
    kernel = params["conv1"]["kernel"].at[..., :2].set(0.0)
    cut = params | {"conv1": params["conv1"] | {"kernel": kernel}}
    before = run(model, variables, image)["stage3"]
    after = run(model, {"params": cut}, image)["stage3"]
    np.testing.assert_array_equal(after[..., 3:], before[..., 3:])
    assert (after[..., :3] != before[..., :3]).any()


def test_normalisation_comes_between_pooling_and_convolution():
    model = AlexNet(**NARROW)
    image, variables = random_case(model, 99)
    stages = run(model, variables, 100 * image)
    x = local_response_norm(max_pool(stages["stage2"], window=3, stride=2))
    params = variables["params"]["conv2"]
    x = (
        conv(x, params["kernel"], padding=2, groups=2)
        + params["bias"][None, None, None]
    )
    np.testing.assert_allclose(
        stages["stage3"], jnp.maximum(x, 0), rtol=1e-4, atol=1e-3
    )
    plain = run(model.clone(lrn=False), variables, 100 * image)
    assert (plain["stage3"] > 2 * stages["stage3"]).any()


def test_one_window_is_scored_alike_by_both_forms():
    dense = AlexNet(**NARROW, num_classes=3)
    image, variables = random_case(dense, 227)
    expected = run(dense, variables, image)["logits"]
    found = run(dense.clone(fully_convolutional=True), variables, image)["logits"]
    assert found.shape == (1, 1, 1, 3)
    assert expected.any()
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"output_stride": 16}, "output_stride of AlexNet is 32, got 16"),
        ({"groups": (1, 2)}, "one entry a convolution, five"),
        ({"features": (4, 4, 4, 4, 4, 4)}, "one entry a convolution, five"),
        ({"features": (4, 4, 4, 4, 0)}, "features holds integers"),
        ({"first_padding": -1}, "first_padding is at least 0"),
        ({"num_classes": 0}, "num_classes is an integer"),
        ({"dropout_rate": -0.5}, "dropout_rate"),
        ({"param_dtype": "int8"}, "param_dtype is a dtype of real numbers"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        AlexNet(**changes)


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match=r"stage2, .*fc7, got stage1"):
        AlexNet().layers("stage1")


@pytest.mark.parity
@pytest.mark.parametrize("size", [(129, 97), (256, 320)])
def test_scores_are_those_of_torchvision(torchvision, size):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    features = torchvision.models.AlexNet(num_classes=2).features
    head = torch.nn.Sequential(
        torch.nn.Dropout(), torch.nn.Linear(9216, 8), torch.nn.ReLU(),
        torch.nn.Dropout(), torch.nn.Linear(8, 8), torch.nn.ReLU(),
        torch.nn.Linear(8, 10),
    )  # fmt: skip
    reference = torch.nn.Sequential(
        features, torch.nn.AdaptiveAvgPool2d(6), torch.nn.Flatten(), head
    ).eval()
    params = {}
    for i, index in enumerate((0, 3, 6, 8, 10), 1):
        kernel = features[index].weight.detach().numpy().transpose(2, 3, 1, 0)
        params[f"conv{i}"] = {
            "kernel": kernel,
            "bias": features[index].bias.detach().numpy(),
        }
    for i, (index, window, channels) in enumerate(
        ((1, 6, 256), (4, 1, 8), (6, 1, 8)), 6
    ):
        weight = jnp.asarray(head[index].weight.detach().numpy().T)
        kernel = convolutionalize(weight, window=(window, window), channels=channels)
        params[f"fc{i}"] = {"kernel": kernel, "bias": head[index].bias.detach().numpy()}
    model = AlexNet(num_classes=10, fc_features=8, **TORCHVISION)
    image = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    found = run(model, {"params": params}, image)["logits"]
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)
