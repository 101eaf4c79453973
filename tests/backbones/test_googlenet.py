"""GoogLeNet: the figures of Caffe's release, and torchvision's form."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.googlenet import GoogLeNet
from segjax.backbones.vgg import convolutionalize
from segjax.geometry.fields import output_size, receptive_field
from segjax.layers.norm import Norm

TORCHVISION = {
    "norm": Norm(epsilon=1e-3),
    "lrn": False,
    "wide_kernel": 3,
    "last_pool": 2,
    "dropout_rate": 0.2,
}
STAGES = [f"stage{i}" for i in range(1, 6)]


def abstract(model, side=224, train=False):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=train)
    stages, variables = jax.eval_shape(init, image)
    return {name: x.shape[1:] for name, x in stages.items()}, variables["params"]


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (GoogLeNet(), 5_973_552),
        (GoogLeNet(num_classes=1000), 5_973_552 + 1_025_000),
        (GoogLeNet(num_classes=1000, **TORCHVISION), 6_624_904),
        (GoogLeNet(num_classes=1000, **TORCHVISION, auxiliary=True), 13_004_888),
    ],
    ids=["trunk", "Caffe", "torchvision", "torchvision with auxiliary heads"],
)
def test_parameter_counts_are_those_of_caffe_and_torchvision(model, expected):
    assert count(abstract(model)[1]) == expected


def test_parameters_of_the_stem_are_those_of_the_release():
    params = abstract(GoogLeNet())[1]
    stem = ("conv1", "conv2_reduce", "conv2")
    assert [count(params[name]) for name in stem] == [9_472, 4_160, 110_784]
    assert sum("kernel" in str(path) for path, _ in _leaves(params)) == 57


def _leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


@pytest.mark.parametrize(
    ("stage", "size", "stride"),
    [("stage3", 91, 8), ("stage4", 427, 16), ("stage5", 715, 32)],
)
def test_receptive_fields_are_those_of_the_table(stage, size, stride):
    field = receptive_field(GoogLeNet().layers(stage))
    assert (field.size, field.stride) == (size, stride)


@pytest.mark.parametrize("side", [224, 129, 97])
@pytest.mark.parametrize("model", [GoogLeNet(), GoogLeNet(**TORCHVISION)])
def test_layers_and_maps_agree_in_size(model, side):
    stages, _ = abstract(model, side)
    for stage in STAGES:
        assert output_size(model.layers(stage), side) == stages[stage][0]


def test_maps_have_the_channels_of_the_table():
    stages, _ = abstract(GoogLeNet())
    assert [stages[stage][-1] for stage in STAGES] == [64, 192, 480, 832, 1024]
    assert [stages[stage][0] for stage in STAGES] == [112, 56, 28, 14, 7]


def test_auxiliary_scores_are_there_in_training_alone():
    model = GoogLeNet(num_classes=7, auxiliary=True, width=0.05)
    image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), image
    )
    apply = lambda train: jax.eval_shape(
        lambda v, x: model.apply(
            v, x, train=train, rngs={"dropout": jax.random.key(0)}
        ),
        variables,
        image,
    )
    assert {"logits", "aux1", "aux2"} & apply(False).keys() == {"logits"}
    trained = apply(True)
    assert [trained[name].shape for name in ("logits", "aux1", "aux2")] == [(2, 7)] * 3


def test_transformed_inputs_lie_between_minus_one_and_one():
    """Black and white, normalised as by torchvision, become -1 and 1."""
    model = GoogLeNet(width=0.05)
    std = np.float32([0.229, 0.224, 0.225])
    mean = np.float32([0.485, 0.456, 0.406])
    colours = np.stack([(value - mean) / std for value in (0.0, 1.0)])
    images = jnp.broadcast_to(colours[:, None, None], (2, 33, 33, 3))
    plain = jnp.broadcast_to(jnp.float32([-1, 1])[:, None, None, None], (2, 33, 33, 3))
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0), plain)
    first = lambda model, x: jax.jit(
        lambda v, x: model.apply(v, x, train=False)["stage1"]
    )(variables, x)
    found = first(model.clone(transform_input=True), images)
    np.testing.assert_allclose(found, first(model, plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"wide_kernel": 7}, "wide_kernel of GoogLeNet is 3 or 5, got 7"),
        ({"last_pool": 4}, "last_pool of GoogLeNet is 2 or 3, got 4"),
        ({"output_stride": 8}, "output_stride of GoogLeNet is 32, got 8"),
        ({"auxiliary": True}, "num_classes is None"),
        ({"num_classes": 0}, "num_classes is an integer"),
        ({"width": 0.0}, "width is more than 0, got 0"),
        ({"first_padding": -3}, "first_padding is at least 0"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
        ({"norm": Norm("group")}, 'norm is a Norm of the kind "batch" or None'),
        ({"dtype": "bool"}, "dtype is a dtype of real numbers"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        GoogLeNet(**changes)


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="stage of GoogLeNet is one of stage1"):
        GoogLeNet().layers("fc7")


@pytest.mark.parity
@pytest.mark.parametrize("size", [(129, 97), (256, 320)])
def test_scores_are_those_of_torchvision(torchvision, size):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = torchvision.models.GoogLeNet(
            num_classes=10, transform_input=True, init_weights=False
        )
    for name, value in reference.state_dict().items():
        if ".bn." in name and value.ndim:
            low, high = (-0.3, 0.3)
            if name.endswith(("weight", "running_var")):
                low, high = (0.5, 1.0)
            value.uniform_(low, high)
    variables = _converted(reference.state_dict())
    model = GoogLeNet(
        num_classes=10, **TORCHVISION, auxiliary=True, transform_input=True
    )
    shapes = abstract(model)[1]
    assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(
        jnp.shape, shapes
    )
    image = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    with torch.no_grad():
        tensor = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
        expected = reference.eval()(tensor)
    apply = jax.jit(functools.partial(model.apply, train=False))
    found = apply(variables, image)["logits"]
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


BRANCHES = {
    "branch1": "conv1x1",
    "branch2.0": "reduce3x3",
    "branch2.1": "conv3x3",
    "branch3.0": "reduce5x5",
    "branch3.1": "conv5x5",
    "branch4.1": "projection",
}
LEAVES = {
    "bn.weight": ("params", "norm", "scale"),
    "bn.bias": ("params", "norm", "bias"),
    "bn.running_mean": ("batch_stats", "norm", "mean"),
    "bn.running_var": ("batch_stats", "norm", "var"),
    "conv.weight": ("params", "conv", "kernel"),
}


def _converted(state):
    """torchvision's names and layouts to ours."""
    found = {"params": {}, "batch_stats": {}}
    for name, tensor in state.items():
        value = tensor.numpy()
        module, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        head, _, last = module.rpartition(".")
        if last in ("fc1", "fc2") or module == "fc":
            collection, path = "params", [*head.split("."), last]
            path = ["classifier"] if module == "fc" else path
            if leaf == "weight":
                value = value.T
                if last == "fc1":
                    value = convolutionalize(value, window=(4, 4), channels=128)
            path.append({"weight": "kernel", "bias": "bias"}[leaf])
        else:
            collection, unit, parameter = LEAVES[f"{last}.{leaf}"]
            if parameter == "kernel":
                value = value.transpose(2, 3, 1, 0)
            block, _, branch = head.partition(".")
            block = {"conv2": "conv2_reduce", "conv3": "conv2"}.get(block, block)
            path = [block, BRANCHES.get(branch, branch), unit, parameter]
        node = found[collection]
        *above, leaf = filter(None, path)
        for key in above:
            node = node.setdefault(key, {})
        node[leaf] = value
    return found
