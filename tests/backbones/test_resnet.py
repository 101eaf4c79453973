"""ResNet: published counts and fields of view, dense against strided, torchvision."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones import BACKBONES
from segjax.backbones.resnet import ResNet
from segjax.geometry.fields import output_size, receptive_field
from segjax.layers.norm import Norm

STAGES = [f"stage{i}" for i in range(1, 6)]
CAFFE = {"stem_pool": "ceil", "stride_on": "1x1", "dilate_first_block": True}
PSPNET = {"stem": "deep", **CAFFE}
BETA = {"stem": "deep", "stride_on": "last"}


QUICK = {"xla_backend_optimization_level": 0}
"""Small networks are run once: what they cost is the compilation."""


def shapes(model, height=64, width=64):
    """Outputs and variables, without computing them."""
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    return jax.eval_shape(init, image)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def random_weights(model, seed=0):
    """Weights and statistics such that each kernel, bias and zero of padding matters."""
    rng = np.random.default_rng(seed)

    def sample(path, leaf):
        name = path[-1].key
        if name == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return jnp.asarray(std * rng.normal(size=leaf.shape), jnp.float32)
        low, high = (0.5, 1.0) if name in ("scale", "var") else (-0.3, 0.3)
        return jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(sample, shapes(model)[1])


def apply(model, variables, image):
    forward = functools.partial(model.apply, train=False)
    return jax.jit(forward, compiler_options=QUICK)(variables, image)


def difference(found, expected):
    """Largest difference, relative to the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


# Published figures


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    ("depth", "stem", "trunk", "classifier"),
    [
        (18, "conv7", 11_176_512, 513_000),
        (34, "conv7", 21_284_672, 513_000),
        (50, "conv7", 23_508_032, 2_049_000),
        (101, "conv7", 42_500_160, 2_049_000),
        (152, "conv7", 58_143_808, 2_049_000),
        (50, "deep", 23_631_808, 2_049_000),
        (101, "deep", 42_623_936, 2_049_000),
    ],
)
def test_parameter_counts_are_those_of_the_published_networks(
    depth, stem, trunk, classifier
):
    params = shapes(ResNet(depth, num_classes=1000, stem=stem))[1]["params"]
    assert count(params.pop("classifier")) == classifier
    assert count(params) == trunk


def test_norm_of_resnet_50_has_as_many_parameters_as_the_release():
    params = shapes(ResNet(50))[1]["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    affine = [x.size for path, x in leaves if path[-2].key == "norm"]
    assert sum(affine) == 53_120


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    ("model", "side", "sides", "fields"),
    [
        # DeepLab v2's ResNet-101: res2c, res3b3, res4b22 and res5c.
        (
            ResNet(101, output_stride=8, **CAFFE),
            321,
            [161, 81, 41, 41, 41],
            [7, 35, 99, 835, 1027],
        ),
        # PSPNet-50.
        (
            ResNet(50, output_stride=8, **PSPNET),
            473,
            [237, 119, 60, 60, 60],
            [11, 39, 103, 295, 487],
        ),
        # DeepLab v3's ResNet-50: the last block of a stage belongs to the next stride.
        (
            ResNet(50, output_stride=16, multi_grid=(1, 2, 4), **BETA),
            513,
            [257, 129, 65, 33, 33],
            [11, 31, 87, 263, 743],
        ),
        # Araujo, Norris, Sim (Distill 2019) give 483 and 1507 where the 1x1 strides.
        (ResNet(50), 224, [112, 56, 28, 14, 7], [7, 35, 91, 267, 427]),
        (
            ResNet(50, stride_on="1x1"),
            224,
            [112, 56, 28, 14, 7],
            [7, 35, 99, 291, 483],
        ),
        (
            ResNet(152, stride_on="1x1"),
            224,
            [112, 56, 28, 14, 7],
            [7, 35, 163, 1315, 1507],
        ),
        (ResNet(18), 224, [112, 56, 28, 14, 7], [7, 43, 99, 211, 435]),
    ],
)
def test_sizes_and_receptive_fields_are_those_of_the_releases(
    model, side, sides, fields
):
    outputs, _ = shapes(model, side, side)
    assert [outputs[stage].shape[1] for stage in STAGES] == sides
    assert [output_size(model.layers(stage), side) for stage in STAGES] == sides
    assert [receptive_field(model.layers(stage)).size for stage in STAGES] == fields


@pytest.mark.quick(5)
@pytest.mark.parametrize(
    "options", [{}, CAFFE, PSPNET, BETA, {"stem_pool": "ceil_unpadded"}]
)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_layers_give_the_sizes_of_the_network(options, output_stride):
    model = ResNet(50, features=4, output_stride=output_stride, **options)
    outputs, _ = shapes(model, 129, 96)
    for stage in STAGES:
        layers = model.layers(stage)
        sides = tuple(output_size(layers, side) for side in (129, 96))
        assert outputs[stage].shape[1:3] == sides, stage


@pytest.mark.parametrize("depth", [18, 50])
def test_layers_are_named_as_the_kernels_of_the_longest_path(depth):
    model = ResNet(depth)
    leaves = jax.tree_util.tree_leaves_with_path(shapes(model)[1]["params"])
    kernels = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        for path, _ in leaves
        if path[-1].key == "kernel"
    }
    names = {layer.name for layer in model.layers()} - {"pool"}
    assert names <= kernels
    assert {re.sub(r".*block\d+/", "", name) for name in kernels - names} == {
        "projection/conv"
    }


# Dense against strided: the same weights at another output stride


@functools.cache
def at_output_stride(output_stride, depth, options):
    """All stages of one network on an image of odd sides."""
    model = ResNet(depth, features=4, **dict(options))
    variables = random_weights(model)
    image = np.random.default_rng(1).normal(size=(1, 97, 65, 3)).astype(np.float32)
    return apply(model.clone(output_stride=output_stride), variables, image)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "options", "output_strides"),
    [
        pytest.param(18, {}, (8, 16), id="basic blocks, torchvision's rule"),
        pytest.param(26, {}, (8, 16), id="3x3 strides, torchvision's rule"),
        pytest.param(26, CAFFE, (8,), id="1x1 strides, the papers' rule"),
        pytest.param(26, BETA, (8, 16), id="last block strides"),
    ],
)
def test_dense_maps_hold_the_strided_maps_up_to_the_border(
    depth, options, output_strides
):
    options = tuple(options.items())
    strided = at_output_stride(32, depth, options)
    for output_stride in output_strides:
        found = at_output_stride(output_stride, depth, options)
        for index, stage in enumerate(STAGES, 1):
            step = max(1, 2**index // output_stride)
            dense = found[stage][:, ::step, ::step]
            assert difference(dense, strided[stage]) < 1e-5, (output_stride, stage)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param({}, {"dilate_first_block": True}, id="3x3 strides"),
        pytest.param(CAFFE, CAFFE | {"dilate_first_block": False}, id="1x1 strides"),
    ],
)
def test_rule_of_the_other_family_changes_what_the_weights_compute(right, wrong):
    strided = at_output_stride(32, 26, tuple(right.items()))
    dense = at_output_stride(8, 26, tuple(wrong.items()))
    assert difference(dense["stage3"], strided["stage3"]) < 1e-5
    assert difference(dense["stage4"][:, ::2, ::2], strided["stage4"]) > 1e-2
    assert difference(dense["stage5"][:, ::4, ::4], strided["stage5"]) > 1e-2


def test_multi_grid_multiplies_the_dilation_of_the_last_stage_alone():
    def dilations(stage, **options):
        model = ResNet(50, multi_grid=(1, 2, 4), stride_on="last", **options)
        layers = [x for x in model.layers() if re.match(rf"{stage}/\w+/conv2", x.name)]
        return [layer.dilation for layer in layers]

    assert dilations("stage5", output_stride=16) == [2, 4, 8]
    assert dilations("stage5", output_stride=8) == [4, 8, 16]
    assert dilations("stage4", output_stride=8) == [2] * 6
    assert dilations("stage3", output_stride=8) == [1] * 4


def test_first_block_keeps_the_previous_dilation_as_in_torchvision():
    units = ResNet(50, output_stride=8).plan()
    entries = [[u.entry_dilation for u in units[s]] for s in ("stage4", "stage5")]
    assert entries == [[1, 2, 2, 2, 2, 2], [2, 4, 4]]
    units = ResNet(50, output_stride=8, dilate_first_block=True).plan()
    entries = [[u.entry_dilation for u in units[s]] for s in ("stage4", "stage5")]
    assert entries == [[2] * 6, [4] * 3]


# Behaviour


@functools.cache
def trained_once(**options):
    model = ResNet(18, num_classes=3, features=4, **options)
    variables = random_weights(model)
    image = jnp.asarray(
        np.random.default_rng(0).normal(size=(2, 48, 33, 3)), jnp.float32
    )
    step = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    return variables, *jax.jit(step, compiler_options=QUICK)(variables, image)


def test_running_statistics_move_in_training():
    variables, _, changed = trained_once()
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()),
        variables["batch_stats"],
        changed["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))


def test_frozen_statistics_stay_in_training():
    variables, outputs, changed = trained_once(norm=Norm(frozen=True))
    jax.tree.map(
        np.testing.assert_array_equal, variables["batch_stats"], changed["batch_stats"]
    )
    _, trained, _ = trained_once()
    assert difference(outputs["stage5"], trained["stage5"]) > 1e-2


def test_classifier_reads_the_mean_of_the_last_stage():
    variables, outputs, _ = trained_once()
    mean = np.asarray(outputs["stage5"]).mean((1, 2))
    dense = variables["params"]["classifier"]
    expected = mean @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_float32_parameters_and_logits():
    outputs, variables = shapes(ResNet(50, num_classes=2, dtype=jnp.bfloat16))
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert outputs.pop("logits").dtype == jnp.float32
    assert {x.dtype for x in outputs.values()} == {jnp.dtype(jnp.bfloat16)}


def test_configs_find_it_by_name():
    assert BACKBONES["resnet"] is ResNet


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"depth": 20}, "depth of ResNet is one of (18, 26, 34, 50, 101, 152), got 20"),
        ({"output_stride": 4}, "output_stride of ResNet is one of (8, 16, 32), got 4"),
        (
            {"stem": "deeper"},
            "stem of ResNet is one of ('conv7', 'deep'), got 'deeper'",
        ),
        (
            {"stem_pool": "none"},
            "stem_pool of ResNet is one of ('floor', 'ceil', 'ceil_unpadded'), got 'none'",
        ),
        (
            {"stride_on": "conv3"},
            "stride_on of ResNet is one of ('3x3', '1x1', 'last'), got 'conv3'",
        ),
        (
            {"depth": 34, "stride_on": "1x1"},
            "stride_on of ResNet-34 is \"3x3\", for it has no bottlenecks, got '1x1'",
        ),
        (
            {"depth": 18, "multi_grid": (1, 2, 4)},
            "multi_grid of ResNet-18 is 2 numbers of at least 1, or none, got (1, 2, 4)",
        ),
        ({"features": 0}, "features is at least 1, got 0"),
        ({"num_classes": 0}, "num_classes is at least 1, got 0"),
        (
            {"norm": None},
            'norm is a Norm of the kind "batch" or "group", got None',
        ),
        (
            {"features": 6, "norm": Norm("group", groups=4)},
            "features is 6, which norm.groups, 4, does not divide",
        ),
        (
            {"dtype": "int32"},
            'dtype is a dtype of real numbers, such as "float32" or "bfloat16", got '
            "'int32'",
        ),
    ],
)
def test_bad_attributes_are_reported_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ResNet(**options)


def test_unknown_stage_is_reported():
    with pytest.raises(ValueError, match="stage is one of stage1 to stage5, got 'C5'"):
        ResNet(50).layers("C5")


@pytest.mark.parametrize("stride_on", ["3x3", "last"])
def test_the_network_ends_behind_its_last_stage(stride_on):
    options = {"depth": 50, "stride_on": stride_on}
    model = ResNet(last_stage="stage3", **options)
    found, variables = shapes(model)
    assert set(found) == {"stage1", "stage2", "stage3"}
    assert set(variables["params"]) == {"stem", "stage2", "stage3"}
    assert found["stage3"].shape == shapes(ResNet(**options))[0]["stage3"].shape
    assert output_size(model.layers("stage3"), 64) == found["stage3"].shape[1]
    with pytest.raises(ValueError, match="stage is one of stage1 to stage3, got"):
        model.layers("stage4")


# torchvision, live


def flax_name(key):
    """The path of a tensor of torchvision's state dict."""
    *owner, leaf = key.split(".")
    path = ".".join(owner)
    path = re.sub(r"^conv1$", "stem.conv", path)
    path = re.sub(r"^bn1$", "stem.norm", path)
    path = re.sub(r"^fc$", "classifier", path)
    path = re.sub(
        r"^layer(\d)\.(\d+)",
        lambda m: f"stage{int(m[1]) + 1}.block{int(m[2]) + 1}",
        path,
    )
    path = path.replace("downsample.0", "projection.conv")
    path = path.replace("downsample.1", "projection.norm")
    path = re.sub(r"block(\d+)\.conv(\d)$", r"block\1.conv\2.conv", path)
    path = re.sub(r"block(\d+)\.bn(\d)$", r"block\1.conv\2.norm", path)
    norm = path.endswith("norm")
    leaf = {
        "weight": "scale" if norm else "kernel",
        "bias": "bias",
        "running_mean": "mean",
        "running_var": "var",
    }[leaf]
    kind = "batch_stats" if leaf in ("mean", "var") else "params"
    return (kind, *path.split("."), leaf)


def converted(state):
    """Flax variables of torchvision's ResNet."""
    variables = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        value = value.numpy()
        if value.ndim > 1:
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        *owner, leaf = flax_name(key)
        place = variables
        for name in owner:
            place = place.setdefault(name, {})
        place[leaf] = jnp.asarray(value)
    return variables


@pytest.mark.parity
@pytest.mark.parametrize(
    ("depth", "output_stride", "size"),
    [
        (18, 32, (129, 97)),
        (18, 32, (256, 320)),
        (50, 32, (129, 97)),
        (50, 16, (129, 97)),
        (50, 8, (129, 97)),
        (50, 8, (256, 320)),
        (101, 8, (129, 97)),
    ],
)
def test_stages_and_scores_are_torchvisions(torchvision, depth, output_stride, size):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    dilated = [False, output_stride == 8, output_stride <= 16]
    more = {} if depth == 18 else {"replace_stride_with_dilation": dilated}
    reference = getattr(torchvision.models, f"resnet{depth}")(weights=None, **more)
    for name, value in reference.state_dict().items():
        if re.search(r"(bn\d|downsample\.1)\.", name) and value.ndim:
            low, high = (0.5, 1.0) if "weight" in name or "var" in name else (-0.3, 0.3)
            value.uniform_(low, high)
    model = ResNet(depth, num_classes=1000, output_stride=output_stride)
    variables = converted(reference.state_dict())
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, shapes(model)[1]
    )
    image = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    kept = {}
    layers = {"relu": "stage1"} | {f"layer{i}": f"stage{i + 1}" for i in range(1, 5)}
    for layer, stage in layers.items():
        hook = lambda _, __, output, stage=stage: kept.setdefault(stage, output.clone())
        getattr(reference, layer).register_forward_hook(hook)
    with torch.no_grad():
        tensor = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
        scores = reference.eval()(tensor)
    found = apply(model, variables, image)
    assert difference(found["logits"], scores) < 1e-4
    for stage in STAGES:
        expected = kept[stage].permute(0, 2, 3, 1)
        assert difference(found[stage], expected) < 1e-4, stage
