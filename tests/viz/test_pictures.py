"""Colours of single pixels, borders, and images of every type."""

import numpy as np
import pytest
from PIL import Image

from segjax.types import IGNORE_LABEL
from segjax.viz import (
    IGNORE_COLOR,
    colorize,
    comparison,
    error_map,
    overlay,
    palette,
    pictures,
    to_display,
)
from segjax.viz.pictures import INVENTED, MISSED

COLORS = ((10, 20, 30), (200, 100, 0))


def ramp(dtype, channels=1, top=1.0):
    values = np.linspace(0, top, 32 * 40 * channels).reshape(32, 40, channels)
    return values.astype(dtype)


def halves(side=8):
    label = np.zeros((side, side), np.uint8)
    label[:, side // 2 :] = 1
    return label


def test_the_palette_of_an_indexed_png_shows_the_colors():
    label = np.array([[0, 1, IGNORE_LABEL]], np.uint8)
    image = Image.fromarray(label)
    image.putpalette(palette(COLORS).ravel().tolist())
    shown = np.asarray(image.convert("RGB"))
    assert shown.tolist() == [[[10, 20, 30], [200, 100, 0], list(IGNORE_COLOR)]]
    np.testing.assert_array_equal(shown, colorize(label, COLORS))


def test_the_palette_of_256_classes_keeps_all_their_colors():
    colors = [(i, i, 0) for i in range(256)]
    np.testing.assert_array_equal(palette(colors), colors)


@pytest.mark.parametrize(
    "colors", [[(0, 0, 256)], [(0, 0)], [(0, 0, -1)], [(0, 0, 0)] * 257]
)
def test_colors_that_are_no_bytes_are_refused(colors):
    with pytest.raises(ValueError, match="triples of 0 to 255"):
        palette(colors)


@pytest.mark.parametrize("value", [2, -1, 254, 300])
def test_a_class_without_a_color_is_refused(value):
    with pytest.raises(ValueError, match=f"class {value}, but there are 2 colors"):
        colorize(np.array([[0, value]]), COLORS)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("dtype", "top"),
    [
        (np.uint8, 255),
        (np.uint16, 900),
        (np.int32, 9),
        (np.float32, 1),
        (np.float64, -7),
    ],
)
def test_images_of_any_type_are_shown_from_dark_to_light(dtype, top, channels):
    shown = to_display(ramp(dtype, channels, top))
    assert shown.dtype == np.uint8
    assert shown.shape == (32, 40, 3)
    assert shown[..., 0].min() < 5
    assert shown[..., 0].max() > 245
    if channels == 1:
        assert (shown == shown[..., :1]).all()
    if channels == 2:
        assert not shown[..., 2].any()


def test_bytes_are_shown_as_they_are():
    image = np.full((4, 5, 3), 77, np.uint8)
    np.testing.assert_array_equal(to_display(image), image)
    np.testing.assert_array_equal(to_display(image[..., 0]), image)


def test_one_outlier_does_not_darken_the_rest():
    image = ramp(np.float32)
    image[0, 0] = 1e6
    assert to_display(image).mean() == pytest.approx(127, abs=3)


@pytest.mark.parametrize("value", [0.0, 3.5, -2.0])
def test_a_flat_image_is_mid_grey(value):
    assert (to_display(np.full((3, 3), value)) == 127).all()


def test_masks_are_black_and_white():
    assert to_display(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]
    assert (to_display(np.ones((2, 2), bool)) == 255).all()


def test_pixels_that_are_no_number_are_black_and_infinite_ones_white():
    image = ramp(np.float32)
    image[3, 4], image[5, 6], image[7, 8] = np.nan, np.inf, -np.inf
    shown = to_display(image)
    assert shown[3, 4, 0] == shown[7, 8, 0] == 0
    assert shown[5, 6, 0] == 255
    assert (to_display(np.full((2, 2), np.nan)) == 0).all()


def test_an_array_that_is_no_image_is_refused():
    for shape in ((4,), (1, 2, 3, 4), (0, 5)):
        with pytest.raises(ValueError, match="image must be"):
            to_display(np.zeros(shape))


def test_an_overlay_tints_regions_and_paints_borders_one_pixel_wide():
    image = np.full((8, 8), 100, np.uint8)
    shown = overlay(image, halves(), COLORS, alpha=0.5)
    assert shown[4, 1].tolist() == [55, 60, 65]
    assert shown[4, 6].tolist() == [150, 100, 50]
    assert shown[4, 3].tolist() == [10, 20, 30]
    painted = (shown == COLORS[0]).all(-1)
    np.testing.assert_array_equal(painted, np.arange(8)[None] == np.full((8, 1), 3))


def test_an_overlay_of_strength_zero_shows_the_image_between_borders():
    image = ramp(np.float32)[..., 0]
    label = np.zeros((32, 40), int)
    np.testing.assert_array_equal(
        overlay(image, label, COLORS, alpha=0), to_display(image)
    )


def test_ignored_pixels_show_the_bare_image():
    label = halves()
    label[:2] = IGNORE_LABEL
    image = np.full((8, 8, 3), 100, np.uint8)
    shown = overlay(image, label, COLORS)
    assert (shown[:2] == 100).all()
    assert (shown[2:] != 100).any(-1).all()


def test_errors_of_two_classes_say_their_direction():
    label = np.array([[0, 0, 1, 1, IGNORE_LABEL]])
    shown = error_map(label, np.array([[0, 1, 0, 1, 0]]))[0]
    assert [tuple(map(int, pixel)) for pixel in shown[1:3]] == [MISSED, INVENTED]
    assert shown[0].mean() < 100 < 200 < shown[3].mean()
    assert tuple(shown[4]) == IGNORE_COLOR


def test_errors_of_many_classes_are_all_of_one_color():
    shown = error_map(np.array([[0, 1, 2]]), np.array([[0, 2, 0]]))[0]
    assert [tuple(map(int, pixel)) for pixel in shown[1:]] == [INVENTED, INVENTED]
    assert shown[0].mean() > 200


@pytest.mark.parametrize(
    ("names", "missed", "invented"),
    [
        (("membrane", "cell"), ("membrane missed", 0), ("membrane invented", 1)),
        (("background", "nucleus"), ("nucleus missed", 1), ("nucleus invented", 0)),
        (("Background", "nucleus"), ("nucleus missed", 1), ("nucleus invented", 0)),
    ],
)
def test_the_legend_names_errors_after_what_is_looked_for(
    monkeypatch, names, missed, invented
):
    entries = []
    lay_out = pictures._lay_out
    monkeypatch.setattr(
        pictures, "_lay_out", lambda *a: entries.extend(a[1]) or lay_out(*a)
    )
    image = np.zeros((8, 8), np.uint8)
    comparison(image, halves(), 1 - halves(), COLORS, names)
    legend = {name: tuple(color) for name, color in entries}
    # The error map's pixels where class 0, and where class 1, was overlooked.
    overlooked = error_map(np.array([[0, 1]]), np.array([[1, 0]]))[0].tolist()
    for name, class_id in (missed, invented):
        assert legend[name] == tuple(overlooked[class_id])


@pytest.mark.parametrize("side", [40, 300])
def test_a_comparison_holds_its_panels_pixel_for_pixel(side):
    label = halves(side)
    prediction = label.T.copy()
    image = np.full((side, side), 90, np.uint8)
    picture = np.asarray(comparison(image, label, prediction, COLORS, ("a", "b")))
    zoom = -(-256 // side)
    expected = [
        to_display(image),
        colorize(label, COLORS),
        colorize(prediction, COLORS),
        error_map(label, prediction),
    ]
    assert picture.shape[1] > 4 * side * zoom
    top = np.flatnonzero((picture[:, 30] == 90).all(-1))[0]
    for i, panel in enumerate(expected):
        left = 12 + i * (side * zoom + 12)
        shown = picture[top : top + side * zoom, left : left + side * zoom]
        np.testing.assert_array_equal(shown, panel.repeat(zoom, 0).repeat(zoom, 1))


def test_a_comparison_of_a_large_image_shows_a_part_of_its_pixels():
    label = np.zeros((500, 2500), np.uint8)
    label[:, 1250:] = 1
    picture = comparison(label * 255, label, label, COLORS, ("a", "b"))
    assert picture.width < 4 * (2500 / 3 + 20)
    assert picture.height > 500 / 3


def test_a_comparison_without_label_has_two_panels():
    image = np.zeros((64, 64), np.uint16)
    with_label = comparison(image, halves(64), halves(64), COLORS, ("a", "b"))
    without = comparison(image, None, halves(64), COLORS, ("a", "b"))
    assert without.width < with_label.width * 0.6


def test_the_legend_of_many_classes_wraps():
    names = [f"a class of long name {i}" for i in range(21)]
    colors = [(i, i, i) for i in range(21)]
    image = np.zeros((64, 64), np.uint8)
    few = comparison(image, image, image, colors[:3], names[:3])
    many = comparison(image, image, image, colors, names)
    assert many.width == few.width
    assert many.height > few.height + 30


def test_sizes_that_differ_are_refused():
    image, label = np.zeros((8, 9)), halves()
    with pytest.raises(ValueError, match=r"label and image.*\(8, 8\).*\(8, 9"):
        overlay(image, label, COLORS)
    with pytest.raises(ValueError, match="label and prediction must have one size"):
        error_map(label, label[1:])
    with pytest.raises(ValueError, match="prediction and image must have one size"):
        comparison(image, label, label, COLORS, ("a", "b"))
