"""Sources: names, attributes, and the answers that torchvision gives for them."""

from __future__ import annotations

import json
import operator
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import segjax
from segjax import pretrained
from segjax.errors import UserError
from segjax.layers.norm import Norm
from segjax.models.groups import merge
from segjax.pretrained import convert
from segjax.pretrained.source import Source, abstract_variables, build
from segjax.pretrained.sources import unwrapped

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "pretrained.npz"
SIZE = (81, 67)
SAMPLES = 256
TOLERANCE = 1e-4

TORCHVISION = sorted(
    name
    for name, source in pretrained.SOURCES.items()
    if name.startswith("torchvision/") and source.group["name"] != "mask_rcnn"
)
"""Those of objects have tests of their own, `test_instances.py`."""
RUN = (
    "torchvision/resnet18",
    "torchvision/fcn_resnet50",
    "torchvision/deeplabv3_mobilenet_v3_large",
    "torchvision/lraspp_mobilenet_v3_large",
    "torchvision/mobilenet_v2",
    "torchvision/googlenet",
)
"""Sources whose answers are computed here; those of all are, live, in the parity tests."""


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def shapes_of(golden):
    """The names and shapes of torchvision's tensors."""

    def shapes(source: str) -> dict[str, tuple[int, ...]]:
        text = golden[f"{source} shapes"].tobytes().decode()
        return {name: tuple(shape) for name, shape in json.loads(text).items()}

    return shapes


@pytest.fixture(scope="module")
def hollow(shapes_of):
    """A state dict of nothing but zeros that share one byte of memory."""

    def state(source: str) -> dict[str, np.ndarray]:
        zero = np.float32(0)
        shapes = shapes_of(source).items()
        return {name: np.broadcast_to(zero, shape) for name, shape in shapes}

    return state


def match(entry: Source, state, **attributes):
    """Finds the tensors of all leaves; reads no values."""
    model = build({**entry.group_of(state), **attributes}, "test")
    return convert.match(state, entry.names, abstract_variables(model))


def test_the_golden_file_has_all_sources_of_torchvision(golden):
    stored = {key.partition(" ")[0] for key in golden}
    assert set(TORCHVISION) == stored


@pytest.mark.quick(5)
@pytest.mark.parametrize("source", TORCHVISION)
def test_every_tensor_of_torchvision_has_its_place(source, hollow):
    state = hollow(source)
    matched = match(pretrained.SOURCES[source], state)
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert set(matched.values()) == state.keys() - counters
    assert len(set(matched.values())) == len(matched)


@pytest.mark.slow
@pytest.mark.parametrize("source", RUN)
def test_logits_are_those_of_torchvision(source, golden, shapes_of, random_weights):
    model, variables = pretrained.load(
        source, random_weights.state_dict(shapes_of(source))
    )
    options = {"xla_backend_optimization_level": 0}
    apply = jax.jit(
        lambda v, x: model.apply(v, x, train=False)["logits"], compiler_options=options
    )
    flat = np.asarray(apply(variables, random_weights.image(*SIZE))).ravel()
    chosen = np.linspace(0, flat.size - 1, min(flat.size, SAMPLES)).astype(int)
    expected = golden[f"{source} logits"]
    assert np.std(expected) > 0.05 * np.abs(expected).max()
    assert np.abs(flat[chosen] - expected).max() < TOLERANCE * np.abs(expected).max()


def test_segmentations_have_an_auxiliary_head_if_their_weights_have_one(hollow):
    state = hollow("torchvision/deeplabv3_resnet50")
    entry = pretrained.SOURCES["torchvision/deeplabv3_resnet50"]
    assert entry.group_of(state)["aux_stage"] == "stage4"
    without = convert.drop(state, ["aux_classifier"], source="test")
    assert "aux_stage" not in entry.group_of(without)
    assert match(entry, without).keys() < match(entry, state).keys()


def test_a_backbone_has_a_classifier_if_its_weights_have_one(shapes_of, random_weights):
    state = random_weights.state_dict(shapes_of("torchvision/resnet18"))
    with_classes, _ = pretrained.load("torchvision/resnet18", state)
    assert with_classes.num_classes == 1000
    model, variables = pretrained.load("torchvision/resnet18", state, skip=("fc",))
    assert model.num_classes is None
    assert "classifier" not in variables["params"]
    image = jax.ShapeDtypeStruct((1, 65, 97, 3), jnp.float32)
    stages = jax.eval_shape(lambda x: model.apply(variables, x, train=False), image)
    assert stages.keys() == {f"stage{i}" for i in range(1, 6)}


def test_attributes_are_overridden_those_of_the_backbone_one_by_one(hollow):
    source = "torchvision/fcn_resnet50"
    entry, state = pretrained.SOURCES[source], hollow(source)
    changes = {
        "backbone": {"output_stride": 16, "norm": {"frozen": True}},
        "dtype": "bfloat16",
    }
    group = merge(entry.group_of(state), changes)
    model = build(group, "test")
    assert model.backbone.output_stride == 16
    assert model.backbone.depth == 50
    assert model.backbone.norm == Norm(frozen=True)
    assert model.dtype == "bfloat16"


@pytest.mark.slow
def test_another_number_of_classes_is_refused_unless_asked_for(
    shapes_of, random_weights
):
    source = "torchvision/lraspp_mobilenet_v3_large"
    state = random_weights.state_dict(shapes_of(source))
    with pytest.raises(UserError, match="have 21 classes, num_classes is 5"):
        pretrained.load(source, state, num_classes=5)
    model, old = pretrained.load(source, state, num_classes=21)
    new_model, new = pretrained.load(source, state, num_classes=5, reinitialize=True)
    assert (model.num_classes, new_model.num_classes) == (21, 5)
    changed = {
        "/".join(key.key for key in path[1:-1])
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new), strict=True
        )
        if a.shape != b.shape or (np.asarray(a) != np.asarray(b)).any()
    }
    entry = pretrained.SOURCES[source]
    assert changed == {entry.names[head] for head in entry.classifier}


@pytest.mark.parametrize(
    "source", ["torchvision/lraspp_mobilenet_v3_large", "torchvision/resnet18"]
)
def test_weights_without_a_classifier_get_one_as_the_sentence_advises(
    source, shapes_of, random_weights
):
    state = random_weights.state_dict(shapes_of(source))
    entry = pretrained.SOURCES[source]
    if not entry.is_backbone:
        with pytest.raises(
            UserError, match=r"In Python, .*num_classes=N, reinitialize=True\) makes"
        ):
            pretrained.load(source, state, skip=entry.classifier)
    with pytest.raises(UserError, match=r"have no .*, num_classes is 5: make"):
        pretrained.load(source, state, skip=entry.classifier, num_classes=5)
    model, variables = pretrained.load(
        source, state, skip=entry.classifier, num_classes=5, reinitialize=True
    )
    assert model.num_classes == 5
    assert variables["params"].keys() == abstract_variables(model)["params"].keys()


def test_weights_of_another_depth_are_named(hollow):
    with pytest.raises(UserError) as caught:
        pretrained.load("torchvision/resnet50", hollow("torchvision/resnet34"))
    sentence = str(caught.value)
    assert "missing: layer1.0.bn3.running_mean (for stage2/block1/conv3" in sentence
    assert "of another shape: " in sentence
    assert sentence.endswith("By their names they are those of torchvision/resnet34.")


@pytest.mark.parametrize(
    "source", ["torchvision/deeplabv3_resnet50", "torchvision/maskrcnn_resnet50_fpn"]
)
def test_weights_of_another_network_are_named(source, hollow):
    theirs = "torchvision/lraspp_mobilenet_v3_large"
    with pytest.raises(UserError, match=r"lack .*bias\.") as e:
        pretrained.load(source, hollow(theirs))
    assert str(e.value).endswith(f"By their names they are those of {theirs}.")


@pytest.mark.parametrize(
    "wrapper",
    ["module.", "model.", "net.", "_orig_mod.", "module._orig_mod.", "model.model."],
)
@pytest.mark.parametrize(
    "source", ["torchvision/resnet18", "torchvision/lraspp_mobilenet_v3_large"]
)
def test_what_wrappers_put_before_all_names_is_taken_off(
    source, wrapper, hollow, caplog
):
    entry, state = pretrained.SOURCES[source], hollow(source)
    wrapped = {f"{wrapper}{name}": x for name, x in state.items()}
    with caplog.at_level("INFO", logger="segjax"):
        found = unwrapped(entry, wrapped)
    assert list(found) == list(state)
    assert f'removed the prefix "{wrapper}" from all names' in caplog.text
    assert unwrapped(entry, state) is state


@pytest.mark.parametrize("outer", ["", "module."])
def test_weights_that_pytorch_has_averaged_are_loaded(outer, hollow):
    state = hollow("torchvision/resnet18")
    averaged = {f"{outer}module.{name}": x for name, x in state.items()}
    averaged[f"{outer}n_averaged"] = np.array(7)
    found = unwrapped(pretrained.SOURCES["torchvision/resnet18"], averaged)
    assert list(found) == list(state)


def test_what_stands_beside_a_wrapped_network_alone_is_reported(hollow):
    """Counts of other programs' averages, for example."""
    state = hollow("torchvision/resnet18")
    averaged = {f"model.{name}": x for name, x in state.items()}
    averaged["decay"] = np.array(0.9, np.float32)
    with pytest.raises(UserError, match=r"do not fit the model: 1 not used: decay\.$"):
        pretrained.load("torchvision/resnet18", averaged)
    assert pretrained.load("torchvision/resnet18", averaged, skip=["decay"])


def test_a_wrapped_state_dict_is_loaded_in_python(shapes_of, hollow, random_weights):
    shapes = shapes_of("torchvision/alexnet").items()
    read = {name: shape for name, shape in shapes if name.startswith("features")}
    state = hollow("torchvision/alexnet") | random_weights.state_dict(read)
    wrapped = {f"net.module.{name}": x for name, x in state.items()}
    wrapped["criterion.weight"] = np.ones(3, np.float32)
    more = ("criterion", "classifier")
    _, expected = pretrained.load("torchvision/alexnet", state, skip=more[1:])
    _, found = pretrained.load("torchvision/alexnet", wrapped, skip=more)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_names_that_some_lack_and_names_of_others_stay(hollow):
    entry = pretrained.SOURCES["torchvision/resnet18"]
    state = {f"model.{name}": x for name, x in hollow("torchvision/resnet18").items()}
    assert unwrapped(entry, {**state, "loss.weight": np.ones(3)}).keys() > state.keys()
    theirs = {f"model.{name}": x for name, x in hollow("torchvision/vgg16").items()}
    with pytest.raises(UserError, match=r"those of torchvision/vgg16\.$"):
        pretrained.load("torchvision/resnet18", theirs)


def test_missing_and_extra_tensors_are_listed_together(hollow):
    state = hollow("torchvision/resnet18")
    del state["layer2.0.downsample.1.running_var"]
    state["layer9.conv.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(UserError) as caught:
        pretrained.load("torchvision/resnet18", state)
    sentence = str(caught.value)
    assert "1 not used: layer9.conv.weight" in sentence
    assert (
        "1 missing: layer2.0.downsample.1.running_var "
        "(for stage3/block1/projection/norm/var)"
    ) in sentence


def test_transposed_dense_weights_are_recognized(hollow):
    state = hollow("torchvision/vgg16")
    for name in ("classifier.0.weight", "classifier.6.weight"):
        state[name] = state[name].T
    with pytest.raises(UserError) as caught:
        pretrained.load("torchvision/vgg16", state)
    sentence = str(caught.value)
    assert "2 of another shape" in sentence
    assert (
        "classifier.0.weight is [25088, 4096], expected [4096, 25088]: it is laid out "
        "[in, out]; transpose it to [out, in]"
    ) in sentence


def test_values_that_are_not_finite_are_refused(shapes_of, random_weights):
    state = random_weights.state_dict(shapes_of("torchvision/resnet18"))
    state["fc.weight"] = state["fc.weight"] * np.nan
    with pytest.raises(UserError, match=r"1 not finite: fc\.weight"):
        pretrained.load("torchvision/resnet18", state)


def test_an_unknown_source_names_those_that_there_are():
    with pytest.raises(UserError) as caught:
        pretrained.load("torchvision/resnet19", {})
    for source in pretrained.SOURCES:
        named = (
            source if source.startswith("torchvision/") else source.partition("/")[0]
        )
        assert named in str(caught.value)
    assert "Did you mean" in str(caught.value)
    with pytest.raises(UserError, match=r"Sources begin with caffe/, .*torchvision/"):
        pretrained.load("torch/resnet19", {})


def test_what_a_model_cannot_be_is_one_sentence(hollow):
    state = hollow("torchvision/resnet18")
    with pytest.raises(UserError, match="output_stride of ResNet is one of"):
        pretrained.load("torchvision/resnet18", state, output_stride=7)
    with pytest.raises(UserError, match='has an unknown key "output_strides"'):
        pretrained.load("torchvision/resnet18", state, output_strides=8)


def test_values_that_are_no_arrays_are_refused(hollow):
    state = {**hollow("torchvision/resnet18"), "epoch": 7}
    with pytest.raises(UserError, match='hold int under "epoch", not an array'):
        pretrained.load("torchvision/resnet18", state)


def caffe_vgg16(shapes, weight="{}.weight", bias="{}.bias"):
    """Caffe's names on the shapes of torchvision's VGG-16."""
    named = {}
    theirs = pretrained.SOURCES["torchvision/vgg16"].names
    for module, layer in theirs.items():
        named[weight.format(layer)] = shapes[f"{module}.weight"]
        named[bias.format(layer)] = shapes[f"{module}.bias"]
    return named


@pytest.mark.parametrize(
    ("weight", "bias"),
    [("{}.weight", "{}.bias"), ("{}/0", "{}/1"), ("{}_W", "{}_b")],
)
def test_caffes_names_of_blobs_are_understood(weight, bias, hollow):
    state = caffe_vgg16(hollow("torchvision/vgg16"), weight, bias)
    entry = pretrained.SOURCES["caffe/vgg16"]
    renamed = {entry.rename(name): x for name, x in state.items()}
    assert len(match(entry, renamed)) == 32
    assert entry.normalization == "caffe_vgg"


def test_two_tensors_of_one_place_are_refused_by_both_names():
    state = {"conv1_1.weight": np.zeros(1), "conv1_1/0": np.ones(1)}
    sentence = r'hold "conv1_1\.weight" and "conv1_1/0", which are both conv1_1\.weight'
    with pytest.raises(UserError, match=sentence):
        pretrained.load("caffe/vgg16", state)


def test_caffes_weights_answer_as_torchvisions_for_bgr(shapes_of, random_weights):
    """Both layouts are the same, but for the order of the first kernel's colours."""
    shapes = shapes_of("torchvision/vgg16")
    state = {
        name: random_weights.tensor(name, shape)
        for name, shape in shapes.items()
        if name.startswith("features")
    }
    theirs, rgb = pretrained.load("torchvision/vgg16", state)
    state["features.0.weight"] = state["features.0.weight"][:, ::-1]
    modules = pretrained.SOURCES["torchvision/vgg16"].names
    renamed = {
        f"{modules[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": x
        for name, x in state.items()
    }
    ours, bgr = pretrained.load("caffe/vgg16", renamed)
    assert ours.ceil_mode
    image = random_weights.image(64, 32)  # where rounding up or down is the same

    def stage(model, variables, image):
        apply = lambda v, x: model.apply(v, x, train=False)["stage3"]
        return np.asarray(jax.jit(apply)(variables, image))

    found = stage(ours, bgr, image[..., ::-1])
    expected = stage(theirs, rgb, image)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_importing_the_package_is_cheap():
    code = (
        "import sys, segjax.pretrained; "
        "print({'jax', 'flax', 'numpy', 'safetensors', 'torch'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "set()\n"


def test_the_function_is_reached_from_the_package():
    assert segjax.pretrained.load is pretrained.load
    with pytest.raises(AttributeError, match="nothing"):
        operator.attrgetter("nothing")(segjax)
