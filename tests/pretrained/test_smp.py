"""segmentation_models.pytorch: names, answers, and the folder that it saves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from segjax import pretrained
from segjax.errors import UserError
from segjax.pretrained import convert, smp, smp_folder, sources
from segjax.pretrained.source import abstract_variables, build

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "smp.npz"
SIZE = (64, 96)
TOLERANCE = 1e-4

with np.load(GOLDEN) as _arrays:
    ANSWERS = dict(_arrays)
CASES = sorted({key.partition(" ")[0].removeprefix("smp/") for key in ANSWERS})
SMALL = "pspnet-resnet18"
"""The case with the fewest parameters, and tensors that the network does not have."""


def text_of(name, what):
    return json.loads(ANSWERS[f"smp/{name} {what}"].tobytes().decode())


def entry_of(name):
    return smp.source(name, text_of(name, "arguments"))


def hollow(name):
    """A state dict of nothing but zeros that share one byte of memory."""
    shapes = text_of(name, "shapes").items()
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes}


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", CASES)
def test_every_tensor_of_smp_has_its_place_or_is_not_computed_with(name):
    entry, state = entry_of(name), hollow(name)
    used = sources.tensors(entry, state, (), what="test")
    model = build(entry.group_of(used), "test")
    matched = convert.match(used, entry.names, abstract_variables(model))
    counters = {key for key in used if key.endswith("num_batches_tracked")}
    assert set(matched.values()) == used.keys() - counters
    deeper = ("encoder.layer3.", "encoder.layer4.", "encoder.features.")
    if "encoder_depth" not in text_of(name, "arguments") and "pspnet" not in name:
        deeper = ()
    assert all(key.startswith(deeper) for key in state.keys() - used.keys())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_smp(name, random_weights):
    shapes = {key: tuple(shape) for key, shape in text_of(name, "shapes").items()}
    state = random_weights.state_dict(shapes)
    model, variables = sources.load_as(entry_of(name), f"smp/{name}", state)
    options = {"xla_backend_optimization_level": 0}
    apply = jax.jit(
        lambda v, x: model.apply(v, x, train=False)["logits"], compiler_options=options
    )
    flat = np.asarray(apply(variables, random_weights.image(*SIZE))).ravel()
    expected = ANSWERS[f"smp/{name} logits"]
    chosen = np.linspace(0, flat.size - 1, expected.size).astype(int)
    assert np.std(expected) > 0.05 * np.abs(expected).max()
    assert np.abs(flat[chosen] - expected).max() < TOLERANCE * np.abs(expected).max()


def test_what_smps_examples_keep_beside_a_network_is_left_out(caplog):
    state = {f"model.{key}": x for key, x in hollow(SMALL).items()}
    state["model.classification_head.3.weight"] = np.zeros((2, 512), np.float32)
    state["mean"] = np.zeros((1, 3, 1, 1), np.float32)
    with caplog.at_level("INFO", logger="segjax"):
        model, variables = pretrained.load(f"smp/{SMALL}", state)
    assert set(variables["params"]["backbone"]) == {"stem", "stage2", "stage3"}
    assert (model.stage, model.num_classes) == ("stage3", 5)
    assert "modules that the network does not have are left out" in caplog.text


def test_an_output_stride_may_stand_without_its_backbone():
    name = "deeplabv3plus-mobilenet_v2"
    model, _ = pretrained.load(f"smp/{name}", hollow(name), output_stride=8)
    assert (model.backbone.output_stride, model.rates) == (8, (12, 24, 36))
    assert (
        model.backbone == build(entry_of(name).group | {"num_classes": 5}, "").backbone
    )


def test_an_unknown_source_names_architectures_and_encoders():
    with pytest.raises(UserError) as caught:
        pretrained.load("smp/unet-efficientnet-b0", {})
    for name in (*smp.ARCHITECTURES, *smp.ENCODERS):
        assert name in str(caught.value)
    assert len(str(caught.value).split(". ")) == 1


def saved(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file({"a": np.zeros(1)}, folder / "model.safetensors")
    return folder


def test_the_arguments_of_a_saved_network_are_those_of_ours(tmp_path):
    config = {
        "_model_class": "Unet",
        "encoder_name": "vgg13_bn",
        "encoder_depth": 4,
        "encoder_weights": "imagenet",
        "decoder_channels": [64, 32, 16, 8],
        "decoder_use_batchnorm": True,
        "classes": 1,
        "activation": "sigmoid",
        "in_channels": 3,
        "aux_params": None,
    }
    entry, file = sources.opened("smp/unet-vgg13_bn", saved(tmp_path, **config))
    assert file == tmp_path / "model.safetensors"
    assert entry.group["features"] == (64, 32, 16, 8)
    assert entry.group["stages"] == ("conv2", "conv3", "conv4", "conv5")
    assert entry.group["backbone"]["last_stage"] == "conv5"
    assert build({**entry.group, "num_classes": 1}, "test").center

    config = {"_model_class": "DeepLabV3Plus", "encoder_name": "resnet50"}
    saved(tmp_path, **config, encoder_output_stride=8, decoder_channels=128)
    entry, _ = sources.opened("smp/deeplabv3plus-resnet50", tmp_path)
    assert entry.group["backbone"]["output_stride"] == 8
    assert (entry.group["features"], entry.group["decoder_features"]) == (128, (128,))


ENCODERS = ".*resnet18, .*mobilenet_v2"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"encoder_name": "efficientnet-b0"}, f"'efficientnet-b0', which.*{ENCODERS}"),
        (
            {"_model_class": "UnetPlusPlus"},
            "is of UnetPlusPlus with .* supported are Unet",
        ),
        ({"_model_class": ["Unet"]}, "supported are Unet, FPN"),
        (
            {"encoder_name": "resnet50"},
            "is of smp/unet-resnet50, not of smp/unet-resnet34",
        ),
        ({"in_channels": 1}, "in_channels is 1, .* supported: 3"),
        ({"decoder_attention_type": "scse"}, "is 'scse', .*supported: None"),
        ({"decoder_use_norm": "layernorm"}, "supported: 'batchnorm', True"),
        ({"activation": "sigmoid", "classes": 2}, "activation is 'sigmoid', which"),
        ({"encoder_depth": "5"}, "encoder_depth is '5', .* supported: 5, 4, 3"),
        ({"decoder_channels": [8, 4]}, "is [8, 4], .* 5 integers, one for each level"),
        ({"decoder_channels": [8, 4, 2, 1, 0]}, "5 integers, one for each level"),
        ({"upsample": 2}, "has the argument upsample, .* it knows encoder_depth, "),
    ],
)
def test_a_saved_network_that_is_not_here_is_one_sentence(config, sentence, tmp_path):
    whole = {"_model_class": "Unet", "encoder_name": "resnet34", **config}
    with pytest.raises(UserError) as caught:
        sources.opened("smp/unet-resnet34", saved(tmp_path, **whole))
    assert re.search(sentence.replace("[8, 4]", r"\[8, 4\]"), str(caught.value))


def test_a_folder_without_its_files_is_one_sentence(tmp_path):
    source = "smp/unet-resnet34"
    with pytest.raises(UserError, match=r"has no config\.json: give the folder"):
        pretrained.load(source, tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"has no model\.safetensors: give the folder"):
        pretrained.load(source, tmp_path)
    saved(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="is not a JSON object of the arguments"):
        pretrained.load(source, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        pretrained.load(source, tmp_path)
    with pytest.raises(UserError, match="is a folder"):
        pretrained.load("torchvision/resnet18", tmp_path)


WEIRD = (
    None,
    True,
    0,
    -1,
    5.0,
    1e400,
    10**30,
    "x",
    "",
    [],
    [1],
    [1, 2, 3],
    {},
    {"a": 1},
)


@pytest.mark.parametrize("architecture", smp.ARCHITECTURES)
def test_whatever_the_arguments_are_there_is_a_network_or_a_sentence(
    architecture, tmp_path
):
    name, _, defaults = smp.ARCHITECTURES[architecture]
    source = f"smp/{architecture}-resnet18"
    plain = {"_model_class": name, "encoder_name": "resnet18", **smp.COMMON, **defaults}
    accepted, sentences = 0, []
    saved(tmp_path)
    for key in (*plain, *smp_folder.OLDER, *smp_folder.IGNORED):
        for value in WEIRD:
            (tmp_path / "config.json").write_text(json.dumps(plain | {key: value}))
            try:
                entry, _ = sources.opened(source, tmp_path)
            except UserError as error:
                sentences.append(str(error))
            else:
                assert build(entry.group | {"num_classes": 2}, "test").layers()
                accepted += 1
    assert accepted
    assert [x for x in sentences if str(tmp_path) not in x] == []
