"""U-Net: the figures of the paper, its padded form, and what its skips are for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.geometry.fields import (
    input_window,
    output_size,
    receptive_field,
)
from segjax.models import UNet
from segjax.runs.summary import summarize

PAPER = UNet(num_classes=2)


def small(**changes):
    arguments = {"features": (4, 6, 8), "padding": "SAME", "dropout_rate": 0.0}
    return UNet(**({"num_classes": 3} | arguments | changes))


def abstract(model, side, channels=1):
    """Abstract logits and variables for an image of `side` x `side`."""
    image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    key = jax.random.key(0)
    init = lambda x: model.init_with_output(key, x, train=False)
    outputs, variables = jax.eval_shape(init, image)
    return outputs["logits"], variables


@functools.cache
def initialised(model, side, channels=1):
    image = jnp.zeros((1, side, side, channels))
    init = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))
    return init(image)


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("channels", "num_classes", "expected"),
    [
        (1, 2, 31_030_658),
        (1, 1, 31_030_593),
        (3, 2, 31_031_810),
        (3, 21, 31_033_045),
    ],
)
def test_parameter_counts_are_those_of_the_paper(channels, num_classes, expected):
    _, variables = abstract(UNet(num_classes=num_classes), 188, channels)
    assert count(variables["params"]) == expected


def test_parameters_of_each_layer_are_those_of_the_paper():
    params = abstract(PAPER, 188)[1]["params"]
    expected = {
        "down1": (640, 36_928),
        "down2": (73_856, 147_584),
        "down3": (295_168, 590_080),
        "down4": (1_180_160, 2_359_808),
        "bottom": (4_719_616, 9_438_208),
        "up4": (4_719_104, 2_359_808),
        "up3": (1_179_904, 590_080),
        "up2": (295_040, 147_584),
        "up1": (73_792, 36_928),
    }
    found = {
        name: (count(params[name]["conv1"]), count(params[name]["conv2"]))
        for name in expected
    }
    assert found == expected
    upsampling = {"upsample4": 2_097_664, "upsample3": 524_544}
    upsampling |= {"upsample2": 131_200, "upsample1": 32_832}
    assert {name: count(params[name]) for name in upsampling} == upsampling
    assert count(params["logits"]) == 130
    assert params.keys() == expected.keys() | upsampling.keys() | {"logits"}


@pytest.mark.parametrize(("side", "expected"), [(572, 388), (188, 4), (700, 516)])
def test_unpadded_sizes_are_those_of_figure_1(side, expected):
    logits, _ = abstract(PAPER, side)
    assert logits.shape == (1, expected, expected, 2)
    assert PAPER.geometry.output_side(side) == expected
    assert output_size(PAPER.layers(), side) == expected


def test_sizes_between_the_layers_are_those_of_figure_1():
    image = jax.ShapeDtypeStruct((1, 572, 572, 1), jnp.float32)

    def sides(x):
        model = PAPER.clone()
        _, state = model.init_with_output(
            jax.random.key(0), x, train=False, capture_intermediates=True
        )
        return state["intermediates"]

    seen = jax.eval_shape(sides, image)
    side = lambda *path: functools.reduce(lambda t, k: t[k], path, seen)["__call__"][
        0
    ].shape[1]
    expected = {
        "down1": (570, 568),
        "down2": (282, 280),
        "down3": (138, 136),
        "down4": (66, 64),
        "bottom": (30, 28),
        "up4": (54, 52),
        "up3": (102, 100),
        "up2": (198, 196),
        "up1": (390, 388),
    }
    found = {name: (side(name, "conv1"), side(name, "conv2")) for name in expected}
    assert found == expected
    upsampled = [side(f"upsample{i}") for i in (4, 3, 2, 1)]
    assert upsampled == [56, 104, 200, 392]


def test_geometry_of_the_paper():
    geometry = PAPER.geometry
    assert (geometry.stride, geometry.margin, geometry.halo) == (16, 92, 0)
    assert geometry.minimum == 188
    assert [n for n in range(580) if geometry.accepted(n)] == list(range(188, 580, 16))


def test_receptive_field_is_that_of_the_specification():
    field = receptive_field(PAPER.layers())
    assert (field.smallest, field.size) == (188, 204)


def test_padded_keeps_the_size():
    for side in (16, 48, 64):
        logits, _ = abstract(UNet(num_classes=2, padding="SAME"), side)
        assert logits.shape == (1, side, side, 2)


def test_padded_has_the_parameters_of_the_paper():
    _, variables = abstract(UNet(num_classes=2, padding="SAME"), 16)
    assert count(variables["params"]) == 31_030_658


def test_images_need_not_be_square():
    model = small(padding="VALID")
    image = jnp.zeros((2, 44, 52, 1))
    logits = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0], image
    )["logits"]
    margin = model.geometry.margin
    assert logits.shape == (2, 44 - 2 * margin, 52 - 2 * margin, 3)


@pytest.mark.parametrize(
    ("model", "side", "nearest"),
    [
        (PAPER, 512, ("508", "524")),
        (PAPER, 100, ("188",)),
        (UNet(num_classes=2, padding="SAME"), 500, ("496", "512")),
    ],
)
def test_illegal_sizes_are_refused_with_the_nearest_legal_ones(model, side, nearest):
    with pytest.raises(ValueError, match=f"image H = {side}") as caught:
        abstract(model, side)
    sentence = str(caught.value)
    assert all(word in sentence for word in nearest)
    for word in nearest:
        abstract(model, int(word))


def test_the_width_is_checked_too():
    with pytest.raises(ValueError, match="image W = 17"):
        jax.eval_shape(
            lambda x: small().init(jax.random.key(0), x, train=False),
            jnp.zeros((1, 16, 17, 1)),
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"padding": "same"}, "padding is .*got 'same'"),
        ({"features": (4,)}, "two"),
        ({"features": (4, 0)}, r"features are integers of at least 1, got \(4, 0\)"),
        ({"features": (4, 8.0)}, "features are integers"),
        ({"num_classes": 0}, "num_classes is an integer of at least 1, got 0"),
        ({"dropout_rate": 1.0}, "dropout_rate is at least 0 and less than 1, got 1.0"),
        ({"dropout_rate": -0.1}, "dropout_rate"),
        ({"dtype": "float31"}, 'dtype is a dtype of real numbers.*"bfloat16".*float31'),
        ({"dtype": "int32"}, "dtype is a dtype of real numbers"),
        ({"param_dtype": "half-baked"}, "param_dtype is"),
    ],
)
def test_wrong_attributes_are_refused_when_the_network_is_made(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(**changes)


def test_dropout_acts_in_training_alone():
    model = small(dropout_rate=0.5)
    variables = initialised(model, 16)
    image = jax.random.normal(jax.random.key(1), (1, 16, 16, 1))
    apply = jax.jit(model.apply, static_argnames="train")
    logits = lambda train, key: apply(
        variables, image, train=train, rngs={"dropout": jax.random.key(key)}
    )["logits"]
    np.testing.assert_array_equal(logits(False, 0), logits(False, 1))
    np.testing.assert_array_equal(logits(True, 0), logits(True, 0))
    assert (logits(True, 0) != logits(True, 1)).any()


def test_the_last_skip_carries_its_dropout():
    model = small(dropout_rate=1 - 1e-6)  # nothing is left
    variables = initialised(model, 16)
    image = jax.random.normal(jax.random.key(1), (1, 16, 16, 1))
    _, seen = model.apply(
        variables,
        image,
        train=True,
        rngs={"dropout": jax.random.key(0)},
        capture_intermediates=True,
    )
    seen = seen["intermediates"]
    assert (seen["down2"]["__call__"][0] != 0).any()
    kernel, bias = (variables["params"]["up2"]["conv1"][k] for k in ("kernel", "bias"))
    assert kernel.shape[2] == 12
    np.testing.assert_array_equal(
        seen["up2"]["conv1"]["__call__"][0], jnp.broadcast_to(bias, (1, 8, 8, 6))
    )


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_upsampled_maps_come_before_the_skip(padding):
    """Cut off from the upsampled half of its input, `up1` sees the skip alone."""
    model = small(padding=padding)
    side = model.geometry.next_accepted(16)
    variables = initialised(model, side)
    image = jax.random.normal(jax.random.key(1), (1, side, side, 1))

    def logits(bottom_bias, skip_from):
        params = jax.tree.map(lambda x: x, variables["params"])
        kernel = params["up1"]["conv1"]["kernel"]
        used = jnp.arange(8)[None, None, :, None] >= skip_from
        params["up1"]["conv1"]["kernel"] = jnp.where(used, kernel, 0.0)
        params["bottom"]["conv2"]["bias"] += bottom_bias
        return apply({"params": params}, image)

    apply = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])
    np.testing.assert_array_equal(logits(0.0, 4), logits(5.0, 4))
    assert (logits(0.0, 0) != logits(5.0, 0)).any()


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("level", [1, 2])
def test_every_skip_matters(padding, level):
    """With the way through the next level down cut, a level reaches the logits."""
    model = small(padding=padding)
    side = model.geometry.next_accepted(16)
    variables = initialised(model, side)
    below = f"down{level + 1}" if level < 2 else "bottom"

    def cut(params):
        params = dict(params)
        conv = params[below]["conv1"]
        params[below] = params[below] | {
            "conv1": conv | {"kernel": jnp.zeros_like(conv["kernel"])}
        }
        return params

    image = jax.random.normal(jax.random.key(1), (1, side, side, 1))
    total = lambda params: (
        model.apply({"params": cut(params)}, image, train=False)["logits"] ** 2
    ).sum()
    gradient = jax.jit(jax.grad(total))(variables["params"])
    assert (gradient[f"down{level}"]["conv2"]["kernel"] != 0).any()
    assert not gradient[below]["conv1"]["kernel"].any()


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_an_input_pixel_changes_the_outputs_that_the_layers_say(padding):
    """One row at a time is lit up; all weights are positive, so it shows wherever it
    can be seen.
    """
    model = small(padding=padding)
    geometry = model.geometry
    stride, margin = geometry.stride, geometry.margin
    side, width = geometry.next_accepted(2 * margin + 60), geometry.next_accepted(1)
    variables = jax.tree.map(jnp.abs, initialised(model, side))
    lit = 1.0 + 100.0 * jnp.eye(side)[:, :, None, None]
    images = jnp.concatenate([jnp.ones((1, side, 1, 1)), lit])
    images = jnp.broadcast_to(images, (side + 1, side, width, 1))
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    rows = np.asarray(apply(images)).sum((2, 3))
    changed = rows[1:] != rows[:1]
    for output in range(rows.shape[1]):
        seen = np.flatnonzero(changed[:, output])
        first, last = input_window(model.layers(), output, output + 1)
        assert (seen[0], seen[-1] + 1) == (max(first, 0), min(last, side))
        block = output // stride * stride + margin
        assert block - margin - geometry.halo <= first
        assert last <= block + stride + margin + geometry.halo


@pytest.mark.parametrize("features", [(2, 3), (2, 3, 4)])
def test_beyond_the_halo_a_cut_cannot_be_seen(features):
    model = small(features=features)
    halo, stride = model.geometry.halo, model.geometry.stride
    side = 2 * halo + 4 * stride
    variables = initialised(model, side)
    image = jax.random.normal(jax.random.key(1), (1, side, side, 1))
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    whole, part = apply(image), apply(image[:, : side - stride])
    rows = np.abs(np.asarray(whole[:, : side - stride] - part)).max((0, 2, 3))
    assert rows[: side - stride - halo].max() <= 1e-5
    assert rows[side - stride - halo :].max() > 1e-4


def test_halo_of_the_padded_paper_network():
    geometry = UNet(num_classes=2, padding="SAME").geometry
    assert (geometry.stride, geometry.margin, geometry.minimum) == (16, 0, 16)
    assert 92 <= geometry.halo <= 112
    assert geometry.halo % 16 == 0


def test_shifts_by_the_stride_shift_the_output():
    model = small(padding="VALID")
    stride = model.geometry.stride
    side = model.geometry.next_accepted(60)
    image = jax.random.normal(jax.random.key(1), (1, side + stride, side, 1))
    variables = initialised(model, side)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    np.testing.assert_allclose(
        apply(image[:, stride:])[:, :-stride], apply(image[:, :-stride])[:, stride:],
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip


def test_summary_of_the_paper_reports_its_figures():
    from pathlib import Path

    from segjax import config

    root = Path(__file__).resolve().parents[2]
    found = summarize(config.load(f"{root}/configs/unet_em.py:paper"))
    assert found["parameters"] == 31_030_658
    assert found["input_size"] == [572, 572, 1]
    assert found["output_size"] == [388, 388, 2]
    assert found["receptive_field"] == {"smallest": 188, "largest": 204}
    assert (found["stride"], found["margin"], found["halo"]) == (16, 92, 0)
