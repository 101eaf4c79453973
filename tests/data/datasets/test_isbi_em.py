import hashlib
import sys

import numpy as np
import pytest
import tifffile

from segjax.data import DATASETS
from segjax.data.datasets.isbi_em import VALIDATION_SLICES, isbi_em
from segjax.errors import UserError

FILES = ("train-volume.tif", "train-labels.tif", "test-volume.tif")
DIGESTS = {
    "train-volume": "200da3d452d726e6c9ca1ce04b869d4edb727320d23b516d01cce707dc8c4760",
    "train-labels": "a7cb64000a1a7e542682927e19c91339f58f9f178e0bcce4e207371116f0ca36",
    "test-volume": "1b58fa7ec1d0ff9d39a855622db3ff66a97863036339b0d04be51b2f5a99b0e9",
}


@pytest.fixture(scope="module")
def dataset(shared_data, tmp_path_factory):
    cache_dir = str(tmp_path_factory.mktemp("tfds"))
    data_root = str(shared_data / "isbi2012_em")
    return isbi_em(cache_dir=cache_dir, data_root=data_root), cache_dir


def digest(arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def test_every_pixel_of_the_challenge_comes_back(dataset):
    splits = dataset[0].splits
    both = sorted([*splits["train"], *splits["validation"]], key=lambda r: r["slice"])
    assert [record["slice"] for record in both] == list(range(30))
    assert digest(r["image"] for r in both) == DIGESTS["train-volume"]
    stored = ((r["label"] * 255).astype(np.uint8) for r in both)
    assert digest(stored) == DIGESTS["train-labels"]
    assert digest(r["image"] for r in splits["test"]) == DIGESTS["test-volume"]


def test_validation_is_a_block_of_each_half(dataset):
    splits = dataset[0].splits
    assert VALIDATION_SLICES == (12, 13, 14, 27, 28, 29)
    assert [r["slice"] for r in splits["validation"]] == list(VALIDATION_SLICES)
    assert [r["slice"] for r in splits["train"]] == [*range(12), *range(15, 27)]
    assert [r["slice"] for r in splits["test"]] == list(range(30))


def test_names_say_volume_and_slice(dataset):
    splits = dataset[0].splits
    assert splits["validation"][0]["name"] == "train-volume/012"
    assert splits["test"][29]["name"] == "test-volume/029"


def test_labels_are_class_ids_and_the_test_split_has_none(dataset):
    data = dataset[0]
    assert data.channels == 1
    assert data.label_spec.names == ("membrane", "cell")
    record = data.splits["train"][0]
    assert record["image"].shape == (512, 512, 1)
    assert record["label"].shape == (512, 512)
    assert set(np.unique(record["label"])) == {0, 1}
    assert not any("label" in r for r in data.splits["test"])


def test_once_prepared_the_files_are_not_needed(dataset):
    again = DATASETS["isbi_em"](cache_dir=dataset[1], data_root=None)
    assert len(again.splits["train"]) == 24
    assert "tensorflow" not in sys.modules


def test_without_a_folder_the_files_are_named(tmp_path):
    with pytest.raises(UserError) as caught:
        isbi_em(cache_dir=str(tmp_path), data_root=None)
    for part in (*FILES, "--data_root", "ISBI 2012"):
        assert part in str(caught.value)


def test_missing_files_are_named_with_their_place(tmp_path):
    (tmp_path / "train-volume.tif").write_bytes(b"II*\0")
    with pytest.raises(UserError) as caught:
        isbi_em(cache_dir=str(tmp_path / "d"), data_root=str(tmp_path))
    assert f"in {tmp_path}, where train-labels.tif, test-volume.tif are missing" in str(
        caught.value
    )
    assert not (tmp_path / "d").exists()


def volumes(**replaced):
    arrays = {name: np.zeros((30, 512, 512), np.uint8) for name in FILES}
    return arrays | {f"{k.replace('_', '-')}.tif": v for k, v in replaced.items()}


def wrong_value():
    labels = np.zeros((30, 512, 512), np.uint8)
    labels[4, 1, 2] = 128
    return labels


@pytest.mark.parametrize(
    ("replaced", "parts"),
    [
        ({"train_volume": (20, 512, 512)}, ["train-volume.tif", "it has 20 pages"]),
        ({"test_volume": (30, 256, 256)}, ["test-volume.tif", "slice 0 is 256 x 256"]),
        (
            {"train_labels": (30, 512, 500)},
            ["train-labels.tif", "slice 0 is 512 x 500"],
        ),
        (
            {"train_labels": wrong_value},
            ["train-labels.tif, slice 4,", "128 (1 pixel)", "'folder'"],
        ),
        ({"train_volume": np.uint16}, ["train-volume.tif", "uint16"]),
        ({"test_volume": b"II*\0"}, ["test-volume.tif", "cannot be decoded"]),
    ],
    ids=["pages", "size", "label size", "value", "depth", "damaged"],
)
def test_files_that_are_not_the_challenge_are_reported(tmp_path, replaced, parts):
    for name, array in volumes(**replaced).items():
        path = tmp_path / name
        if isinstance(array, bytes):
            path.write_bytes(array)
            continue
        if isinstance(array, tuple):
            array = np.zeros(array, np.uint8)
        elif array is np.uint16:
            array = np.zeros((30, 512, 512), np.uint16)
        elif callable(array):
            array = array()
        tifffile.imwrite(path, array, photometric="minisblack", compression="zlib")
    with pytest.raises(UserError) as caught:
        isbi_em(cache_dir=str(tmp_path / "d"), data_root=str(tmp_path))
    for part in parts:
        assert part in str(caught.value)
    assert not list((tmp_path / "d").glob("isbi_em/*/*"))


def test_other_labels_in_files_of_the_same_size_are_refused(tmp_path):
    for name, array in volumes().items():
        tifffile.imwrite(tmp_path / name, array, photometric="minisblack")
    opened = lambda: isbi_em(cache_dir=str(tmp_path / "d"), data_root=str(tmp_path))
    assert len(opened().splits["train"]) == len(opened().splits["train"]) == 24
    labels = np.full((30, 512, 512), 255, np.uint8)
    tifffile.imwrite(tmp_path / "train-labels.tif", labels, photometric="minisblack")
    with pytest.raises(UserError, match="prepared from other files"):
        opened()
