"""The layouts of PASCAL VOC, Cityscapes and ADE20K, in tiny synthetic folders and for real."""

import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

from segjax.data import DATASETS
from segjax.data.datasets.ade20k import CLASSES as ADE_CLASSES
from segjax.data.datasets.cityscapes import CLASSES as CITY_CLASSES
from segjax.data.files.images import read_label
from segjax.data.files.palette import voc_colors
from segjax.data.semantic.batches import train_batches
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

VOC_PALETTE = np.array(voc_colors(256), np.uint8).ravel().tolist()
HISTOGRAMS = {
    "2007_000063": {0: 72224, 9: 78930, 12: 27632, 255: 8714},
    "2007_000129": {0: 54389, 2: 34183, 15: 61143, 255: 17285},
}


def save(path, array, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def ids(height, width, values, seed=0):
    return np.random.default_rng(seed).choice(
        np.array(values, np.uint8), (height, width)
    )


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC2012"
    sizes = {"a": (30, 40), "b": (50, 20), "c": (33, 33)}
    for i, (name, size) in enumerate(sizes.items()):
        save(root / "JPEGImages" / f"{name}.jpg", noise(*size, 3, seed=i))
        label = ids(*size, [0, 5, 20, 255], seed=i)
        save(root / "SegmentationClass" / f"{name}.png", label, VOC_PALETTE)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    (lists / "trainval.txt").write_text("a\nb\nc\n")
    return root


@pytest.fixture
def cityscapes(tmp_path):
    root = tmp_path / "cityscapes"
    for split, name in (("train", "aachen"), ("val", "ulm"), ("test", "bonn")):
        stem = f"{name}_000001_000019"
        save(
            root / "leftImg8bit" / split / name / f"{stem}_leftImg8bit.png",
            noise(32, 64, 3),
        )
        if split != "test":
            stored = np.arange(64 * 32, dtype=np.int64).reshape(32, 64) % 35
            stored = np.where(stored == 34, 255, stored).astype(np.uint8)
            folder = root / "gtFine" / split / name
            save(folder / f"{stem}_gtFine_labelIds.png", stored)
            save(folder / f"{stem}_gtFine_labelTrainIds.png", ids(32, 64, [0, 18, 255]))
    return root


@pytest.fixture
def ade20k(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    for folder, size in (("training", (20, 31)), ("validation", (40, 25))):
        stem = f"ADE_{folder[:5]}_00000001"
        save(root / "images" / folder / f"{stem}.jpg", noise(*size, 3))
        stored = np.arange(size[0] * size[1]).reshape(size) % 151
        save(root / "annotations" / folder / f"{stem}.png", stored.astype(np.uint8))
    return root


def opened(name, root, tmp_path, **arguments):
    return DATASETS[name](
        cache_dir=str(tmp_path / "d"), data_root=str(root), **arguments
    )


def test_voc_is_read_where_it_lies(voc, tmp_path):
    dataset = opened("voc", voc, tmp_path)
    assert dataset.channels == 3
    assert dataset.label_spec.num_classes == 21
    assert [r["name"] for r in dataset.splits["train"]] == ["a", "b"]
    (record,) = dataset.splits["validation"]
    stored = np.array(Image.open(voc / "SegmentationClass" / "c.png"))
    np.testing.assert_array_equal(record["label"], stored)
    assert set(np.unique(record["label"])) == {0, 5, 20, IGNORE_LABEL}
    assert record["image"].shape == (33, 33, 3)
    assert "test" not in dataset.splits


def test_real_images_of_voc_have_the_labels_of_their_description(shared_data, tmp_path):
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass"):
        shutil.copytree(shared_data / "voc2012_mini" / folder, root / folder)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000063\n")
    (lists / "val.txt").write_text("2007_000129\n")
    dataset = opened("voc", root, tmp_path)
    names = (shared_data / "voc2012_mini" / "class_names.txt").read_text().split("\n")
    assert len(dataset.label_spec.names) == 21
    for class_id, name in enumerate(dataset.label_spec.names):
        assert name in names[class_id]
    for record in (*dataset.splits["train"], *dataset.splits["validation"]):
        values, counts = np.unique(record["label"], return_counts=True)
        found = dict(zip(values.tolist(), counts.tolist(), strict=True))
        assert found == HISTOGRAMS[record["name"]]
        assert record["image"].shape[:2] == record["label"].shape
        palette = Image.open(root / "SegmentationClass" / f"{record['name']}.png")
        theirs = np.array(palette.getpalette()).reshape(-1, 3)[:21]
        np.testing.assert_array_equal(theirs, dataset.label_spec.colors)


@pytest.mark.parametrize("line", ["{0}", "/JPEGImages/{0}.jpg /Aug/{0}.png"])
def test_lists_of_names_and_of_pairs_of_paths_are_read(voc, tmp_path, line):
    shutil.copytree(voc / "SegmentationClass", voc / "Aug")
    lines = "\n".join(line.format(name) for name in "abc")
    (voc / "ImageSets" / "Segmentation" / "trainaug.txt").write_text(lines + "\n")
    dataset = opened("voc", voc, tmp_path, train="trainaug", labels="Aug")
    assert [r["name"] for r in dataset.splits["train"]] == ["a", "b", "c"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_may_have_a_byte_order_mark(voc, tmp_path, encoding, end):
    text = f"a{end}b{end}"
    (voc / "ImageSets/Segmentation/train.txt").write_bytes(text.encode(encoding))
    data = opened("voc", voc, tmp_path)
    assert [r["name"] for r in data.splits["train"]] == ["a", "b"]


def test_a_turned_photograph_has_the_size_of_its_label(voc, tmp_path):
    path, exif = voc / "JPEGImages/a.jpg", Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    record = opened("voc", voc, tmp_path).splits["train"][0]
    assert record["image"].shape[:2] == record["label"].shape == (30, 40)


def test_grey_pngs_of_ids_are_labels_too(voc, tmp_path):
    label = ids(33, 33, [0, 1, 255])
    save(voc / "SegmentationClass" / "c.png", label)
    record = opened("voc", voc, tmp_path).splits["validation"][0]
    np.testing.assert_array_equal(record["label"], label)


def test_images_of_different_sizes_make_batches(voc, tmp_path):
    steps = (("random_scale", {}), ("random_crop", {}), ("flip", {"vertical": False}))
    with train_batches(
        opened("voc", voc, tmp_path, train="trainval").splits["train"],
        seed=0,
        batch_size=3,
        input_size=(33, 49),
        output_size=(33, 49),
        augment=steps,
        normalization="caffe_vgg",
    ) as batches:
        for batch in itertools.islice(batches, 3):
            assert batch["image"].shape == (3, 33, 49, 3)
            assert set(np.unique(batch["label"])) <= {0, 5, 20, IGNORE_LABEL}


def test_a_test_list_without_labels_gives_images_alone(voc, tmp_path):
    save(voc / "JPEGImages" / "t.jpg", noise(20, 20, 3))
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text("t\n")
    (record,) = opened("voc", voc, tmp_path, test="test").splits["test"]
    assert set(record) == {"image", "name"}


def missing_label(root):
    (root / "SegmentationClass" / "b.png").unlink()


def missing_folder(root):
    shutil.rmtree(root / "JPEGImages")


def colored(root):
    colors = np.array(voc_colors(256), np.uint8)[ids(33, 33, [0, 5, 20])]
    save(root / "SegmentationClass" / "c.png", colors)


def own_palette(root):
    label = ids(33, 33, [0, 1, 2])
    palette = np.array([voc_colors(21)[i] for i in (0, 5, 20)], np.uint8)
    save(root / "SegmentationClass" / "c.png", label, palette.ravel().tolist())


def wrong_value(root):
    save(root / "SegmentationClass" / "c.png", ids(33, 33, [0, 21]))


def other_size(root):
    save(root / "SegmentationClass" / "c.png", ids(33, 34, [0, 1]))


def damaged(root):
    path = root / "JPEGImages" / "c.jpg"
    path.write_bytes(path.read_bytes()[:200])


def three_words(root):
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a b c\n")


def empty_list(root):
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")


def linked(root):
    (root / "JPEGImages/b.jpg").unlink()
    (root / "JPEGImages/b.jpg").symlink_to("gone.jpg")


def pointer(root):
    for name in ("JPEGImages/b.jpg", "ImageSets/Segmentation/val.txt"):
        (root / name).write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        )


def undecodable(root):
    (root / "ImageSets/Segmentation/train.txt").write_bytes(b"a\n\xffb\n")


def endless_name(root):
    (root / "ImageSets/Segmentation/train.txt").write_text(f"a\n{'b' * 300}\n")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (endless_name, ["lacks 2 of the 4 files", "train.txt", "JPEGImages/bbb"]),
        (missing_label, ["lacks 1 of the 4 files", "train.txt", "SegmentationClass/b"]),
        (missing_folder, ["needs JPEGImages", "JPEGImages is missing", "--data_root"]),
        (colored, ["c.png is a colour picture", "ids_of_colors"]),
        (own_palette, ["c.png is a palette picture", "value 1", "of class id 5"]),
        (wrong_value, ["c.png has label values", "21 (", "data set 'folder'"]),
        (other_size, ["c.png is 33 high x 34 wide", "c.jpg is 33 high x 33 wide"]),
        (damaged, ["c.jpg cannot be decoded"]),
        (three_words, ["val.txt, line 1, is 'a b c'"]),
        (empty_list, ["val.txt lists nothing"]),
        (linked, ["b.jpg is a link to gone.jpg, which does not exist"]),
        (pointer, ["val.txt is a git-LFS pointer", "git lfs pull"]),
        (undecodable, ["train.txt is not text in UTF-8 (byte 2)"]),
    ],
)
def test_what_is_wrong_with_voc_is_reported(voc, tmp_path, spoil, parts):
    spoil(voc)
    with pytest.raises(UserError) as caught:
        opened("voc", voc, tmp_path)
    for part in parts:
        assert part in str(caught.value)


def test_a_list_that_is_not_there_is_answered_with_those_that_are(voc, tmp_path):
    with pytest.raises(
        UserError, match=r"config\.data\.train is 'trainaug'.*train, tr"
    ):
        opened("voc", voc, tmp_path, train="trainaug")


def test_a_folder_further_down_is_named(voc, tmp_path):
    with pytest.raises(UserError, match=f"Give --data_root={voc}"):
        opened("voc", tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"needs JPEGImages.*--data_root"):
        DATASETS["voc"](cache_dir=None, data_root=None)


def test_files_are_checked_once_until_they_change(voc, tmp_path, monkeypatch):
    from segjax.data.datasets import image_lists

    opened("voc", voc, tmp_path)
    read = []
    original = image_lists.read_page
    monkeypatch.setattr(
        image_lists, "read_page", lambda path: read.append(path) or original(path)
    )
    opened("voc", voc, tmp_path)
    assert read == []
    save(voc / "JPEGImages" / "c.jpg", noise(33, 33, 3, seed=9))
    opened("voc", voc, tmp_path)
    assert [path.name for path in read] == ["c.jpg"]


def test_cityscapes_ids_become_train_ids(cityscapes, tmp_path):
    dataset = opened("cityscapes", cityscapes, tmp_path)
    assert dataset.label_spec.num_classes == len(CITY_CLASSES) == 19
    record = dataset.splits["train"][0]
    assert record["name"] == "aachen_000001_000019"
    path = next((cityscapes / "gtFine" / "train").glob("*/*labelIds.png"))
    stored = read_label(path)
    for train_id, (stored_id, _) in enumerate(CITY_CLASSES.values()):
        np.testing.assert_array_equal(record["label"] == train_id, stored == stored_id)
    ignored = [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255]
    np.testing.assert_array_equal(
        record["label"] == IGNORE_LABEL, np.isin(stored, ignored)
    )
    assert set(dataset.splits["test"][0]) == {"image", "name"}


def test_cityscapes_train_ids_are_taken_as_they_are_and_made_smaller(
    cityscapes, tmp_path
):
    dataset = opened(
        "cityscapes", cityscapes, tmp_path, labels="labelTrainIds", downscale=2
    )
    record = dataset.splits["validation"][0]
    path = next((cityscapes / "gtFine" / "val").glob("*/*labelTrainIds.png"))
    np.testing.assert_array_equal(record["label"], read_label(path)[1::2, 1::2])
    assert record["image"].shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"labels": "color"}, r"config\.data\.labels is 'color'.*labelIds, labelTrain"),
        ({"downscale": 5}, "downscale must be an integer.*divides 32 and 64"),
    ],
)
def test_arguments_of_cityscapes_that_cannot_be_are_reported(
    cityscapes, tmp_path, arguments, sentence
):
    with pytest.raises(UserError, match=sentence):
        opened("cityscapes", cityscapes, tmp_path, **arguments)


def test_missing_labels_of_cityscapes_are_reported(cityscapes, tmp_path):
    next((cityscapes / "gtFine" / "val").glob("*/*labelIds.png")).unlink()
    with pytest.raises(UserError, match=r"lacks 1 of the 2 files.*ulm.*labelIds"):
        opened("cityscapes", cityscapes, tmp_path)
    shutil.rmtree(cityscapes / "gtFine" / "train")
    with pytest.raises(UserError, match="gtFine/train is missing"):
        opened("cityscapes", cityscapes, tmp_path)


def test_ade20k_counts_from_one_and_other_is_ignored(ade20k, tmp_path):
    dataset = opened("ade20k", ade20k, tmp_path)
    assert dataset.label_spec.num_classes == len(set(ADE_CLASSES)) == 150
    assert dataset.label_spec.names[0] == "wall"
    assert dataset.label_spec.names[12] == "person"
    assert dataset.label_spec.names[149] == "flag"
    record = dataset.splits["validation"][0]
    stored = np.arange(40 * 25).reshape(40, 25) % 151
    expected = np.where(stored == 0, IGNORE_LABEL, stored - 1)
    np.testing.assert_array_equal(record["label"], expected)


@pytest.mark.parametrize("name", ["cityscapes", "ade20k"])
def test_values_that_are_no_ids_get_advice_without_a_key_that_is_not_there(
    name, request, tmp_path
):
    root = request.getfixturevalue(name)
    (path, *_) = sorted(root.glob("gtFine/*/*/*labelIds.png")) or sorted(
        root.glob("annotations/*/*.png")
    )
    label = np.array(Image.open(path))
    label[0, 0] = 200
    save(path, label)
    with pytest.raises(
        UserError, match=r"200 \(1 pixel\).*data set 'folder'"
    ) as caught:
        opened(name, root, tmp_path)
    assert "remap=" not in str(caught.value)


def test_a_photograph_in_black_and_white_gets_three_equal_channels(
    ade20k, tmp_path, caplog
):
    path = next((ade20k / "images" / "training").iterdir())
    save(path, noise(20, 31))
    with caplog.at_level("INFO", logger="segjax"):
        image = opened("ade20k", ade20k, tmp_path).splits["train"][0]["image"]
    assert "1 file is grey, where RGB is expected" in caplog.text
    assert image.shape == (20, 31, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_missing_annotations_of_ade20k_are_reported(ade20k, tmp_path):
    next((ade20k / "annotations" / "training").iterdir()).unlink()
    with pytest.raises(
        UserError, match=r"lacks 1 of the 2 files.*annotations/training"
    ):
        opened("ade20k", ade20k, tmp_path)
