"""MobileNet v2 and v3: published counts, dense against strided, torchvision."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones import BACKBONES
from segjax.backbones.mobilenet_edgetpu import MobileNetEdgeTPU
from segjax.backbones.mobilenet_v2 import MobileNetV2
from segjax.backbones.mobilenet_v3 import MobileNetV3
from segjax.geometry.fields import output_size
from segjax.layers.inverted_residual import divisible

STAGES = [f"stage{i}" for i in range(1, 6)]
SMALL = {
    "v2": MobileNetV2(width=0.1, last_features=16),
    "v3": MobileNetV3(width=0.1),
    "edgetpu": MobileNetEdgeTPU(width=0.1, last_features=16),
}
QUICK = {"xla_backend_optimization_level": 0}
"""Small networks are run once: what they cost is the compilation."""


def shapes(model, height=65, width=65):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    return jax.eval_shape(init, image)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def random_weights(model, seed=0):
    rng = np.random.default_rng(seed)

    def sample(path, leaf):
        if path[-1].key == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return jnp.asarray(std * rng.normal(size=leaf.shape), jnp.float32)
        low, high = (0.5, 1.0) if path[-1].key in ("scale", "var") else (-0.3, 0.3)
        return jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(sample, shapes(model)[1])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (MobileNetV2(1000), 3_504_872),
        (MobileNetV2(), 2_223_872),
        (MobileNetV2(1000, width=0.5), 1_968_680),
        (MobileNetV3(1000), 5_483_032),
        (MobileNetV3(), 2_971_952),
        (MobileNetV2(1001), 3_506_153),
        (MobileNetEdgeTPU(1001), 4_092_713),
    ],
)
def test_parameter_counts_are_those_of_torchvision(model, expected):
    assert count(shapes(model)[1]["params"]) == expected


@pytest.mark.parametrize("model", [MobileNetV2, MobileNetV3, MobileNetEdgeTPU])
@pytest.mark.parametrize(
    ("output_stride", "sides"),
    [(32, [65, 33, 17, 9, 5]), (16, [65, 33, 17, 9, 9]), (8, [65, 33, 17, 17, 17])],
)
def test_layers_give_the_sizes_of_the_network(model, output_stride, sides):
    model = model(output_stride=output_stride)
    outputs, _ = shapes(model, 129, 129)
    for stage, shape in outputs.items():
        assert output_size(model.layers(stage), 129) == shape.shape[1], stage
    assert [outputs[stage].shape[1] for stage in STAGES] == sides


@pytest.mark.parametrize("model", SMALL.values(), ids=SMALL)
def test_layers_are_named_as_kernels(model):
    leaves = jax.tree_util.tree_leaves_with_path(shapes(model)[1]["params"])
    kernels = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        for path, _ in leaves
        if path[-1].key == "kernel"
    }
    names = {layer.name for layer in model.layers()}
    assert names <= kernels
    assert {name.split("/")[1] for name in kernels - names} <= {"squeeze"}


@functools.cache
def at_output_stride(name, output_stride):
    variables = random_weights(SMALL[name])
    image = np.random.default_rng(1).normal(size=(1, 97, 65, 3)).astype(np.float32)
    model = SMALL[name].clone(output_stride=output_stride)
    forward = functools.partial(model.apply, train=False)
    return jax.jit(forward, compiler_options=QUICK)(variables, image)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stages"), [("v2", STAGES), ("v3", STAGES[:3])])
def test_dense_maps_hold_the_strided_maps_up_to_the_border(name, stages):
    """Squeeze and excitation takes means of maps, so v3 agrees up to the first stride."""
    strided, dense = at_output_stride(name, 32), at_output_stride(name, 8)
    for index, stage in enumerate(stages, 1):
        step = max(1, 2**index // 8)
        found = np.asarray(dense[stage][:, ::step, ::step])
        expected = np.asarray(strided[stage])
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max(), stage
        assert expected.std() > 0.05 * np.abs(expected).max()


def test_rates_grow_after_the_stride_that_is_left_out():
    def rates(model):
        return [block.dilation for block in model.plan()]

    assert rates(MobileNetV2(output_stride=8))[6:] == [1] + 7 * [2] + 3 * [4]
    assert rates(MobileNetV3(output_stride=16))[-4:] == [1, 1, 2, 2]
    torchvisions = MobileNetV3(output_stride=16, dilate_first_block=True)
    assert rates(torchvisions)[-4:] == [1, 2, 2, 2]
    assert rates(MobileNetEdgeTPU(output_stride=16))[-6:] == [1, 1, 2, 2, 2, 2]


def test_channels_of_the_slim_form_are_those_of_the_release():
    blocks = MobileNetEdgeTPU(width=0.75).plan()
    assert [x.features for x in blocks] == (
        [16] + 4 * [24] + 4 * [40] + 8 * [72] + 4 * [120] + [144]
    )
    assert [x.expanded for x in blocks[:3]] == [24, 128, 96]
    assert sum(x.is_residual for x in blocks) == 15


def test_channels_are_divisible_as_in_the_release():
    assert [divisible(x) for x in (3.2, 12, 18, 27, 32.5)] == [8, 16, 24, 32, 32]


@pytest.mark.parametrize("name", SMALL)
def test_configs_find_them_by_name(name):
    assert isinstance(SMALL[name], BACKBONES[f"mobilenet_{name}"])


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (
            MobileNetV2,
            {"output_stride": 4},
            "output_stride of MobileNet v2 is one of (8, 16, 32), got 4",
        ),
        (
            MobileNetV3,
            {"output_stride": 64},
            "output_stride of MobileNet v3 is one of (8, 16, 32), got 64",
        ),
        (
            MobileNetV2,
            {"last_features": 0},
            "last_features is an integer of at least 1, got 0",
        ),
        (MobileNetV3, {"width": -1}, "width is a factor above 0, got -1"),
        (
            MobileNetV3,
            {"dropout_rate": 1.0},
            "dropout_rate is at least 0 and less than 1, got 1.0",
        ),
    ],
)
def test_bad_attributes_are_reported_in_one_sentence(model, options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        model(**options)


def test_unknown_stage_is_reported():
    with pytest.raises(ValueError, match="or stage2_first to stage5_first, got 'C5'"):
        MobileNetV3().layers("C5")


# torchvision, live


def from_torchvision(model, reference):
    """Our variables, filled in the order of torchvision's modules."""
    target = shapes(model, 64, 64)[1]
    state = {k: v for k, v in reference.state_dict().items() if v.ndim}
    order = ["expand", "depthwise", "squeeze", "project"]
    inner = ["reduce", "expand", "conv", "norm"]
    leaves = ["kernel", "weight", "scale", "bias", "mean", "var"]

    def place(path):
        _, *modules, leaf = (entry.key for entry in path)
        head = modules[0]
        number = int(head[5:]) if head.startswith("block") else 0
        rank = {"stem": -1, "last": 99, "classifier_hidden": 100, "classifier": 101}
        rest = [
            order.index(m)
            if m in order and len(modules) > 2 and i == 1
            else inner.index(m)
            for i, m in enumerate(modules)
            if i
        ]
        return (rank.get(head, number), *rest, leaves.index(leaf))

    flat = sorted(
        jax.tree_util.tree_leaves_with_path(target), key=lambda x: place(x[0])
    )
    filled = {}
    for (path, leaf), (name, value) in zip(flat, state.items(), strict=True):
        array = value.numpy()
        if array.ndim > 1:
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        assert array.shape == leaf.shape, (path, name)
        filled[jax.tree_util.keystr(path)] = jnp.asarray(array)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: filled[jax.tree_util.keystr(path)], target
    )


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("mobilenet_v2", MobileNetV2(1000)),
        ("mobilenet_v3_large", MobileNetV3(1000)),
    ],
)
@pytest.mark.parametrize("size", [(129, 97), (256, 320)])
def test_scores_are_torchvisions(torchvision, name, model, size):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)(weights=None).eval()
    for key, value in reference.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    variables = from_torchvision(model, reference)
    image = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy()
    apply = jax.jit(functools.partial(model.apply, train=False))
    found = np.asarray(apply(variables, image)["logits"])
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"{name} {size}: {difference:.1e}")
    assert difference < 1e-4


def test_the_network_ends_behind_its_last_stage():
    found, variables = shapes(MobileNetV2(last_stage="stage4"))
    assert set(found) == {f"stage{i}" for i in (1, 2, 3, 4)}
    assert set(variables["params"]) == {"stem", *(f"block{i}" for i in range(1, 14))}
    with pytest.raises(ValueError, match="stage is one of stage1 to stage4, got"):
        MobileNetV2(last_stage="stage4").layers("stage5")


def test_a_block_whose_stride_is_left_out_may_be_dilated_itself():
    model = MobileNetV2(output_stride=8, dilate_first_block=True)
    assert [block.dilation for block in model.plan()] == [1] * 6 + [2] * 7 + [4] * 4
