"""VOC's table of colours, and labels that are painted in it."""

import numpy as np
import pytest
from PIL import Image

from segjax.data.files.images import read_label, read_palette
from segjax.data.files.palette import ids_of_colors, require_palette, voc_colors
from segjax.errors import UserError

BORDER = (224, 224, 192)


def test_the_table_is_that_of_the_files_of_voc(shared_data):
    path = shared_data / "voc2012_mini" / "SegmentationClass" / "2007_000129.png"
    np.testing.assert_array_equal(read_palette(path), voc_colors(256))


def test_colours_of_all_ids_differ():
    assert len(set(voc_colors(256))) == 256
    assert voc_colors(21)[15] == (192, 128, 128)
    with pytest.raises(ValueError, match="count must be from 0 to 256, got 257"):
        voc_colors(257)


def test_painted_labels_become_the_ids_they_were_painted_with(shared_data):
    path = shared_data / "voc2012_mini" / "SegmentationClass" / "2007_000129.png"
    painted = np.array(Image.open(path).convert("RGB"))
    found = ids_of_colors(painted, voc_colors(21), ignored=[BORDER])
    np.testing.assert_array_equal(found, read_label(path))


def test_a_colour_of_no_class_is_named_with_its_pixels():
    painted = np.zeros((4, 4, 3), np.uint8)
    painted[1, :3], painted[2, 0] = (1, 2, 3), (7, 7, 7)
    with pytest.raises(
        UserError, match=r"a\.png has the colour \(1, 2, 3\) in 3 pixels"
    ):
        ids_of_colors(painted, voc_colors(21), where="a.png")


def test_only_values_that_occur_must_have_their_colour(tmp_path):
    palette = np.array(voc_colors(21), np.uint8)
    palette[7] = voc_colors(21)[4]
    label = np.array([[0, 3, 20]], np.uint8)
    require_palette(tmp_path, label, palette, voc_colors(256))
    with pytest.raises(
        UserError, match=r"value 7 has the colour \(0, 0, 128\).*class id 4"
    ):
        require_palette(tmp_path, label + 7 * (label == 0), palette, voc_colors(256))
    require_palette(tmp_path, np.array([[200]]), palette, voc_colors(256))


def test_a_palette_of_ones_own_taste_is_no_mistake(tmp_path):
    palette = np.full((256, 3), 9, np.uint8)
    require_palette(tmp_path, np.array([[0, 3, 255]]), palette, voc_colors(256))


def test_grey_pictures_have_no_palette(tmp_path):
    Image.new("L", (3, 4)).save(tmp_path / "grey.png")
    assert read_palette(tmp_path / "grey.png") is None
