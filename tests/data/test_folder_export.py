import numpy as np
import pytest

from segjax.data.folder_export import export
from segjax.data.images import read_label, read_page
from segjax.types import UserError


def record(name, dtype=np.uint8, seed=0):
    drawn = np.random.default_rng(seed)
    return {
        "image": drawn.integers(0, np.iinfo(dtype).max, (6, 5, 1)).astype(dtype),
        "label": drawn.integers(0, 2, (6, 5)).astype(np.uint8),
        "name": name,
    }


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


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


def test_two_names_of_one_file_are_refused_before_anything_is_there(tmp_path):
    records = [record("b"), record("a/001"), record("a_001")]
    with pytest.raises(UserError, match=r"'a/001' and 'a_001'.*as 'a_001'"):
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


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export([record("a")], tmp_path / "file" / "out")
