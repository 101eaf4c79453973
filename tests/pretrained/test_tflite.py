"""TensorFlow Lite: what is read is what was written, and other files end in a sentence."""

import runpy
import struct
import types
from pathlib import Path

import numpy as np
import pytest

from segjax import pretrained
from segjax.errors import UserError
from segjax.pretrained import convert
from segjax.pretrained.flatbuffer import FlatBufferError
from segjax.pretrained.source import abstract_variables, build
from segjax.pretrained.tflite import read_graph
from segjax.pretrained.tflite_sources import TFLITE, steps_of

DATA = Path(__file__).resolve().parents[3] / "shared/data/weights_tflite"
HALF = "tflite/deeplabv3_mnv2_dm05_pascal"
EDGE = "tflite/deeplab_mobilenet_edgetpu_cityscapes"
NET = "tflite/mobilenet_v2"

FILES = {
    "deeplabv3_mnv2_pascal_quant": ("tflite/deeplabv3_mnv2_pascal", 21),
    "deeplabv3_mnv2_dm05_pascal_quant": (HALF, 21),
    "deeplab_mobilenet_edgetpu_slim_cityscapes_quant": (EDGE, 19),
    "mobilenet_v2_1.0_224_quant": (NET, 1001),
    "tf2_mobilenet_v2_1.0_224_ptq": (NET, 1001),
}


@pytest.fixture(scope="module")
def files():
    path = Path(__file__).with_name("tflite_files.py")
    return types.SimpleNamespace(**runpy.run_path(str(path)))


def written(tmp_path, data, name="w.tflite"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def fitted(source, state):
    """The variables that a state becomes; nothing is computed."""
    entry = TFLITE[source]
    arranged = {name: entry.arrange(name, x) for name, x in state.items()}
    model = build(entry.group_of(state), source)
    return convert.convert(arranged, entry.names, abstract_variables(model))


@pytest.mark.parametrize(
    ("source", "kind"),
    [(HALF, "u1"), (HALF, "i1"), (HALF, "f2"), (EDGE, "f4"), (NET, "i1")],
)
def test_weights_are_what_was_written(files, tmp_path, source, kind):
    data, weights = files.network(steps_of(source), kind=kind)
    state = pretrained.read_state(written(tmp_path, data))
    assert {step.name for step in steps_of(source) if step.ours} == weights.keys()
    for step in steps_of(source):
        if not step.ours:
            continue
        kernel, bias = weights[step.name]
        deep = step.kind == "DEPTHWISE_CONV_2D"
        found = state[f"{step.name}.weight"].transpose(1, 2, 3, 0) if deep else None
        found = (
            state[f"{step.name}.weight"].transpose(0, 2, 3, 1) if not deep else found
        )
        np.testing.assert_array_equal(found, kernel)
        norm = f"{step.name}/BatchNorm" if step.has_norm else step.name
        np.testing.assert_array_equal(state[f"{norm}.bias"], bias)
    assert sum(x.size for x in state.values()) > 500_000


def test_the_image_comes_last_in_our_projection(files, tmp_path):
    data, weights = files.network(steps_of(HALF))
    state = pretrained.read_state(written(tmp_path, data))
    variables = fitted(HALF, state)
    kernel, _ = weights["concat_projection"]  # [out, 1, 1, image and aspp0]
    ours = variables["params"]["aspp"]["project"]["conv"]["kernel"][0, 0]
    np.testing.assert_array_equal(ours[:256], kernel[:, 0, 0, 256:].T)
    np.testing.assert_array_equal(ours[256:], kernel[:, 0, 0, :256].T)


def test_folded_norms_are_identities(files, tmp_path):
    data, weights = files.network(steps_of(EDGE))
    variables = fitted(EDGE, pretrained.read_state(written(tmp_path, data)))
    norm = variables["params"]["backbone"]["block3"]["expand"]["norm"]
    statistics = variables["batch_stats"]["backbone"]["block3"]["expand"]["norm"]
    _, bias = weights["MobilenetEdgeTPU/expanded_conv_2/expand"]
    assert (norm["scale"] == 1).all()
    assert (norm["bias"] == bias).all()
    assert (statistics["mean"] == 0).all()
    assert (statistics["var"] == 1).all()
    model = build(TFLITE[EDGE].group_of({"logits/semantic.bias": bias}), EDGE)
    assert model.norm.epsilon == model.backbone.norm.epsilon == 0
    assert model.norm.frozen
    assert model.backbone.norm.frozen


BLOCK = "MobilenetV2/expanded_conv_13/depthwise"
DIFFERENCES = {
    "has strides of (2, 2), expected (1, 1)": {BLOCK: {"stride": 2}},
    "has dilations of (4, 4), expected (1, 1)": {BLOCK: {"dilation": 4}},
    "has the activation relu, expected relu6": {BLOCK: {"activation": "relu"}},
    "has a kernel of the shape (1, 5, 5, 288)": {BLOCK: {"kernel": 5}},
    "stands where RESIZE_BILINEAR is expected": {
        "ResizeBilinear_2": {"kind": "ADD", "inputs": ("logits/semantic",)}
    },
    "SOFTMAX (MobilenetV2/expanded_conv_13/project), stands where CONV_2D is expected": {
        "MobilenetV2/expanded_conv_13/project": {"kind": "SOFTMAX", "ours": ""}
    },
}


@pytest.mark.parametrize("message", DIFFERENCES)
def test_another_network_is_refused_at_its_first_difference(files, tmp_path, message):
    data, _ = files.network(steps_of(HALF), change=DIFFERENCES[message])
    with pytest.raises(UserError) as caught:
        pretrained.read_state(written(tmp_path, data))
    assert f"nearest to {HALF}" in str(caught.value)
    assert message in str(caught.value)
    assert str(tmp_path / "w.tflite") in str(caught.value)


def test_a_missing_operator_is_named(files, tmp_path):
    data, _ = files.network(steps_of(HALF), leave_out="ResizeBilinear_2")
    with pytest.raises(UserError, match=r"ARG_MAX .* RESIZE_BILINEAR is expected"):
        pretrained.read_state(written(tmp_path, data))
    data, _ = files.network(steps_of(HALF)[:9])
    with pytest.raises(UserError, match="stands where ADD is expected"):
        pretrained.read_state(written(tmp_path, data))


def test_a_range_of_images_that_is_another_is_refused(files, tmp_path):
    data, _ = files.network(steps_of(HALF))
    one = struct.pack("<I", 1)
    scale, other = (one + struct.pack("<f", 1 / x) for x in (128, 255))
    assert data.count(scale) == 1
    other = data.replace(scale, other)
    with pytest.raises(UserError, match=r"go from -0\.50\d+ to 0\.498\d+, not from"):
        pretrained.read_state(written(tmp_path, other))


def edited(files, edit):
    """A small file whose parts were changed before it was written."""
    file = files.File()
    file.operator("SOFTMAX", (file.tensor("x", (2,)),), file.tensor("y", (2,)))
    index = file.tensor("w", (2, 2), "u1", np.zeros((2, 2)), [0.1, 0.1], [0, 0])
    edit(file, file.tensors[index])
    return file.to_bytes(), index


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f, t: t.pop(4), "uint8 values without scales"),
        (lambda f, t: t.update({6: {}}), "w is sparse"),
        (lambda f, t: t.update({1: ("<b", 5)}), "values of type 5"),
        (
            lambda f, t: t.update({0: np.array([2, 3], "<i4")}),
            "claims 6 bytes, and there are 4",
        ),
        (lambda f, t: t.update({0: np.array([1 << 30] * 3, "<i4")}), "claims .* bytes"),
        (lambda f, t: t.update({0: np.array([-2, -2], "<i4")}), "has the shape"),
        (lambda f, t: t.update({2: ("<I", 77)}), "names values 77 of 2"),
        (lambda f, t: t[4].update({2: np.ones(3, "<f4")}), "3 scales and 2 zero"),
        (lambda f, t: t[4].update({6: ("<i", -1)}), "2 scales and 2 zero points for 1"),
        (
            lambda f, t: t[4].update({2: np.full(2, np.nan, "<f4")}),
            "no positive number",
        ),
        (lambda f, t: f.buffers[-1].update({1: ("<Q", 99)}), "its values outside"),
        (lambda f, t: f.operators[0].update({0: ("<I", 99)}), "operator 99 of"),
        (
            lambda f, t: f.operators[0].update({1: np.array([9], "<i4")}),
            "not among its",
        ),
        (lambda f, t: f.tensors.clear(), "not among its 0"),
    ],
)
def test_what_cannot_be_is_refused(files, tmp_path, edit, message):
    data, index = edited(files, lambda file, tensor: edit(file, tensor))
    path = written(tmp_path, data)
    floats = lambda: read_graph(path).tensor(index).floats()
    with pytest.raises((UserError, FlatBufferError), match=message):
        floats()


def test_every_cut_ends_in_a_sentence(files, tmp_path):
    data = files.small()
    for size in [*range(0, 400, 7), *range(400, len(data), 97)]:
        path = written(tmp_path, data[:size])
        with pytest.raises(UserError, match=str(path)):
            pretrained.read_state(path)


def test_offsets_that_lead_anywhere_end_in_a_sentence(files, tmp_path):
    data = files.small()
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(data)
        at = int(rng.integers(0, 3000)) // 4 * 4
        value = int(rng.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(data)]))
        struct.pack_into("<I", broken, at, value)
        with pytest.raises(UserError):
            pretrained.read_state(written(tmp_path, bytes(broken)))


@pytest.mark.skipif(not DATA.exists(), reason=f"there is no {DATA}")
@pytest.mark.parametrize("name", FILES)
def test_published_files_are_read(name):
    source, classes = FILES[name]
    state = pretrained.read_state(DATA / f"{name}.tflite")
    assert TFLITE[source].classes_of(state) == classes
    names = {f"{step.name}.weight" for step in steps_of(source) if step.ours}
    assert names <= state.keys()


@pytest.mark.slow
@pytest.mark.parametrize("source", TFLITE)
def test_every_step_has_its_place_in_the_model(files, tmp_path, source):
    data, _ = files.network(steps_of(source))
    fitted(source, pretrained.read_state(written(tmp_path, data)))
