"""Weights of a classifier in a network that has its layers without a backbone."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax import pretrained
from segjax.errors import UserError
from segjax.models import DeconvNet, SegNet
from segjax.pretrained import sources
from segjax.runs import file_weights

FEATURES = (2, 3, 4, 5, 6)


def random_state_dict(source, features=FEATURES, window=7, fc_features=8):
    """Tensors of a narrow VGG-16 with torchvision's names."""
    rng = np.random.default_rng(0)
    state, channels = {}, 3
    for theirs, ours in pretrained.SOURCES[source].names.items():
        if ours.startswith("conv"):
            last, channels = channels, features[int(ours[4]) - 1]
            state[f"{theirs}.weight"] = rng.standard_normal((channels, last, 3, 3))
            state[f"{theirs}.bias"] = rng.standard_normal(channels)
        elif ours.startswith("norm"):
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                state[f"{theirs}.{leaf}"] = rng.uniform(0.5, 2, channels)
            state[f"{theirs}.num_batches_tracked"] = np.int64(7)
        else:
            sides = {"fc6": window * window * features[-1]}
            width = 10 if ours == "fc8" else fc_features
            shape = (width, sides.get(ours, fc_features))
            state[f"{theirs}.weight"] = rng.standard_normal(shape)
            state[f"{theirs}.bias"] = rng.standard_normal(width)
    return state


def fit(source, model, state):
    target = file_weights.abstract(model, 3)
    entry, what = pretrained.SOURCES[source], "The weights of a file"
    state = sources.tensors(entry, sources.unwrapped(entry, state), (), what=what)
    found = file_weights.fit(entry, state, target, what=what)
    return found, target


def theirs_of(source):
    return {ours: theirs for theirs, ours in pretrained.SOURCES[source].names.items()}


def test_the_encoder_of_segnet_is_that_of_vgg16_with_norms():
    source = "torchvision/vgg16_bn"
    state = random_state_dict(source)
    found, target = fit(source, SegNet(5, FEATURES), state)
    theirs = theirs_of(source)
    encoder = {name for name in target["params"] if not name.endswith("_D")}
    assert len(encoder) == 26
    assert found["params"].keys() == encoder
    kernel = found["params"]["conv4_2"]["kernel"]
    expected = state[f"{theirs['conv4_2']}.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected.astype(np.float32))
    for leaves, leaf, name in (
        ("params", "scale", "weight"),
        ("params", "bias", "bias"),
        ("batch_stats", "mean", "running_mean"),
        ("batch_stats", "var", "running_var"),
    ):
        expected = state[f"{theirs['norm5_3']}.{name}"].astype(np.float32)
        np.testing.assert_array_equal(found[leaves]["norm5_3"][leaf], expected)
    bias = state[f"{theirs['conv5_3']}.bias"].astype(np.float32)
    np.testing.assert_array_equal(found["params"]["conv5_3"]["bias"], bias)


def test_norms_that_the_classifier_lacks_are_random():
    source = "torchvision/vgg16"
    found, _ = fit(source, SegNet(5, FEATURES), random_state_dict(source))
    assert len(found["params"]) == 13
    assert all(name.startswith("conv") for name in found["params"])
    assert "batch_stats" not in found


def test_deconvnet_takes_the_dense_layers_too():
    source = "torchvision/vgg16"
    model = DeconvNet(5, FEATURES, fc_features=8)
    state = random_state_dict(source)
    found, _ = fit(source, model, state)
    assert found["params"].keys() >= {"conv5_3", "fc6", "fc7"}
    assert "fc8" not in found["params"]
    dense = state[f"{theirs_of(source)['fc6']}.weight"].astype(np.float32)
    kernel = dense.reshape(8, 6, 7, 7).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found["params"]["fc6"]["kernel"], kernel)


def test_layers_of_another_width_and_missing_ones_are_reported():
    source = "torchvision/vgg16_bn"
    state = random_state_dict(source)
    with pytest.raises(
        UserError, match=r"features\.1\.running_mean is \[2\], expected"
    ):
        fit(source, SegNet(5, (4, *FEATURES[1:])), state)
    first = theirs_of(source)["conv1_1"]
    for leaf in ("weight", "bias"):
        del state[f"{first}.{leaf}"]
    with pytest.raises(UserError, match=r"2 missing: .*\(for conv1_1/"):
        fit(source, SegNet(5, FEATURES), state)


def test_a_network_without_any_of_the_layers_is_reported():
    source = "torchvision/resnet18"
    with pytest.raises(UserError, match=r"config\.model has none"):
        fit(source, SegNet(5, FEATURES), {"conv1.weight": jnp.zeros((1,))})
