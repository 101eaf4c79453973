"""Objects found in pixels: the numbered pages and `objects.csv` of a prediction."""

import csv

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.draw import disk

from segjax.data.files.geojson import read_geojson
from segjax.data.files.imagej_roi import read_rois
from segjax.data.label_spec import LabelSpec
from segjax.data.outlines import fill
from segjax.errors import UserError
from segjax.geometry.input_sizes import Geometry
from segjax.objects.separation import Separation
from segjax.predict.tiled import Predictor
from segjax.tasks.semantic import object_files
from segjax.tasks.semantic.files import predict_files
from segjax.tasks.semantic.object_files import ObjectOptions
from segjax.viz import overlay_instances

SPEC = LabelSpec(("background", "cell", "spot"), ((0, 0, 0), (0, 200, 0), (200, 0, 0)))


def brightness(image):
    """Logits of a pixel: 0 is background, grey a cell, white a spot."""
    distance = [jnp.abs(image - value) for value in (0.0, 0.5, 1.0)]
    return -40 * jnp.concatenate(distance, -1)


PREDICTOR = Predictor(brightness, Geometry(stride=16, halo=16), tile=64, batch_size=2)
SETTINGS = {"label_spec": SPEC, "channels": 1, "normalization": "range"}
SETTINGS |= {"objects": ObjectOptions(Separation(min_area=5))}


def table(folder):
    with (folder / "objects.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_hundred_cells_are_counted_and_measured(tmp_path):
    image, drawn = np.zeros((500, 680), np.uint8), {}
    rng = np.random.default_rng(0)
    for i in range(200):
        middle = 25 + 33 * (i // 20) + 12, 17 + 33 * (i % 20)
        place = disk(middle, rng.uniform(4, 15), shape=image.shape)
        image[place] = 128
        drawn[middle] = len(place[0])
    Image.fromarray(image).save(tmp_path / "plate.png")
    predict_files(PREDICTOR, tmp_path / "plate.png", tmp_path / "out", **SETTINGS)
    rows = table(tmp_path / "out")
    assert len(rows) == len({row["id"] for row in rows}) == 200
    for row in rows:
        middle = tuple(round(float(row[f"centroid_{axis}"])) for axis in "yx")
        assert int(row["area_pixels"]) == drawn[middle]
        assert (row["class"], row["file"]) == ("cell", "plate.png")
    numbers = np.asarray(Image.open(tmp_path / "out" / "plate_instances.png"))
    assert numbers.max() == 200
    assert ((numbers > 0) == (image > 0)).all()


@pytest.mark.parametrize("link", [False, True])
def test_a_stack_has_unique_numbers_which_follow_a_cell_if_asked_to(tmp_path, link):
    stack = np.zeros((3, 60, 90), np.uint8)
    for z in range(3):
        stack[z, 10:25, 10 + 2 * z : 25 + 2 * z] = 128
    stack[1, 40:55, 60:75] = 255
    tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack")
    options = {"objects": ObjectOptions(Separation(min_area=5), link=link)}
    settings = SETTINGS | options
    predict_files(PREDICTOR, tmp_path / "z.tif", tmp_path / "out", **settings)
    found = [(row["page"], row["id"], row["class"]) for row in table(tmp_path / "out")]
    cell = [("1", "1", "cell"), ("2", "1", "cell"), ("3", "1", "cell")]
    if not link:
        cell = [("1", "1", "cell"), ("2", "2", "cell"), ("3", "4", "cell")]
    spot = ("2", "2" if link else "3", "spot")
    assert found == [*cell[:2], spot, cell[2]]
    pages = tifffile.imread(tmp_path / "out" / "z_instances.tif")
    assert pages.dtype == np.uint16
    assert (pages[2] > 0).sum() == 225


def test_more_objects_than_16_bits_count_have_32(tmp_path, monkeypatch):
    many = np.zeros((8, 8), np.int32)
    many[2:4, 2:4] = 70_000
    monkeypatch.setattr(object_files, "separate", lambda *_: many)
    tifffile.imwrite(tmp_path / "dots.tif", np.zeros((8, 8), np.uint8))
    predict_files(PREDICTOR, tmp_path / "dots.tif", tmp_path / "out", **SETTINGS)
    numbers = tifffile.imread(tmp_path / "out" / "dots_instances.tif")
    assert numbers.dtype == np.uint32
    assert np.array_equal(numbers, many)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "dots.png")
    with pytest.raises(
        UserError, match=r"dots\.png has 70000 objects, .* Save it as TIFF"
    ):
        predict_files(PREDICTOR, tmp_path / "dots.png", tmp_path / "png", **SETTINGS)
    assert not list((tmp_path / "png").glob("*.png"))


def test_areas_are_in_square_micrometres_where_the_file_states_its_pixels(tmp_path):
    image = np.zeros((40, 40), np.uint8)
    image[5:15, 5:25] = 128
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        imagej=True,
        resolution=(4, 4),
        metadata={"unit": "um"},
    )
    predict_files(PREDICTOR, tmp_path / "a.tif", tmp_path / "out", **SETTINGS)
    (row,) = table(tmp_path / "out")
    assert (row["area_pixels"], float(row["area_um2"])) == ("200", 12.5)


def test_files_of_plates_are_told_apart(tmp_path):
    for plate in ("one", "two"):
        (tmp_path / "in" / plate).mkdir(parents=True)
        image = np.zeros((40, 40), np.uint8)
        image[5:20, 5:20] = 128
        Image.fromarray(image).save(tmp_path / "in" / plate / "a.png")
    predict_files(PREDICTOR, tmp_path / "in", tmp_path / "out", **SETTINGS)
    files = [row["file"] for row in table(tmp_path / "out")]
    assert files == ["one/a.png", "two/a.png"]
    assert (tmp_path / "out" / "two" / "a_instances.png").exists()


def test_a_stopped_command_leaves_the_objects_of_the_files_that_are_complete(tmp_path):
    (tmp_path / "in").mkdir()
    page = np.zeros((40, 40), np.uint8)
    page[5:20, 5:20] = 128
    for name, pages in (("a", 1), ("b", 1), ("c", 3)):
        stack = np.stack([page] * pages)
        path = tmp_path / "in" / f"{name}.tif"
        tifffile.imwrite(path, stack, photometric="minisblack")
    out, seen = tmp_path / "out", []

    def stop(done, total, name):
        if name != "a.tif":
            seen.append([row["file"] for row in table(out)])
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(PREDICTOR, tmp_path / "in", out, **SETTINGS, progress=stop)
    assert seen[0] == ["a.tif"]
    assert [row["file"] for row in table(out)] == ["a.tif", "b.tif"]
    assert sorted(path.name for path in out.glob("*_instances.tif")) == [
        "a_instances.tif",
        "b_instances.tif",
    ]
    predict_files(PREDICTOR, tmp_path / "in", out, **SETTINGS)  # replaces what is there
    assert len(table(out)) == 5


@pytest.mark.parametrize(
    ("outlines", "name", "read"),
    [("imagej", "z_RoiSet.zip", read_rois), ("geojson", "z.geojson", read_geojson)],
)
def test_outlines_are_those_of_the_numbers(tmp_path, outlines, name, read):
    stack = np.zeros((2, 40, 40), np.uint8)
    stack[0, 5:20, 5:20] = 128
    stack[1, 10:20, 10:30] = 255
    tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack")
    objects = ObjectOptions(Separation(min_area=5), outlines=("geojson", "imagej"))
    settings = SETTINGS | {"objects": objects}
    predict_files(PREDICTOR, tmp_path / "z.tif", tmp_path / "out", **settings)
    numbers = tifffile.imread(tmp_path / "out" / "z_instances.tif")
    found = read(tmp_path / "out" / name)
    for number, outline in enumerate(found, 1):
        place, mask = fill(outline, (40, 40), name)
        filled = np.zeros((40, 40), bool)
        filled[place] = mask
        assert np.array_equal(filled, numbers[number - 1] == number)
    assert len(found) == 2
    if outlines == "geojson":
        assert [outline.class_name for outline in found] == ["cell", "spot"]
    else:
        assert [outline.name for outline in found] == ["cell-1", "spot-2"]


def test_the_first_slice_of_a_frame_is_not_linked_to_the_last_of_the_one_before(
    tmp_path,
):
    movie = np.zeros((2, 2, 1, 40, 40), np.uint8)
    movie[..., 5:20, 5:20] = 128
    tifffile.imwrite(tmp_path / "m.tif", movie, imagej=True, metadata={"axes": "TZCYX"})
    settings = SETTINGS | {"objects": ObjectOptions(Separation(), link=True)}
    predict_files(PREDICTOR, tmp_path / "m.tif", tmp_path / "out", **settings)
    assert [row["id"] for row in table(tmp_path / "out")] == ["1", "1", "2", "2"]


def test_a_cell_keeps_its_number_through_a_time_series_in_five_dimensions(
    tmp_path, write_zarr
):
    movie = np.zeros((3, 1, 1, 40, 40), np.uint8)
    movie[..., 5:20, 5:20] = 128
    write_zarr(tmp_path / "m.zarr", movie)
    settings = SETTINGS | {"objects": ObjectOptions(Separation(), link=True)}
    predict_files(PREDICTOR, tmp_path / "m.zarr", tmp_path / "out", **settings)
    assert [row["id"] for row in table(tmp_path / "out")] == ["1", "1", "1"]


@pytest.mark.parametrize("chosen", [(1, 4), (4,)])
def test_chosen_pages_keep_their_places_and_are_no_neighbours(tmp_path, chosen):
    movie = np.zeros((2, 3, 1, 40, 40), np.uint8)
    movie[..., 5:20, 5:20] = 128
    tifffile.imwrite(tmp_path / "m.tif", movie, imagej=True, metadata={"axes": "TZCYX"})
    objects = ObjectOptions(Separation(), link=True, outlines=("imagej",))
    settings = SETTINGS | {"objects": objects, "chosen": chosen}
    predict_files(PREDICTOR, tmp_path / "m.tif", tmp_path / "out", **settings)
    rows = table(tmp_path / "out")
    assert [int(row["page"]) - 1 for row in rows] == list(chosen)
    assert [int(row["id"]) - 1 for row in rows] == list(range(len(chosen)))
    rois = read_rois(tmp_path / "out" / "m_RoiSet.zip")
    assert [roi.place for roi in rois] == [(page % 3, page // 3) for page in chosen]


def test_a_channel_that_is_repeated_is_measured_once(tmp_path):
    image = np.zeros((40, 40), np.uint8)
    image[5:15, 5:25] = 128
    Image.fromarray(image).save(tmp_path / "a.png")
    settings = SETTINGS | {"channels": (0, 0, 0)}
    predict_files(PREDICTOR, tmp_path / "a.png", tmp_path / "out", **settings)
    (row,) = table(tmp_path / "out")
    assert [key for key in row if key.startswith("mean")] == ["mean_intensity_0"]
    settings = SETTINGS | {"channels": 3}
    predict_files(PREDICTOR, tmp_path / "a.png", tmp_path / "as_grey", **settings)
    (row,) = table(tmp_path / "as_grey")
    assert [key for key in row if key.startswith("mean")] == ["mean_intensity_1"]


def test_overlays_show_the_objects_each_in_a_colour_of_its_own(tmp_path):
    image = np.zeros((40, 60), np.uint8)
    image[10:20, 5:15] = image[10:20, 30:40] = 128
    Image.fromarray(image).save(tmp_path / "a.png")
    out = tmp_path / "out"
    predict_files(PREDICTOR, tmp_path / "a.png", out, **SETTINGS, overlay=True)
    numbers = np.asarray(Image.open(out / "a_instances.png"))
    overlay = np.asarray(Image.open(out / "a_overlay.png"))
    expected = overlay_instances(image, numbers)
    np.testing.assert_array_equal(overlay, expected)
    assert (overlay[15, 10] != overlay[15, 35]).any()  # of one class
    assert not overlay[numbers == 0].any()
