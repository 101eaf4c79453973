import os
import shutil
import unicodedata

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from segjax.data import DATASETS
from segjax.data.dataset import hash_of_image
from segjax.data.datasets import folder_check, pairing
from segjax.data.datasets.folder import folder
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

MASK = ((255, 1),)


def image_values(seed=0, shape=(12, 16), dtype=np.uint8):
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype, endpoint=True)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack")
    else:
        Image.fromarray(values).save(path)


def mask_values(seed=0, shape=(12, 16)):
    return np.where(image_values(seed, shape) > 99, np.uint8(255), np.uint8(0))


@pytest.fixture
def make_folder(tmp_path):
    """Returns a function that fills a folder with `count` pairs of PNG files."""

    def make(count=10, where="cells"):
        for i in range(count):
            save(tmp_path / where / "images" / f"s{i}.png", image_values(i))
            save(tmp_path / where / "labels" / f"s{i}.png", mask_values(i))
        return tmp_path / where

    return make


@pytest.fixture
def read(tmp_path):
    """Returns `folder` with masks of 255 and a memory of its own."""

    def read(root, **arguments):
        return folder(
            **(
                {"cache_dir": str(tmp_path / "memory"), "data_root": str(root)}
                | {"remap": MASK}
                | arguments
            )
        )

    return read


def names(dataset):
    return {
        split: [record["name"] for record in records]
        for split, records in dataset.splits.items()
    }


def test_records_are_what_the_files_hold(make_folder, read):
    dataset = read(make_folder())
    assert dataset.channels == 1
    assert dataset.label_spec.names == ("membrane", "cell")
    seen = []
    for records in dataset.splits.values():
        for record in records:
            i = int(record["name"].removeprefix("s"))
            np.testing.assert_array_equal(record["image"][..., 0], image_values(i))
            np.testing.assert_array_equal(record["label"], mask_values(i) == 255)
            assert record["label"].dtype == np.uint8
            seen.append(i)
    assert sorted(seen) == list(range(10))


def test_the_size_of_pixels_is_the_median_of_the_training_images(
    make_folder, read, tmp_path
):
    root = make_folder()
    assert read(root).pixel_size is None
    for i, length in enumerate((0.5, 0.5, 2.0)):
        path = root / "images" / f"s{i}.tif"
        path.with_suffix(".png").unlink()
        tifffile.imwrite(
            path,
            image_values(i),
            imagej=True,
            resolution=(1 / length, 2 / length),
            metadata={"unit": "um"},
        )
    for _ in range(2):  # as it is read, and as it is remembered
        dataset = read(root, validation_fraction=0)
        assert dataset.pixel_size == (0.25, 0.5)


def test_the_data_set_has_its_name_in_the_table(make_folder):
    assert DATASETS["folder"] is folder


def test_the_split_depends_on_stems_alone(make_folder, read, tmp_path):
    first = names(read(make_folder(), test_fraction=0.1))
    assert {split: len(part) for split, part in first.items()} == {
        "train": 7,
        "validation": 2,
        "test": 1,
    }
    moved = tmp_path / "elsewhere"
    for kind in ("images", "labels"):
        for path in sorted((tmp_path / "cells" / kind).iterdir(), reverse=True):
            save(moved / kind / f"{path.stem}.tif", np.array(Image.open(path)))
    assert names(read(moved, test_fraction=0.1)) == first


def test_records_are_in_natural_order(make_folder, read):
    (train,) = names(read(make_folder(12), validation_fraction=0)).values()
    assert train == [f"s{i}" for i in range(12)]


def test_pages_of_a_stack_stay_in_blocks(tmp_path, read):
    for name in ("a", "b"):
        save(tmp_path / "d/images" / f"{name}.tif", image_values(1, (10, 12, 16)))
        save(tmp_path / "d/labels" / f"{name}.tif", mask_values(2, (10, 12, 16)))
    dataset = read(tmp_path / "d", validation_fraction=0.2, test_fraction=0.1)
    assert names(dataset) == {
        "train": [f"{n}/{i:03d}" for n in "ab" for i in range(7)],
        "validation": [f"{n}/{i:03d}" for n in "ab" for i in (7, 8)],
        "test": [f"{n}/009" for n in "ab"],
    }
    record = dataset.splits["validation"][1]
    assert record["stack"] == str(tmp_path / "d/images/a.tif")
    np.testing.assert_array_equal(
        record["image"][..., 0], image_values(1, (10, 12, 16))[8]
    )
    np.testing.assert_array_equal(
        record["label"], mask_values(2, (10, 12, 16))[8] == 255
    )


def test_own_splits_are_kept_and_test_needs_no_labels(make_folder, read):
    root = make_folder(4, "d/train").parent
    make_folder(2, "d/validation")
    shutil.rmtree(make_folder(3, "d/test") / "labels")
    dataset = read(root)
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 4,
        "validation": 2,
        "test": 3,
    }
    assert "label" not in dataset.splits["test"][0]
    assert "label" in dataset.splits["validation"][0]


def test_validation_is_cut_off_train_where_it_has_no_folder(make_folder, read):
    root = make_folder(5, "d/train").parent
    dataset = read(root)
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 4,
        "validation": 1,
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_color_of_8_and_16_bits_with_other_endings(tmp_path, read, dtype):
    for i in range(2):
        color = image_values(i, (12, 16, 3), dtype)
        path = tmp_path / f"d/images/{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, color, photometric="rgb")
        save(tmp_path / f"d/labels/{i}.png", mask_values(i))
    dataset = read(tmp_path / "d", channels=3)
    record = dataset.splits["train"][0]
    expected = image_values(int(record["name"]), (12, 16, 3), dtype)
    assert record["image"].dtype == dtype
    np.testing.assert_array_equal(record["image"], expected)


def test_pixels_of_the_ignored_value_do_not_count(make_folder, read):
    root = make_folder(2)
    labels = mask_values(0)
    labels[0, 0] = 9
    for i in range(2):
        save(root / "labels" / f"s{i}.png", labels)
    record = read(root, ignore=9).splits["train"][0]
    assert record["label"][0, 0] == IGNORE_LABEL
    assert set(np.unique(record["label"])) == {0, 1, IGNORE_LABEL}


def test_records_can_be_sliced_counted_from_the_end_and_iterated(make_folder, read):
    train = read(make_folder(), validation_fraction=0).splits["train"]
    assert [r["name"] for r in train[2:4]] == ["s2", "s3"]
    assert train[-1]["name"] == "s9"
    assert len(list(train)) == len(train) == 10


def test_the_second_start_reads_no_file_that_is_unchanged(
    make_folder, read, monkeypatch
):
    root = make_folder(6)
    checked = []
    original = folder_check._check_pair
    monkeypatch.setattr(
        folder_check,
        "_check_pair",
        lambda pair, *rest: checked.append(pair.image.stem) or original(pair, *rest),
    )
    first = read(root)
    assert len(checked) == 6
    assert names(read(root)) == names(first)
    assert len(checked) == 6
    save(root / "labels" / "s3.png", mask_values(77))
    os.utime(root / "labels" / "s3.png", ns=(1, 1))
    read(root)
    assert checked[6:] == ["s3"]
    three = tuple((f"class{i}", (i, i, i)) for i in range(3))
    read(root, remap=((255, 2),), classes=three)
    assert len(checked) == 13


def test_a_file_that_turned_bad_is_found_although_it_was_good(make_folder, read):
    root = make_folder(3)
    read(root)
    path = root / "images" / "s1.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"s1\.png cannot be decoded"):
        read(root)


def test_a_memory_that_is_damaged_or_read_only_is_done_without(
    make_folder, read, tmp_path
):
    root = make_folder(3)
    read(root)
    (memory,) = (tmp_path / "memory" / "segjax_folder").iterdir()
    for damaged in ('{"half', "[1]", '{"a": 3}', '{"a": [1, 2]}', "\x00"):
        memory.write_text(damaged)
        assert len(read(root).splits["train"]) == 2
    whole = memory.read_text()
    for found, other in (
        ('": [1, [', '": [9, ['),
        ("[0, 1]", "[0]"),
        ("{", "[" * 9999),
    ):
        assert found in whole
        memory.write_text(whole.replace(found, other, 1))
        assert names(read(root)) == {"train": ["s1", "s2"], "validation": ["s0"]}
    memory.unlink()
    os.mkfifo(memory)  # which is not waited for
    assert len(read(root).splits["train"]) == 2
    (tmp_path / "a_file").write_text("")
    dataset = read(root, cache_dir=str(tmp_path / "a_file"))
    assert len(dataset.splits["train"]) == 2


def test_nothing_is_written_beside_the_persons_files(make_folder, read):
    root = make_folder(3)
    before = sorted(root.rglob("*"))
    read(root)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_get_the_channels_of_the_config_and_the_log_says_so_once(
    make_folder, read, caplog, channels
):
    root = make_folder(4)
    for i in (1, 2):
        save(root / f"images/s{i}.png", np.stack([image_values(i)] * 3, -1))
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO", logger="segjax"):
            dataset = read(root, channels=channels)
        logged = [m for m in caplog.messages if "2 files are" in m]
        assert len(logged) == 1
        assert ("repeated" in logged[0]) == (channels == 3)
    for records in dataset.splits.values():
        for record in records:
            values = image_values(int(record["name"].removeprefix("s")))
            expected = np.repeat(values[..., None], channels, -1)
            np.testing.assert_array_equal(record["image"], expected)


def test_labels_on_a_turned_photograph_are_trained_against_what_is_seen(
    make_folder, read
):
    root = make_folder(3)
    shown, exif = image_values(7), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(shown)).save(root / "images/s1.png", exif=exif)
    (record,) = [
        r for part in read(root).splits.values() for r in part if r["name"] == "s1"
    ]
    np.testing.assert_array_equal(record["image"][..., 0], shown)
    np.testing.assert_array_equal(record["label"], mask_values(1) == 255)


def test_what_was_remembered_before_turning_is_looked_at_again(
    make_folder, read, monkeypatch
):
    root = make_folder(3)
    read(root)
    monkeypatch.setattr(folder_check, "_RULES", folder_check._RULES - 1)
    checked = []
    original = folder_check._check_pair
    monkeypatch.setattr(
        folder_check,
        "_check_pair",
        lambda pair, *rest: checked.append(pair.image.stem) or original(pair, *rest),
    )
    read(root)
    assert len(checked) == 3


def test_accents_may_be_written_in_two_ways(make_folder, read):
    root = make_folder(3)
    for kind, form in (("images", "NFD"), ("labels", "NFC")):
        name = unicodedata.normalize(form, "Präparat.png")
        (root / kind / "s1.png").rename(root / kind / name)
    first = names(read(root))
    assert "Pr\u00e4parat" in {name for part in first.values() for name in part}
    old = root / "images" / unicodedata.normalize("NFD", "Präparat.png")
    old.rename(old.with_name(unicodedata.normalize("NFC", old.name)))
    assert names(read(root)) == first


def test_the_ending_of_ome_is_no_part_of_the_name(make_folder, read):
    root = make_folder(3)
    (root / "images/s1.png").unlink()
    tifffile.imwrite(root / "images/s1.ome.tif", image_values(1))
    assert sum(len(part) for part in read(root).splits.values()) == 3


@pytest.mark.parametrize("mark", pairing.MARKS[:-1])
def test_labels_may_be_named_as_other_programs_do(make_folder, read, mark):
    root = make_folder(3)
    first = names(read(root))
    for path in (root / "labels").iterdir():
        path.rename(path.with_stem(path.stem + mark))
    assert names(read(root)) == first


def test_a_link_that_leads_nowhere_is_reported_beside_images_too(make_folder, read):
    root = make_folder(3)
    for path in (root / "labels").iterdir():
        path.rename(root / "images" / (path.stem + "_mask" + path.suffix))
    (root / "labels").rmdir()
    (root / "images/s9_mask.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"s9_mask\.png is a link to gone\.png"):
        read(root)


@pytest.mark.parametrize("place", ["cells", "cells/images"])
def test_labels_may_lie_beside_their_images(make_folder, read, tmp_path, place):
    root = make_folder(3)
    first = names(read(root))
    for kind, mark in (("images", ""), ("labels", "_cp_masks")):
        for path in (root / kind).iterdir():
            path.rename(root / (path.stem + mark + path.suffix))
        (root / kind).rmdir()
    if place != "cells":
        root.rename(tmp_path / "images")
        root.mkdir()
        (tmp_path / "images").rename(tmp_path / place)
    assert names(read(root)) == first


def test_folders_of_plates_are_pairs_with_names_of_their_own(make_folder, read):
    root = make_folder(2)
    for kind in ("images", "labels"):
        shutil.copytree(root / kind, root / kind / "plate1")
        (root / kind / "plate1" / "round").symlink_to(root / kind)
    (train,) = names(read(root, validation_fraction=0)).values()
    assert train == ["plate1/s0", "plate1/s1", "s0", "s1"]
    (root / "index.csv").write_text(
        "id,split\ns0,train\ns1.png,val\nplate1/s0,val\nplate1/s1.png,train"
    )
    assert names(read(root))["train"] == ["s0", "plate1/s1"]


def test_what_systems_add_to_a_folder_changes_nothing(make_folder, read):
    root = make_folder(4)
    before = names(read(root))
    for place in (root, root / "images", root / "labels"):
        for name in (".DS_Store", "._s1.png", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(b"x")
        for name in ("__MACOSX", ".ipynb_checkpoints"):
            shutil.copytree(root / "images", place / name / "images")
    assert names(read(root)) == before
    shutil.rmtree(root / "images")
    with pytest.raises(UserError, match=r"has neither images/"):
        read(root)


def test_negative_values_and_floats_in_labels_are_read(tmp_path, read):
    for i in range(3):
        label = np.where(mask_values(i) > 0, 1, 0)
        label[0] = -1
        dtype = (np.int32, np.float32, np.int16)[i]
        save(tmp_path / f"d/images/s{i}.png", image_values(i))
        save(tmp_path / f"d/labels/s{i}.tif", label.astype(dtype))
    for arguments in ({"ignore": -1}, {"remap": ((-1, 255),)}):
        dataset = read(tmp_path / "d", **({"remap": ()} | arguments))
        for record in (r for part in dataset.splits.values() for r in part):
            assert (record["label"][0] == IGNORE_LABEL).all()
            assert set(np.unique(record["label"][1:])) == {0, 1}


def remove(*names):
    def spoil(root):
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def replace(name, values):
    return lambda root: save(root / name, values)


def clear(name):
    def spoil(root):
        for path in (root / name).iterdir():
            path.unlink()

    return spoil


def cut(name):
    def spoil(root):
        whole = (root / name).read_bytes()
        (root / name).write_bytes(whole[: len(whole) // 2])

    return spoil


def nan_image(root):
    (root / "images/s1.png").unlink()
    tifffile.imwrite(root / "images/s1.tif", np.full((12, 16), np.nan, np.float32))


def stack_of_another_length(root):
    remove("images/s1.png", "labels/s1.png")(root)
    save(root / "images/s1.tif", image_values(0, (5, 12, 16)))
    save(root / "labels/s1.tif", mask_values(0, (4, 12, 16)))


def stack_with_a_bad_page(root):
    remove("images/s1.png", "labels/s1.png")(root)
    labels = mask_values(0, (5, 12, 16))
    labels[3, 0, 0] = 50
    save(root / "images/s1.tif", image_values(0, (5, 12, 16)))
    save(root / "labels/s1.tif", labels)


def planes_in_colour(root):
    remove("images/s1.png")(root)
    planes = image_values(0, (3, 12, 16))
    path = root / "images/s1.tif"
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")


def split_named(name):
    def spoil(root):
        for split in ("train", name):
            for kind in ("images", "labels"):
                shutil.copytree(root / kind, root / split / kind)
        remove("images", "labels")(root)

    return spoil


def moved_into(name):
    def spoil(root):
        (root / name).mkdir()
        for kind in ("images", "labels"):
            (root / kind).rename(root / name / kind)

    return spoil


def link(path, target):
    path.unlink()
    path.symlink_to(target)


def ignored(root):
    save(root / "labels/s2.png", np.full((12, 16), 7, np.uint8))


BAD_FOLDERS = {
    "no images folder": (remove("images"), {}, ["neither images/", "--data_root"]),
    "no labels folder": (
        remove("labels"),
        {},
        [
            "labels is missing",
            "Make this",
            "in .png, .tif, .tiff, .webp, .bmp, .gif, .zarr.",
        ],
    ),
    "masks instead of labels": (
        lambda root: (root / "labels").rename(root / "masks"),
        {},
        ["labels is missing", "There is masks/: rename it"],
    ),
    "split of an unknown name": (
        split_named("val"),
        {},
        ["has val/ with images/ in it", "names are train, validation, test"],
    ),
    "data set one folder further down": (
        moved_into("deep"),
        {},
        ["has deep/ with images/ in it", "give --data_root=", "cells/deep."],
    ),
    "empty images folder": (
        clear("images"),
        {},
        ["images is empty", "Put files"],
    ),
    "empty labels folder": (
        clear("labels"),
        {},
        ["labels is empty", "Put files"],
    ),
    "image without label": (
        remove("labels/s1.png", "labels/s3.png"),
        {},
        ["no label for 2 images (s1.png, s3.png)", "add it (of zeros", "or remove"],
    ),
    "many images without label": (
        remove(*[f"labels/s{i}.png" for i in range(4)]),
        {},
        ["4 images (s0.png, s1.png, s2.png, ...)"],
    ),
    "label without image": (
        remove("images/s1.png"),
        {},
        ["no image for 1 label (s1.png)", "add it or remove"],
    ),
    "names of other letters": (
        lambda root: (root / "labels/s1.png").rename(root / "labels/S1.png"),
        {},
        [
            "no label for 1 image (s1.png)",
            "labels/ has S1.png, whose capital and small letters differ: rename it to s1.png",
        ],
    ),
    "names with a suffix": (
        lambda root: (root / "labels/s1.png").rename(root / "labels/s1_gt.png"),
        {},
        ["labels/ has s1_gt.png, whose name differs by '_gt': rename it to s1.png"],
    ),
    "two labels of one image": (
        replace("labels/s1_mask.png", mask_values(1)),
        {},
        ["both s1.png and s1_mask.png, which would be labels of s1.png. Remove one."],
    ),
    "a label missing in a folder below": (
        lambda root: save(root / "images/p/a.png", image_values(1)),
        {},
        ["labels has no label for 1 image (p/a.png)", "add it"],
    ),
    "a link to nowhere": (
        lambda root: link(root / "images/s1.png", "gone/s1.png"),
        {},
        ["images/s1.png is a link to gone/s1.png, which does not exist"],
    ),
    "a git-LFS pointer": (
        lambda root: (root / "images/s1.png").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        ),
        {},
        ["images/s1.png is a git-LFS pointer", "Run `git lfs pull`"],
    ),
    "a lossy label": (
        lambda root: Image.fromarray(np.stack([mask_values(1)] * 3, -1)).save(
            root / "labels/s1.png", format="WEBP", quality=80
        ),
        {},
        ["labels/s1.png is a WebP with loss", "anew from where they were drawn"],
    ),
    "two images of one name": (
        replace("images/s1.tif", image_values()),
        {},
        ["both s1.png and s1.tif", "Rename or remove"],
    ),
    "label of another size": (
        replace("labels/s1.png", mask_values(0, (12, 15))),
        {},
        ["labels/s1.png is 12 high x 15 wide", "s1.png is 12 high x 16 wide", "same"],
    ),
    "white masks without remap": (
        lambda root: None,
        {"remap": ()},
        [
            "every pixel is 'membrane' (class 0) or ignored (value 255)",
            "remap=((255, 1)",
        ],
    ),
    "label value outside the spec": (
        lambda root: None,
        {"remap": (), "ignore": None},
        ["labels/s0.png", "allowed are 0 (membrane), 1 (cell)", "remap=((255, 1),)"],
    ),
    "label is a colour picture": (
        replace("labels/s1.png", image_values(0, (12, 16, 3))),
        {},
        ["labels/s1.png is a colour picture", "one number per pixel"],
    ),
    "all pixels ignored": (
        ignored,
        {"ignore": 7},
        ["labels/s2.png has nothing but ignored pixels", "Label it, or remove"],
    ),
    "RGB among grey": (
        replace("images/s1.png", image_values(0, (12, 16, 3))),
        {},
        ["images/s1.png has 3 channels", "config says 1", "set config.data.channels"],
    ),
    "grey pages as planes": (
        planes_in_colour,
        {},
        ["s1.tif has 3 channels", 'write them with photometric="minisblack"'],
    ),
    "truncated image": (cut("images/s1.png"), {}, ["images/s1.png cannot", "Copy it"]),
    "truncated label": (cut("labels/s1.png"), {}, ["labels/s1.png cannot", "Copy it"]),
    "NaN image": (
        nan_image,
        {},
        ["images/s1.tif has 192 values that are NaN", "Repair"],
    ),
    "pages do not agree": (
        stack_of_another_length,
        {},
        ["labels/s1.tif has 4 pages", "images/s1.tif has 5 pages", "every page"],
    ),
    "label value in a page": (
        stack_with_a_bad_page,
        {},
        ["labels/s1.tif, page 4 of 5,", "50 (1 pixel)", "remap="],
    ),
    "both layouts": (
        lambda root: (root / "train").mkdir(),
        {},
        ["images/ and also train/", "Keep images/"],
    ),
    "fraction of one": (
        lambda root: None,
        {"validation_fraction": 1.0},
        ["config.data.validation_fraction is 1.0", "at least 0 and below 1"],
    ),
    "fractions beyond one together": (
        lambda root: None,
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        ["validation_fraction + test_fraction is 1.0", "below 1"],
    ),
    "no channels": (
        lambda root: None,
        {"channels": ()},
        ["config.data.channels is ()", "Give the number of channels"],
    ),
    "four channels": (
        lambda root: None,
        {"channels": 4},
        ["s0.png has 1 channel, but the config says 4", "set config.data.channels"],
    ),
    "a channel that is not there": (
        lambda root: None,
        {"channels": (1,)},
        ["s0.png has no channel 1: it has 1 channel, counted from 0"],
    ),
    "a name where there are none": (
        lambda root: None,
        {"channels": ("DAPI",)},
        ["s0.png has no channel 'DAPI': it names none of its 1", "Choose by number"],
    ),
    "class without colour": (
        lambda root: None,
        {"classes": (("membrane",), ("cell",))},
        ["config.data.classes is", "pairs (name, (red, green, blue))"],
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_ends_in_file_value_and_remedy(make_folder, read, case):
    spoil, arguments, parts = BAD_FOLDERS[case]
    root = make_folder(5)
    spoil(root)
    with pytest.raises(UserError) as caught:
        read(root, **arguments)
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert "\n" not in message
    if not any(part.startswith("config.") or "fraction" in part for part in parts):
        assert "cells" in message


def test_one_image_alone_cannot_be_split(make_folder, read):
    root = make_folder(1)
    for fractions in ({}, {"test_fraction": 0.1}):
        with pytest.raises(UserError, match=r"too few images: .* Add images, or lower"):
            read(root, **fractions)
    data = read(root, validation_fraction=0)  # as it advises
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 1}


@pytest.mark.parametrize(
    ("data_root", "sentence"),
    [(None, "with --data_root"), ("nowhere", "nowhere is not a folder")],
)
def test_a_missing_folder_is_reported(tmp_path, data_root, sentence):
    with pytest.raises(UserError) as caught:
        folder(cache_dir=str(tmp_path), data_root=data_root)
    assert sentence in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_read_is_reported(make_folder, read, monkeypatch):
    root = make_folder(2)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"cells may not be read"):
        read(root)


def test_the_real_stack_reads_like_the_challenge(shared_data, tmp_path):
    for kind, name in (("images", "train-volume"), ("labels", "train-labels")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "em.tif").symlink_to(
            shared_data / "isbi2012_em" / f"{name}.tif"
        )
    dataset = folder(
        cache_dir=str(tmp_path / "memory"), data_root=str(tmp_path), remap=MASK
    )
    parts = {split: len(records) for split, records in dataset.splits.items()}
    assert parts == {"train": 24, "validation": 6}
    membrane = sum(
        int((record["label"] == 0).sum())
        for records in dataset.splits.values()
        for record in records
    )
    assert membrane == 1_727_250


def test_real_color_images_of_other_sizes_and_endings(shared_data, tmp_path):
    source = shared_data / "camvid"
    root = tmp_path / "d"
    for kind, folder_name in (("images", "test"), ("labels", "testannot")):
        (root / kind).mkdir(parents=True)
        for path in sorted((source / folder_name).iterdir())[:4]:
            (root / kind / path.name).symlink_to(path)
    classes = tuple((f"class{i}", (i, i, i)) for i in range(11))
    dataset = folder(
        cache_dir=str(tmp_path / "memory"),
        data_root=str(root),
        classes=classes,
        ignore=11,
        channels=3,
    )
    record = dataset.splits["train"][0]
    assert record["image"].shape == (360, 480, 3)
    assert record["label"].max() == IGNORE_LABEL
    assert np.unique(record["label"])[-2] <= 10


def test_names_that_are_not_utf_8_have_their_places_among_the_splits(make_folder, read):
    root = make_folder(4)
    for path in (*root.glob("images/*"), *root.glob("labels/*")):
        os.rename(path, os.fsencode(path.parent) + b"/\xe7" + os.fsencode(path.name))
    dataset = read(root, validation_fraction=0.25)
    assert [len(dataset.splits[name]) for name in ("train", "validation")] == [3, 1]


def number_cells(root):
    cells = np.zeros((16, 16), np.uint16)
    cells[2:8, 2:8], cells[8:14, 2:8] = 7, 900
    for name in ("a", "b", "c"):
        for kind, pixels in (("images", np.uint8(cells > 0)), ("labels", cells)):
            (root / kind).mkdir(exist_ok=True)
            tifffile.imwrite(root / kind / f"{name}.tif", pixels)
    return cells


def test_numbers_of_objects_are_foreground_by_one_word(tmp_path):
    cells = number_cells(tmp_path)
    opened = folder(
        cache_dir=str(tmp_path), data_root=str(tmp_path), labels="instances"
    )
    record = opened.splits["train"][0]
    assert np.array_equal(record["label"], cells > 0)
    assert np.array_equal(record["cells"], cells)


def test_a_third_class_parts_cells_that_touch(tmp_path):
    number_cells(tmp_path)
    opened = folder(
        cache_dir=str(tmp_path),
        data_root=str(tmp_path),
        classes=(("none", (0, 0, 0)), ("cell", (9, 9, 9)), ("border", (0, 9, 0))),
        labels="instances_with_border",
    )
    label = opened.splits["train"][0]["label"]
    assert ndimage.label(label == 1)[1] == 2


def test_index_csv_names_the_splits(tmp_path):
    number_cells(tmp_path)
    (tmp_path / "index.csv").write_text("id,split\na,test\nb,train\nc,val\n")
    opened = folder(
        cache_dir=str(tmp_path), data_root=str(tmp_path), labels="instances"
    )
    assert {k: v[0]["name"] for k, v in opened.splits.items()} == {
        "train": "b", "validation": "c", "test": "a",
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [{"labels": "ids"}, {"labels": "instances_with_border"}, {"border_width": 0}],
)
def test_labels_that_do_not_fit_are_a_sentence(tmp_path, arguments):
    number_cells(tmp_path)
    arguments = {"labels": "instances", **arguments}
    with pytest.raises(UserError, match=r"config\.data\.(labels|border_width)"):
        folder(cache_dir=str(tmp_path), data_root=str(tmp_path), **arguments)


def test_an_undivided_folder_is_one_split_with_all_labelled_images(
    make_folder, read, caplog
):
    root = make_folder(5)
    (root / "index.csv").write_text(
        "id,split\n" + "".join(f"s{i},test\n" for i in range(5))
    )
    assert [x["name"] for x in read(root, undivided=True).splits["all"]] == [
        f"s{i}" for i in range(5)
    ]
    alone = make_folder(3, "alone/test").parent
    assert len(read(alone, undivided=True).splits["all"]) == 3
    with pytest.raises(UserError, match="neither images/ and labels/ nor train/"):
        read(alone)
    make_folder(2, "alone/validation")
    shutil.rmtree(alone / "test" / "labels")
    assert len(read(alone, undivided=True).splits["all"]) == 2
    assert "3 of the 5 images" in caplog.text
    shutil.rmtree(alone / "validation")
    with pytest.raises(UserError, match="without labels: they can be predicted"):
        read(alone, undivided=True)


def test_one_class_alone_can_be_measured_where_no_value_is_ignored(make_folder, read):
    root = make_folder(2)
    for path in (root / "labels").iterdir():
        save(path, np.zeros((12, 16), np.uint8))
    assert len(read(root, undivided=True, ignore=None).splits["all"]) == 2
    with pytest.raises(UserError, match="every pixel is 'membrane'"):
        read(root, undivided=True)


def save_channels(root, name, channel_names, order=(0, 1, 2), seed=0):
    """An OME-TIFF of two sections whose channels lie in an order, and its label."""
    planes = np.stack([image_values(seed + c, (2, 12, 16)) for c in order], 1)
    metadata = {"axes": "ZCYX", "Channel": {"Name": [channel_names[c] for c in order]}}
    path = root / "images" / f"{name}.ome.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, planes, photometric="minisblack", metadata=metadata)
    save(root / "labels" / f"{name}.tif", mask_values(seed, (2, 12, 16)))


NAMES = ("DAPI", "GFP", "RFP")


def test_channels_are_chosen_by_name_wherever_they_lie(tmp_path, read):
    save_channels(tmp_path / "cells", "a", NAMES)
    save_channels(tmp_path / "cells", "b", NAMES, order=(2, 0, 1), seed=9)
    expected = {
        f"{name}/{page:03d}": np.stack(
            [image_values(seed + c, (2, 12, 16))[page] for c in (2, 0)], -1
        )
        for name, seed in (("a", 0), ("b", 9))
        for page in range(2)
    }
    for _ in range(2):  # the second time from what was remembered
        dataset = read(tmp_path / "cells", channels=["RFP", "DAPI"])
        assert dataset.channels == 2
        for split, records in dataset.splits.items():
            hashes = [hash_of_image(record["image"]) for record in records]
            assert dataset.image_hashes[split] == hashes
        found = {
            r["name"]: r["image"] for split in dataset.splits.values() for r in split
        }
        assert found.keys() == expected.keys()
        for name, image in expected.items():
            np.testing.assert_array_equal(found[name], image)


def test_pages_are_chosen_of_each_file(tmp_path, read):
    for name in "ab":
        save_channels(tmp_path / "cells", name, NAMES)
    chosen = {"undivided": True, "channels": (0,)}
    dataset = read(tmp_path / "cells", pages=(1,), **chosen)
    assert names(dataset) == {"all": ["a/001", "b/001"]}
    assert len(dataset.image_hashes["all"]) == 2
    with pytest.raises(UserError, match=r"Page 3 is asked for, but .*a\..* has 2"):
        read(tmp_path / "cells", pages=(0, 2), **chosen)


def test_channels_that_differ_between_files_are_reported(tmp_path, read):
    save_channels(tmp_path / "cells", "a", NAMES)
    save_channels(tmp_path / "cells", "b", NAMES, order=(1, 0, 2))
    for channels in (3, (0, 1)):
        with pytest.raises(UserError) as caught:
            read(tmp_path / "cells", channels=channels)
        assert "b.ome.tif has the channels GFP, DAPI" in str(caught.value)
        assert "a.ome.tif has DAPI, GFP" in str(caught.value)
    with pytest.raises(
        UserError, match=r"no channel 'Cy5': its channels are DAPI, GFP"
    ):
        read(tmp_path / "cells", channels=("Cy5",))
