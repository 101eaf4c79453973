"""The table of objects."""

import numpy as np
import pytest

from segjax.objects.properties import columns, object_rows


def rows_of(**arguments):
    numbers = np.zeros((20, 20), np.int32)
    numbers[2:6, 3:8], numbers[10:12, 10:14] = 4, 9
    image = np.zeros((20, 20, 2), np.uint16)
    image[..., 0][numbers == 4], image[..., 1][numbers == 9] = 1000, 50
    classes = np.where(numbers == 9, 2, 1)
    names = ("background", "cell", "spot")
    rows = object_rows(
        numbers, image, classes, file="a.tif", page=3, class_names=names, **arguments
    )
    return [dict(zip(columns(["1", "2"]), row, strict=True)) for row in rows]


def test_sizes_places_and_intensities_are_those_of_the_pixels():
    cell, spot = rows_of(pixel_area=0.25)
    assert (cell["file"], cell["page"], cell["id"], cell["class"]) == (
        "a.tif",
        3,
        4,
        "cell",
    )
    assert (cell["area_pixels"], float(cell["area_um2"])) == (20, 5.0)
    assert (float(cell["centroid_y"]), float(cell["centroid_x"])) == (3.5, 5.0)
    assert [cell[side] for side in ("top", "left", "bottom", "right")] == [2, 3, 6, 8]
    assert float(cell["mean_intensity_1"]) == 1000
    assert float(cell["mean_intensity_2"]) == 0
    assert (spot["class"], float(spot["mean_intensity_2"])) == ("spot", 50)


def test_without_a_calibration_there_is_no_physical_area():
    assert {row["area_um2"] for row in rows_of()} == {""}


def test_a_page_without_objects_has_no_rows():
    empty = np.zeros((5, 5), np.int32)
    names = ("background", "cell")
    with pytest.raises(IndexError):
        object_rows(
            empty, np.zeros((5, 5, 1)), empty, file="a", page=1, class_names=names
        )[0]
