import os

import numpy as np
import pytest
from PIL import Image

from segjax.data.datasets.folder_export import export
from segjax.data.files.images import read_label, read_page
from segjax.errors import UserError
from segjax.output import manifest


def record(name, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, np.iinfo(dtype).max, (6, 5, 1)).astype(dtype),
        "label": rng.integers(0, 2, (6, 5)).astype(np.uint8),
        "name": name,
    }


def names(folder):
    files = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    return sorted(str(file) for file in files if file.name != manifest.NAME)


def test_exported_files_are_the_records(tmp_path):
    records = [record("test/003"), record("deep", np.uint16, seed=1)]
    files = export(records, tmp_path / "new" / "out")
    folder = tmp_path / "new" / "out"
    assert files == [folder / "images/test_003.png", folder / "images/deep.tif"]
    for file, stored in zip(files, records, strict=True):
        np.testing.assert_array_equal(read_page(file, 0), stored["image"])
        label = read_label(folder / "labels" / f"{file.stem}.png", 0)
        np.testing.assert_array_equal(label, stored["label"])
    assert len(names(tmp_path)) == 4


def test_names_with_dots_stay_whole_and_apart(tmp_path):
    export([record("cells.v1"), record("cells.v2"), record("x.1", np.uint16)], tmp_path)
    assert names(tmp_path) == [
        "images/cells.v1.png",
        "images/cells.v2.png",
        "images/x.1.tif",
        "labels/cells.v1.png",
        "labels/cells.v2.png",
        "labels/x.1.png",
    ]


def test_records_without_label_give_an_image_only(tmp_path):
    bare = {"image": np.zeros((4, 4, 3), np.uint8), "name": "bare"}
    export([bare], tmp_path)
    assert names(tmp_path) == ["images/bare.png"]


def test_splits_are_not_mixed_in_one_folder(tmp_path):
    export([record("train/1"), record("train/2")], tmp_path)
    before = names(tmp_path)
    with pytest.raises(
        UserError,
        match=r"train_1\.png and 3 more are of an earlier export",
    ):
        export([record("test/1")], tmp_path, overwrite=True)
    assert names(tmp_path) == before
    export([record("train/1"), record("train/2")], tmp_path)


def test_two_names_of_one_file_are_refused_before_anything_is_there(tmp_path):
    records = [record("b"), record("a/001"), record("a_001")]
    with pytest.raises(
        UserError, match=r"'a/001' and record 'a_001' .* images/a_001.png"
    ):
        export(records, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_half_way_leaves_earlier_files_as_they_were(tmp_path):
    export([record("a")], tmp_path)
    before = (tmp_path / "images/a.png").read_bytes()

    class Torn(list):
        def __getitem__(self, index):
            if index == 1:
                raise UserError("gone")
            return super().__getitem__(index)

    with pytest.raises(UserError, match="gone"):
        export(Torn([record("a", seed=5), record("b")]), tmp_path)
    assert (tmp_path / "images/a.png").read_bytes() == before
    assert names(tmp_path) == ["images/a.png", "labels/a.png"]


@pytest.fixture
def data(tmp_path):
    """A folder of images and labels as a user has them: 255 is class 1."""
    for i in range(3):
        one = record(f"{i}", seed=i)
        for part, pixels in (
            ("images", one["image"][..., 0]),
            ("labels", one["label"]),
        ):
            (tmp_path / "data" / part).mkdir(parents=True, exist_ok=True)
            stored = pixels * (255 if part == "labels" else 1)
            Image.fromarray(stored.astype(np.uint8)).save(
                tmp_path / f"data/{part}/{i}.png"
            )
    return tmp_path / "data"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


RECORDS = [record(f"{i}", seed=i) for i in range(3)]


def test_labels_that_the_user_has_drawn_are_kept(data):
    before = contents(data)
    with pytest.raises(UserError, match=r"images/0\.png and 5 other files would be"):
        export(RECORDS, data)
    assert contents(data) == before
    export(RECORDS, data, overwrite=True)
    assert contents(data) != before


@pytest.mark.parametrize("place", [".", "train", "link"])
def test_the_folder_of_the_data_is_refused_whatever_is_asked_for(data, place):
    (data / "link").symlink_to(".")
    source = data
    if place == "train":
        (data / "all").mkdir()
        source = data.rename(data.parent / "train").parent
    folder = source / place
    before = contents(source)
    with pytest.raises(
        UserError, match=r"--write_images=.* is the folder of the data set"
    ):
        export(RECORDS, folder, source=source, overwrite=True)
    assert contents(source) == before


@pytest.mark.parametrize("link", [os.link, lambda own, new: new.symlink_to(own)])
def test_a_link_to_a_file_of_the_data_is_an_input(data, link):
    (data.parent / "out/labels").mkdir(parents=True)
    link(data / "labels/1.png", data.parent / "out/labels/1.png")
    before = contents(data.parent)
    with pytest.raises(UserError, match=r"out/labels/1\.png would .* it is the input"):
        export(RECORDS, data.parent / "out", source=data, overwrite=True)
    assert contents(data.parent) == before


def test_an_export_within_the_data_can_be_made_again(data):
    (data / "images/round").symlink_to("..")  # a circle
    for _ in range(2):
        export(RECORDS, data / "exported", source=data)
    assert len(names(data / "exported")) == 6


def test_an_export_that_was_corrected_by_hand_is_kept(tmp_path):
    export(RECORDS, tmp_path)
    (tmp_path / "labels/2.png").write_bytes(b"corrected")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"labels/2\.png would be"):
        export(RECORDS, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_folder_within_that_is_a_link_is_not_written_through(data, part):
    out = data.parent / "out"
    out.mkdir()
    (out / part).symlink_to(data / part)
    before = contents(data)
    with pytest.raises(UserError, match=f"out/{part} is a link"):
        export(RECORDS, out, overwrite=True)
    assert contents(data) == before


def test_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        export([record("a")], tmp_path / "file" / "out")


def test_a_file_of_the_data_that_lies_where_an_export_goes_is_an_input(data):
    """A data set that reads `data/exported/images`, too, in a folder of its own."""
    (data / "exported/images").mkdir(parents=True)
    (data / "images/0.png").rename(data / "exported/images/0.png")
    before = contents(data)
    with pytest.raises(
        UserError, match=r"exported/images/0\.png would .* it is the in"
    ):
        export(RECORDS, data / "exported", source=data, overwrite=True)
    assert contents(data) == before
