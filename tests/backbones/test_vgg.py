"""VGG: the paper's figures, dilation, dense weights as convolutions, torchvision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.vgg import CONVOLUTIONS, VGG, convolutionalize
from segjax.geometry.fields import output_size, receptive_field
from segjax.layers.norm import Norm

FCN = {"first_padding": 100, "ceil_mode": True, "fully_convolutional": True}
NARROW = {"features": (4, 6, 8, 8, 8), "fc_features": 32, "dropout_rate": 0.0}


def abstract(model, side):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    stages, variables = jax.eval_shape(init, image)
    return {name: x.shape[1:] for name, x in stages.items()}, variables["params"]


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


def run(model, variables, image):
    return jax.jit(functools.partial(model.apply, train=False))(variables, image)


def random_case(model, shape, seed=0):
    image = jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
    init = jax.jit(functools.partial(model.init, train=False))
    return image, init(jax.random.key(seed), image)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (VGG(), 14_714_688),
        (VGG(num_classes=1000), 138_357_544),
        (VGG(num_classes=1000, norm=Norm()), 138_365_992),
        (VGG(depth=11, num_classes=1000), 132_863_336),
        (VGG(depth=19, num_classes=1000), 143_667_240),
        (VGG(**FCN), 14_714_688 + 102_764_544 + 16_781_312),
    ],
)
def test_parameter_counts_are_those_of_the_paper_and_torchvision(model, expected):
    assert count(abstract(model, 224)[1]) == expected


def test_parameters_of_each_layer_are_those_of_the_paper():
    params = abstract(VGG(num_classes=1000), 224)[1]
    some = {
        "conv1_1": 1_792,
        "conv1_2": 36_928,
        "conv3_1": 295_168,
        "conv5_3": 2_359_808,
        "fc6": 102_764_544,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    }
    assert {name: count(params[name]) for name in some} == some
    assert len(params) == 16


@pytest.mark.parametrize(
    ("stage", "size", "stride"),
    [
        ("stage1", 6, 2),
        ("stage2", 16, 4),
        ("stage3", 44, 8),
        ("stage4", 100, 16),
        ("stage5", 212, 32),
        ("fc7", 404, 32),
    ],
)
def test_receptive_fields_are_those_of_the_table(stage, size, stride):
    field = receptive_field(VGG().layers(stage))
    assert (field.size, field.stride) == (size, stride)


@pytest.mark.parametrize(
    ("model", "side", "expected"),
    [
        (VGG(**FCN), 500, [349, 175, 88, 44, 22, 16]),
        (VGG(), 224, [112, 56, 28, 14, 7]),
        (VGG(ceil_mode=True), 500, [250, 125, 63, 32, 16]),
        (VGG(output_stride=8, pool_window=3), 321, [161, 81, 41, 41, 41]),
        (
            VGG(padding=0, first_padding=0, output_stride=8),
            900,
            [448, 222, 108, 102, 90],
        ),
    ],
    ids=["FCN", "classifier", "ceil", "DeepLab", "front end"],
)
def test_sizes_are_those_of_the_systems_that_stand_on_it(model, side, expected):
    stages, _ = abstract(model, side)
    names = [f"stage{i}" for i in range(1, 6)]
    names += ["fc7"] if "fc7" in stages else []
    assert [stages[name][0] for name in names] == expected
    assert [output_size(model.layers(name), side) for name in names] == expected


def test_the_front_end_of_dilated_networks_sees_380_pixels():
    model = VGG(output_stride=8, padding=0, first_padding=0, fully_convolutional=True)
    assert abstract(model, 900)[0]["fc7"] == (66, 66, 4096)
    field = receptive_field(model.layers("fc7"))
    assert (field.size, field.stride) == (380, 8)


def test_the_dense_maps_hold_the_strided_ones():
    """A pooling of 3x3 at stride 1 reads, at every other place, what stride 2 reads."""
    dense = VGG(**NARROW, pool_window=3, output_stride=8)
    image, variables = random_case(dense, (1, 65, 49, 3))
    maps = {
        stride: run(dense.clone(output_stride=stride), variables, image)
        for stride in (8, 16, 32)
    }
    np.testing.assert_allclose(
        maps[8]["stage4"][:, ::2, ::2], maps[16]["stage4"], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        maps[16]["stage5"][:, ::2, ::2], maps[32]["stage5"], rtol=1e-5, atol=1e-5
    )
    assert maps[16]["stage4"].any()
    assert maps[32]["stage5"].any()
    assert maps[8]["stage5"].shape[1:3] == maps[8]["stage3"].shape[1:3]


def test_fully_convolutional_scores_are_those_of_each_window():
    """Unpadded, the map of scores is the classifier moved along by 32 pixels."""
    model = VGG(
        **NARROW, num_classes=3, padding=0, first_padding=0, fully_convolutional=True
    )
    side = receptive_field(model.layers("fc7")).size
    image, variables = random_case(model, (1, side, side + 32, 3))
    scores = run(model, variables, image)["logits"]
    assert scores.shape == (1, 1, 2, 3)
    window = run(model, variables, image[:, :, 32:])["logits"]
    np.testing.assert_allclose(scores[:, :, 1:], window, rtol=1e-4, atol=1e-6)
    assert (scores[:, :, 0] != scores[:, :, 1]).any()


def test_one_window_is_scored_alike_by_both_forms():
    dense = VGG(**NARROW, num_classes=3)
    image, variables = random_case(dense, (2, 224, 224, 3))
    convolutional = dense.clone(fully_convolutional=True)
    found = run(convolutional, variables, image)["logits"]
    expected = run(dense, variables, image)["logits"]
    assert (found.shape, expected.shape) == ((2, 1, 1, 3), (2, 3))
    assert expected.any()
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-5, atol=1e-6)


def test_dense_weights_give_the_same_numbers_as_a_convolution():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    dense = rng.normal(size=(5 * 3 * 4, 6)).astype(np.float32)
    flattened = image.transpose(0, 3, 1, 2).reshape(2, -1)
    kernel = convolutionalize(jnp.asarray(dense), window=(3, 4), channels=5)
    assert kernel.shape == (3, 4, 5, 6)
    found = jnp.einsum("bhwc,hwcf->bf", image, kernel)
    np.testing.assert_allclose(found, flattened @ dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((4096, 25088), r"dense is \(4096, 25088\).*25088, F\]; it looks transposed"),
        ((7, 7, 512, 4096), r"512 channels and 7 x 7 pixels needs \[25088, F\]"),
        ((100, 4096), r"needs \[25088, F\]"),
    ],
)
def test_dense_weights_of_another_layout_are_refused(shape, sentence):
    dense = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(ValueError, match=sentence):
        convolutionalize(dense, window=(7, 7), channels=512)


def test_frozen_norms_keep_their_statistics_in_training():
    model = VGG(depth=11, norm=Norm(), **NARROW)
    image, variables = random_case(model, (1, 33, 33, 3))
    for frozen in (False, True):
        _, changed = model.clone(norm=Norm(frozen=frozen)).apply(
            variables, image, train=True, mutable=["batch_stats"]
        )
        same = jax.tree.map(
            lambda a, b: bool((a == b).all()),
            changed["batch_stats"],
            variables["batch_stats"],
        )
        assert set(jax.tree.leaves(same)) == {frozen}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"depth": 17}, "depth of VGG is one of 11, 13, 16, 19, got 17"),
        ({"output_stride": 4}, "output_stride of VGG is one of 8, 16, 32, got 4"),
        ({"pool_window": 5}, "pool_window of VGG is one of 2, 3, got 5"),
        ({"padding": 2}, "padding of VGG is one of 0, 1"),
        ({"features": (4, 4)}, "one entry a stack, five"),
        ({"features": (4, 4, 4, 4, 0)}, "features holds integers"),
        ({"first_padding": -1}, "first_padding is at least 0"),
        ({"num_classes": 0}, "num_classes is an integer"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
        ({"norm": Norm("group")}, 'norm is a Norm of the kind "batch" or None'),
        ({"dtype": "int32"}, "dtype is a dtype of real numbers"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        VGG(**changes)


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match=r"conv1, stage1, .*fc7, got stage6"):
        VGG().layers("stage6")


@pytest.mark.parity
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("size", [(129, 97), (256, 320)])
def test_scores_are_those_of_torchvision(torchvision, batch_norm, size):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torchvision.models.vgg
    layers = module.make_layers(module.cfgs["D"], batch_norm=batch_norm)
    head = torch.nn.Sequential(
        torch.nn.Linear(512 * 49, 8), torch.nn.ReLU(), torch.nn.Dropout(),
        torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Dropout(),
        torch.nn.Linear(8, 10),
    )  # fmt: skip
    reference = torch.nn.Sequential(
        layers, torch.nn.AdaptiveAvgPool2d(7), torch.nn.Flatten(), head
    ).eval()
    params, stats = _converted(layers, head)
    model = VGG(num_classes=10, norm=Norm() if batch_norm else None, fc_features=8)
    image = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    variables = {"params": params} | ({"batch_stats": stats} if stats else {})
    found = run(model, variables, image)["logits"]
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


def _converted(layers, head):
    names = [
        f"{i}_{k}"
        for i, convs in enumerate(CONVOLUTIONS[16], 1)
        for k in range(1, convs + 1)
    ]
    params, stats, names = {}, {}, iter(names)
    for layer in layers:
        kind = type(layer).__name__
        if kind == "Conv2d":
            name = next(names)
            kernel = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
            bias = layer.bias.detach().numpy()
            params[f"conv{name}"] = {"kernel": kernel, "bias": bias + 0.01}
            layer.bias.data += 0.01
        elif kind == "BatchNorm2d":
            layer.weight.data.uniform_(0.5, 1.5)
            layer.running_var.uniform_(0.5, 1.5)
            layer.running_mean.normal_()
            scale, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            params[f"norm{name}"] = {"scale": scale, "bias": bias}
            mean, var = layer.running_mean.numpy(), layer.running_var.numpy()
            stats[f"norm{name}"] = {"mean": mean, "var": var}
    for name, index, window, channels in (
        ("fc6", 0, (7, 7), 512),
        ("fc7", 3, (1, 1), 8),
        ("fc8", 6, (1, 1), 8),
    ):
        weight = jnp.asarray(head[index].weight.detach().numpy().T)
        kernel = convolutionalize(weight, window=window, channels=channels)
        params[name] = {"kernel": kernel, "bias": head[index].bias.detach().numpy()}
    return params, stats


def test_maps_before_the_poolings_are_stages_too():
    shapes, _ = abstract(VGG(11, **{**NARROW, "fc_features": 4}), 65)
    assert [shapes[f"conv{i}"][0] for i in range(1, 6)] == [65, 32, 16, 8, 4]
    model = VGG(11)
    assert output_size(model.layers("conv4"), 65) == 8
    assert receptive_field(model.layers("conv1")).size == 3


def test_the_network_ends_behind_its_last_stage():
    whole, params = abstract(VGG(11), 64)
    shapes, fewer = abstract(VGG(11, last_stage="conv4"), 64)
    kept = [f"conv{i}" for i in (1, 2, 3, 4)] + [f"stage{i}" for i in (1, 2, 3)]
    assert shapes == {name: whole[name] for name in kept}
    assert set(params) - set(fewer) == {"conv5_1", "conv5_2"}
    with pytest.raises(ValueError, match="stage of VGG is one of"):
        VGG(11, last_stage="conv4").layers("stage4")
    with pytest.raises(ValueError, match='last_stage of VGG is "stage5" where fc6'):
        VGG(11, num_classes=2, last_stage="conv4")
