import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.geometry.fields import (
    Layer,
    input_window,
    output_size,
    receptive_field,
)

VGG = [
    layer
    for stage, convolutions in enumerate((2, 2, 3, 3, 3), 1)
    for layer in (
        *(Layer(f"conv{stage}_{i + 1}", 3, padding=1) for i in range(convolutions)),
        Layer(f"pool{stage}", 2, stride=2, ceil_mode=True),
    )
]
FC = [Layer("fc6", 7), Layer("fc7")]
FCN = [Layer("conv1_1", 3, padding=100), *VGG[1:], *FC]


def unet(depth, padding):
    def double(name):
        return [Layer(f"{name}/conv{i}", 3, padding=padding) for i in (1, 2)]

    layers = []
    for i in range(1, depth + 1):
        layers += [*double(f"down{i}"), Layer(f"pool{i}", 2, stride=2)]
    layers += double("bottom")
    for i in range(depth, 0, -1):
        layers += [Layer(f"upsample{i}", 2, stride=2, transposed=True)]
        layers += double(f"up{i}")
    return layers


def run(layers, x):
    """The network in convolutions of ones, for inputs above 0: what reaches what."""
    for layer in layers:
        kernel = jnp.ones((layer.kernel, 1, 1))
        before, after = layer.pads
        strides = {"window_strides": (layer.stride,)}
        if layer.transposed:
            before, after = layer.extent - 1 - before, layer.extent - 1 - after
            after += layer.output_padding
            strides = {"window_strides": (1,), "lhs_dilation": (layer.stride,)}
        x = lax.conv_general_dilated(
            x[None, :, None],
            kernel,
            padding=[(before, after)],
            rhs_dilation=(layer.dilation,),
            dimension_numbers=("NWC", "WIO", "NWC"),
            **strides,
        )[0, :, 0]
        x = x / layer.kernel
    return x


NETWORKS = {
    "two convolutions": [Layer("a", 3, padding=1), Layer("b", 3)],
    "strides and dilation": [
        Layer("a", 7, stride=2, padding=3),
        Layer("b", 3, padding=4, dilation=4),
        Layer("c", 2, stride=3),
    ],
    "uneven padding": [Layer("a", 4, stride=2, padding=(1, 2)), Layer("b", 3)],
    "crop": [Layer("a", 5, padding=4), Layer("b", padding=(-3, -2))],
    "U-Net": unet(2, 0),
    "padded U-Net": unet(2, 1),
    "bilinear upsampling": [
        Layer("a", 3, stride=4, padding=1),
        Layer("b", 8, stride=4, padding=2, transposed=True),
    ],
    "gaps of a transposed layer": [
        Layer("a", 3),
        Layer("b", 2, stride=3, transposed=True, output_padding=1),
        Layer("c", 2),
    ],
    "dilated transposed layer": [
        Layer("a", 3, stride=2),
        Layer("b", 3, stride=2, dilation=3, transposed=True),
        Layer("c", 3, stride=5),
    ],
}


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_size_and_window_are_those_of_the_gradients_of_a_network(layers):
    size = 60
    jacobian = np.array(jax.jit(jax.jacrev(lambda x: run(layers, x)))(jnp.ones(size)))
    assert len(jacobian) == output_size(layers, size)
    middle = range(len(jacobian) // 3, 2 * len(jacobian) // 3)
    for start in middle:
        for stop in range(start + 1, middle.stop + 1):
            reached = np.flatnonzero((jacobian[start:stop] > 0).any(0))
            window = input_window(layers, start, stop)
            if reached.size:
                inside = max(window[0], 0), min(window[1], size)
                assert inside == (reached[0], reached[-1] + 1)
            else:
                assert window == (0, 0)


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_receptive_field_is_that_of_all_windows(layers):
    field = receptive_field(layers)
    sizes = [np.diff(input_window(layers, i, i + 1)).item() for i in range(120)]
    assert (field.smallest, field.size) == (min(sizes), max(sizes))
    window = input_window(layers, 0, 1)
    later = input_window(layers, 120, 121)
    assert later[0] - window[0] == 120 * field.stride


def test_fields_and_strides_of_vgg_16_are_those_of_the_table():
    layers = [*VGG, *FC]
    fields = [receptive_field(layers[: i + 1]) for i in range(len(layers))]
    sizes = [3, 5, 6, 10, 14, 16, 24, 32, 40, 44, 60, 76, 92, 100]
    assert [f.size for f in fields] == [*sizes, 132, 164, 196, 212, 404, 404]
    strides = [1, 1, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 32, 32, 32]
    assert [f.stride for f in fields] == strides
    assert all(f.smallest == f.size for f in fields)


def test_crop_of_fcn_32s_is_19_and_restores_the_size():
    upsampled = [*FCN, Layer("upscore", 64, stride=32, transposed=True)]
    assert receptive_field(upsampled).crop_offset == 19
    assert output_size(upsampled, 500) == 544
    cropped = [*upsampled, Layer("crop", padding=(-19, 500 + 19 - 544))]
    assert output_size(cropped, 500) == 500
    assert receptive_field(cropped).centre == 0


def test_unpadded_unet_sees_188_to_204_pixels_and_maps_572_to_388():
    layers = unet(4, 0)
    field = receptive_field(layers)
    assert (field.smallest, field.size, field.stride) == (188, 204, 1)
    assert field.centre == 92
    assert output_size(layers, 572) == 388
    assert output_size(layers, 188) == 4
    assert output_size(layers, 700) == 516
    assert input_window(layers, 0, 388) == (0, 572)


def test_padded_unet_keeps_size_and_centre():
    layers = unet(4, 1)
    assert output_size(layers, 256) == 256
    assert receptive_field(layers).centre == 0
    # By hand: two convolutions add 2 on each side, an upsampling halves and rounds
    # down, a pooling doubles.
    assert input_window(layers, 0, 1) == (-94, 94)
    assert input_window(layers, 0, 256) == (-94, 350)


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (Layer("conv", 7, stride=2, padding=3), 224, 112),
        (Layer("conv", 3, dilation=2), 8, 4),
        (Layer("pool", 2, stride=2), 321, 160),
        (Layer("pool", 2, stride=2, ceil_mode=True), 321, 161),
        (Layer("pool", 2, stride=2, ceil_mode=True), 1, 1),
        (Layer("pool", 2, stride=2, padding=1, ceil_mode=True), 5, 3),
        (Layer("pool", 2, stride=3, ceil_mode=True), 6, 2),
        (Layer("up", 4, stride=2, padding=1, transposed=True), 16, 32),
        (
            Layer("up", 3, stride=2, padding=1, transposed=True, output_padding=1),
            16,
            32,
        ),
    ],
    ids=str,
)
def test_output_sizes_follow_the_rules_of_the_operators(layer, size, expected):
    assert output_size([layer], size) == expected


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Layer("a", kernel=0), "kernel of layer 'a' is 0; it must be at"),
        (lambda: Layer("a", dilation=-1), "dilation of layer 'a' is -1"),
        (lambda: Layer("a", output_padding=1), "output_padding of layer 'a' is 1"),
        (
            lambda: Layer("a", stride=2, transposed=True, output_padding=2),
            "output_padding of layer 'a' is 2; allowed is 0 to 1",
        ),
        (
            lambda: Layer("a", transposed=True, ceil_mode=True),
            "ceil_mode of layer 'a' is True",
        ),
        (lambda: input_window(VGG, 3, 3), "stop is 3; it must be larger than start, 3"),
        (
            lambda: output_size([Layer("a", 3), Layer("b", 5)], 6),
            "size leaves 4 pixels at layer 'b', which needs at least 5",
        ),
        (
            lambda: output_size([Layer("a", 2, padding=2, transposed=True)], 2),
            "size leaves 2 pixels at layer 'a', which needs at least 4",
        ),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
