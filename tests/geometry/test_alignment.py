"""Crops from receptive fields: those of FCN's release, and what they are good for."""

import numpy as np
import pytest

from segjax.backbones.alexnet import AlexNet
from segjax.backbones.googlenet import GoogLeNet
from segjax.backbones.resnet import ResNet
from segjax.backbones.vgg import VGG
from segjax.geometry.alignment import IMAGE, Step, align, minimum_side
from segjax.geometry.fields import Layer, output_size

VGG16 = VGG(first_padding=100, ceil_mode=True, fully_convolutional=True)
POOL = Layer("pool", 2, stride=2)


def targets(backbone, *stages):
    return (*(backbone.layers(stage) for stage in stages), IMAGE)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ((), [(32, 64, 19, 0)]),
        (("stage4",), [(2, 4, 0, 5), (16, 32, 27, 0)]),
        (("stage4", "stage3"), [(2, 4, 0, 5), (2, 4, 0, 9), (8, 16, 31, 0)]),
    ],
    ids=["32s", "16s", "8s"],
)
def test_offsets_on_vgg_are_those_of_the_release(stages, expected):
    coarse = VGG16.layers("fc7")
    found = align(coarse, targets(VGG16, *stages))
    assert list(found) == [Step(*numbers) for numbers in expected]
    assert minimum_side(coarse, targets(VGG16, *stages)) == 1


def test_the_offset_on_alexnet_is_that_of_the_release():
    backbone = AlexNet(first_padding=100, fully_convolutional=True)
    (step,) = align(backbone.layers("fc7"), (IMAGE,))
    assert (step.taps, step.factor, step.start) == (63, 32, 18)


def test_sizes_of_an_image_of_500_pixels_are_those_of_the_release():
    sizes = {"fc7": 16, "stage4": 44, "stage3": 88}
    found = {stage: output_size(VGG16.layers(stage), 500) for stage in sizes}
    assert found == sizes
    enlarged = {1: [544], 2: [34, 560], 3: [34, 70, 568]}
    for count, expected in enlarged.items():
        stages = ("stage4", "stage3")[: count - 1]
        size, whole = sizes["fc7"], []
        goals = [*(sizes[stage] for stage in stages), 500]
        steps = align(VGG16.layers("fc7"), targets(VGG16, *stages))
        for step, goal in zip(steps, goals, strict=True):
            whole.append(step.factor * (size - 1) + step.taps)
            size = step.length(size, goal)
        assert whole == expected
        assert size == 500


def test_units_on_whole_pixels_take_an_odd_kernel():
    backbone = ResNet(18)
    steps = align(backbone.layers(), targets(backbone, "stage4", "stage3"))
    assert [step.taps for step in steps] == [3, 3, 15]
    assert [step.start for step in steps] == [1, 1, 7]


@pytest.mark.parametrize(
    ("coarse", "stages"),
    [
        (ResNet(18).layers(), targets(ResNet(18), "stage4")),
        (GoogLeNet().layers(), (IMAGE,)),
        (VGG(ceil_mode=True).layers(), targets(VGG(ceil_mode=True), "stage3")),
    ],
    ids=["resnet", "googlenet", "vgg"],
)
def test_from_the_smallest_side_on_every_side_is_covered(coarse, stages):
    smallest = minimum_side(coarse, stages)
    for side in range(smallest, smallest + 200):
        size = output_size(coarse, side)
        for step, target in zip(align(coarse, stages), stages, strict=True):
            size = step.length(size, output_size(target, side))
        assert size == side


def test_a_ramp_meets_itself_on_the_grid_of_the_image():
    """Units that hold their own place in the image interpolate to the place."""
    coarse = (POOL, Layer("conv", 3, padding=3), POOL, POOL)
    step = align(coarse, (IMAGE,))[0]
    first, stride, count = -4 + 3.5, 8, 9
    ramp = first + stride * np.arange(count)
    places = (np.arange(stride * count) - (step.taps - 1) / 2) / stride
    enlarged = np.interp(places, np.arange(count), ramp)[step.start :]
    np.testing.assert_allclose(enlarged[4:50], np.arange(4, 50))


@pytest.mark.parametrize(
    ("coarse", "finer", "sentence"),
    [
        ((POOL,) * 2, ((Layer("a", 3, stride=3),),), "whole factors"),
        ((POOL,), ((POOL, POOL),), "from coarse to fine"),
        ((Layer("a", 32, stride=4),), (IMAGE,), "12 pixels too far inside"),
        ((Layer("a", 4, stride=4), POOL), ((Layer("b", 3, 4, 0),),), "cannot meet"),
    ],
)
def test_grids_that_cannot_meet_are_refused(coarse, finer, sentence):
    with pytest.raises(ValueError, match=sentence):
        align(coarse, finer)


def test_pooling_that_drops_rows_is_advised_to_keep_them():
    backbone = VGG()
    with pytest.raises(ValueError, match="ceil_mode=True"):
        minimum_side(backbone.layers(), targets(backbone, "stage4", "stage3"))
