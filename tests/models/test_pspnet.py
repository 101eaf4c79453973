"""PSPNet: the releases' sizes and counts, the head beside PyTorch, its attributes."""

import functools
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.resnet import ResNet
from segjax.geometry.fields import output_size, receptive_field
from segjax.models import PSPNet

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "pspnet.npz"))
CAFFE = {
    "output_stride": 8,
    "stem": "deep",
    "stem_pool": "ceil",
    "stride_on": "1x1",
    "dilate_first_block": True,
}
SEMSEG = CAFFE | {"stem_pool": "floor", "stride_on": "3x3"}

QUICK = {"xla_backend_optimization_level": 0}
"""Small networks are run once: what they cost is the compilation."""


class Given(nn.Module):
    """A backbone without weights: every eighth pixel of the image."""

    output_stride: int = 8

    @nn.compact
    def __call__(self, image, *, train):
        x = image[:, ::8, ::8]
        return {"stage4": x[..., ::-1], "stage5": x}

    def layers(self, stage="stage5"):
        return ()


def shapes(model, height=97, width=97, train=False):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=train)
    return jax.eval_shape(init, image)


def count(variables):
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


# Published figures


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("depth", "classes", "deployed", "trained"),
    [
        (50, 150, 46_782_550, 49_180_908),
        (50, 21, 46_716_373, 49_081_578),
        (101, 21, 65_708_501, 68_073_706),
        (101, 19, 65_707_475, 68_072_166),
    ],
)
def test_parameter_counts_are_those_of_the_releases(depth, classes, deployed, trained):
    model = PSPNet(classes, ResNet(depth, **CAFFE))
    assert count(shapes(model)[1]) == trained
    assert count(shapes(model.clone(aux_stage=None))[1]) == deployed
    backbone = ResNet(depth, **SEMSEG)
    assert count(shapes(model.clone(backbone=backbone))[1]) == trained


@pytest.mark.parametrize(("side", "map_side"), [(473, 60), (713, 90)])
@pytest.mark.parametrize("release", [CAFFE, SEMSEG], ids=["Caffe", "semseg"])
def test_crops_of_the_releases_become_maps_that_the_bins_divide(
    side, map_side, release
):
    backbone = ResNet(50, **release)
    model = PSPNet(21, backbone)
    assert output_size(backbone.layers("stage5"), side) == map_side
    assert output_size(model.layers(), side) == side
    outputs, _ = shapes(model, side, side)
    assert outputs["logits"].shape == (1, side, side, 21)


def test_receptive_field_of_the_trunk_is_487_pixels_and_of_the_logits_503_to_511():
    layers = PSPNet(150, ResNet(50, **CAFFE)).layers()
    trunk = [layer for layer in layers if layer.name.startswith("backbone/")]
    assert receptive_field(trunk).size == 487
    field = receptive_field(layers)
    assert (field.smallest, field.size, field.stride) == (503, 511, 1)


# The head beside PyTorch


def golden_head():
    variables = {}
    for key, value in GOLDEN.items():
        if key.startswith("variables/"):
            *owner, leaf = key.split("/")[1:]
            place = variables
            for name in owner:
                place = place.setdefault(name, {})
            place[leaf] = jnp.asarray(value)
    model = PSPNet(3, Given(), features=5, dropout_rate=0.0)
    image = jnp.zeros((2, 49, 65, 8)).at[:, ::8, ::8].set(GOLDEN["map"])
    return model, variables, image


def test_logits_are_those_of_pytorch():
    model, variables, image = golden_head()
    apply = jax.jit(functools.partial(model.apply, train=False), compiler_options=QUICK)
    outputs = apply(variables, image)
    assert outputs.keys() == {"logits"}
    expected = GOLDEN["logits evaluation"]
    np.testing.assert_allclose(
        outputs["logits"][:, ::3, ::3], expected, rtol=1e-4, atol=1e-5
    )


def test_both_scores_of_a_training_step_are_those_of_pytorch():
    model, variables, image = golden_head()
    apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    outputs, _ = jax.jit(apply, compiler_options=QUICK)(variables, image)
    for key in ("logits", "aux_logits"):
        expected = GOLDEN[f"{key} training"]
        np.testing.assert_allclose(
            outputs[key][:, ::3, ::3], expected, rtol=1e-3, atol=1e-4
        )


# Attributes


def test_all_pixels_see_the_whole_image_through_the_pyramid_alone():
    image = golden_head()[2]

    def reached(bins):
        model = PSPNet(3, Given(), bins=bins, features=5, aux_stage=None)

        def corner(image):
            outputs, _ = model.init_with_output(jax.random.key(0), image, train=False)
            return outputs["logits"][0, 0, 0].sum()

        gradient = jax.jit(jax.grad(corner), compiler_options=QUICK)(image)
        return np.abs(gradient[0, ::8, ::8]).sum(-1) > 0

    assert reached((1, 2, 3, 6)).all()
    alone = reached(())
    assert alone[:2, :2].any()
    assert not alone[2:].any()
    assert not alone[:, 2:].any()


def test_max_pooling_without_reduction_has_only_the_larger_convolution_more():
    backbone = ResNet(50, **CAFFE)
    reduced, whole = (
        count(shapes(PSPNet(150, backbone, pooling="max", reduce=reduce))[1])
        for reduce in (True, False)
    )
    pyramid = 4 * (2048 * 512 + 2 * 512)
    assert whole - reduced == 9 * 3 * 2048 * 512 - pyramid


def test_same_weights_serve_another_output_stride():
    model = PSPNet(5, ResNet(26, features=4, output_stride=16), features=8)
    variables = shapes(model)[1]
    dense = model.clone(backbone=model.backbone.clone(output_stride=8))
    assert jax.tree.map(jnp.shape, shapes(dense)[1]) == jax.tree.map(
        jnp.shape, variables
    )
    assert dense.geometry.stride == 8
    assert not dense.geometry.tiles


def test_auxiliary_scores_appear_in_training_only():
    model = PSPNet(3, ResNet(18, output_stride=8, features=4), features=4)
    variables = shapes(model)[1]

    def outputs(train):
        apply = functools.partial(model.apply, train=train, mutable=["batch_stats"])
        rngs, image = {"dropout": jax.random.key(0)}, jnp.zeros((2, 33, 33, 3))
        return jax.eval_shape(lambda x: apply(x, image, rngs=rngs)[0], variables)

    assert outputs(train=False).keys() == {"logits"}
    assert outputs(train=True)["aux_logits"].shape == (2, 33, 33, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_classes": 0}, "num_classes is an integer of at least 1, got 0"),
        ({"bins": (1, 0)}, "bins holds integers of at least 1, got (1, 0)"),
        ({"bins": (2, 2)}, "bins are different numbers, got (2, 2)"),
        ({"pooling": "sum"}, "pooling is one of ('average', 'max'), got 'sum'"),
        ({"dropout_rate": 1.0}, "dropout_rate is at least 0 and less than 1, got 1.0"),
    ],
)
def test_bad_attributes_are_reported_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        PSPNet(**{"num_classes": 2, "backbone": Given()} | options)


# PyTorch, live


def torch_head(torch, channels, classes):
    """Pyramid, convolution and classifier, written in PyTorch."""
    nn = torch.nn

    def conv_norm(inputs, outputs, kernel):
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

    levels = [conv_norm(channels, channels // 4, 1) for _ in range(4)]
    return nn.ModuleList(
        [*levels, conv_norm(2 * channels, 512, 3), nn.Conv2d(512, classes, 1)]
    ).eval()


def flax_of(block):
    """Parameters and statistics of one convolution with its norm."""
    conv, norm, _ = block
    arrays = {"kernel": conv.weight.detach().numpy().transpose(2, 3, 1, 0)}
    affine = {"scale": norm.weight, "bias": norm.bias}
    statistics = {"mean": norm.running_mean, "var": norm.running_var}
    affine, statistics = (
        {key: value.detach().numpy() for key, value in part.items()}
        for part in (affine, statistics)
    )
    return {"conv": arrays, "norm": affine}, {"norm": statistics}


@pytest.mark.parity
@pytest.mark.parametrize("size", [(129, 97), (256, 320)])
def test_network_on_a_dilated_resnet_50_is_that_of_pytorch(torchvision, size):
    from segjax import pretrained

    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    dilated = [False, True, True]
    trunk = torchvision.models.resnet50(replace_stride_with_dilation=dilated).eval()
    state = {key: value.numpy() for key, value in trunk.state_dict().items()}
    backbone, loaded = pretrained.load("torchvision/resnet50", state)
    head = torch_head(torch, 2048, 21)
    trunk.avgpool, trunk.fc = torch.nn.Identity(), torch.nn.Identity()

    image = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    interpolate = functools.partial(
        torch.nn.functional.interpolate, mode="bilinear", align_corners=True
    )
    with torch.no_grad():
        x = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
        sides = [-(-side // 8) for side in size]
        x = trunk(x).reshape(1, 2048, *sides)
        parts = [x]
        for bins, level in zip((1, 2, 3, 6), head, strict=False):
            grid = torch.nn.functional.adaptive_avg_pool2d(x, bins)
            parts.append(interpolate(level(grid), sides))
        expected = interpolate(head[5](head[4](torch.cat(parts, 1))), list(size))

    params, statistics = {}, {}
    levels = {f"bins{n}": flax_of(head[i]) for i, n in enumerate((1, 2, 3, 6))}
    params["pyramid"] = {name: level[0] for name, level in levels.items()}
    statistics["pyramid"] = {name: level[1] for name, level in levels.items()}
    params["fuse"], statistics["fuse"] = flax_of(head[4])
    kernel = head[5].weight.detach().numpy().transpose(2, 3, 1, 0)
    params["logits"] = {"kernel": kernel, "bias": head[5].bias.detach().numpy()}
    without = {key: v for key, v in loaded["params"].items() if key != "classifier"}
    params["backbone"], statistics["backbone"] = without, loaded["batch_stats"]
    model = PSPNet(
        21, backbone.clone(num_classes=None, output_stride=8), aux_stage=None
    )
    variables = {"params": params, "batch_stats": statistics}
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, shapes(model)[1]
    )
    apply = jax.jit(functools.partial(model.apply, train=False))
    found = apply(variables, image)["logits"]
    expected = expected.permute(0, 2, 3, 1).numpy()
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4
