"""Folders of label images that number their objects: nuclei, and what can be wrong."""

import functools
import unicodedata

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data import DATASETS
from segjax.data.dataset import hash_of_image
from segjax.errors import UserError
from segjax.rle import decode


def test_nuclei_are_read_in_their_split(shared_data):
    nuclei = DATASETS["instance_folder"](
        data_root=str(shared_data / "nuclei_dsb2018"), class_name="nucleus"
    )
    sizes = {k: len(v) for k, v in nuclei.splits.items()}
    assert sizes == {"train": 138, "validation": 47, "test": 45}
    facts = [split.facts for split in nuclei.splits.values()]
    assert sum(f.counts.sum() for f in facts) == 8590
    assert max(f.counts.max() for f in facts) == 313
    assert nuclei.label_spec.names == ("background", "nucleus")
    record = nuclei.splits["train"][0]
    assert record["image"].shape == (256, 256, 3)
    assert len(record["boxes"]) == 27
    assert sum(r.area for r in record["masks"]) == round(0.08719 * 256 * 256)


@pytest.fixture
def folder(tmp_path):
    """Ten images of one object each, apart from the last, which has none."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for i in range(10):
        label = np.zeros((12, 16), np.uint16)
        label[2:5, i : i + 4] = 300 if i < 9 else 0
        Image.fromarray(label).save(tmp_path / f"labels/n{i}.png")
        Image.new("L", (16, 12), 20 * i).save(tmp_path / f"images/n{i}.png")
    return tmp_path


def test_without_an_index_a_fraction_is_taken_evenly(folder):
    data = DATASETS["instance_folder"](
        data_root=str(folder), validation_fraction=0.2, test_fraction=0.2
    )
    names = {k: [r["name"] for r in v] for k, v in data.splits.items()}
    assert {k: len(v) for k, v in names.items()} == {
        "train": 6,
        "validation": 2,
        "test": 2,
    }
    assert sorted(n for v in names.values() for n in v) == [f"n{i}" for i in range(10)]
    empty = next(r for v in data.splits.values() for r in v if r["name"] == "n9")
    assert empty["boxes"].shape == (0, 4)
    assert empty["image"].shape == (12, 16, 3)


def test_masks_are_those_of_the_numbers(folder):
    data = DATASETS["instance_folder"](data_root=str(folder), validation_fraction=0.0)
    record = data.splits["train"][3]
    assert record["boxes"].tolist() == [[2, 3, 5, 7]]
    assert decode(record["masks"][0])[2:5, 3:7].all()


def write_index(folder, lines):
    (folder / "index.csv").write_text("\n".join(["id,split", *lines]))


def all_but(folder, **splits):
    write_index(folder, [f"n{i},{splits.get(f'n{i}', 'train')}" for i in range(10)])


@pytest.fixture
def stacks(tmp_path):
    """Three stacks of six pages with page + 1 objects each, and a picture alone."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for stem in "abc":
        labels = np.zeros((6, 12, 16), np.uint16)
        for page in range(6):
            for number in range(page + 1):
                labels[page, 2 * number, :5] = number + 1
        images = labels.astype(np.uint8) + 10 * (1 + "abc".index(stem))
        for kind, values in (("images", images), ("labels", labels)):
            tifffile.imwrite(
                tmp_path / f"{kind}/{stem}.tif", values, photometric="minisblack"
            )
    Image.new("L", (8, 4), 9).save(tmp_path / "images/d.png")
    Image.fromarray(np.eye(4, 8, dtype=np.uint16)).save(tmp_path / "labels/d.png")
    return tmp_path


def test_every_page_of_a_stack_is_a_record(stacks):
    data = DATASETS["instance_folder"](data_root=str(stacks), validation_fraction=0.2)
    names = {k: [r["name"] for r in v] for k, v in data.splits.items()}
    assert names["validation"] == [f"{stem}/005" for stem in "abc"]
    train = [f"{stem}/{i:03d}" for stem in "abc" for i in range(5)]
    assert names["train"] == [*train, "d"]
    records = {r["name"]: r for part in data.splits.values() for r in part}
    assert sorted(r["image_id"] for r in records.values()) == list(range(1, 20))
    for split in data.splits.values():
        np.testing.assert_array_equal(
            split.facts.counts, [len(r["boxes"]) for r in split]
        )
    for name, split in data.splits.items():
        hashes = [hash_of_image(record["image"]) for record in split]
        assert data.image_hashes[name] == hashes
    third = records["b/003"]
    assert third["boxes"].tolist() == [[2 * n, 0, 2 * n + 1, 5] for n in range(4)]
    np.testing.assert_array_equal(third["image"][::2, 0, 0], [21, 22, 23, 24, 20, 20])
    assert records["d"]["image"].shape == (4, 8, 3)


def test_pages_and_channels_are_chosen(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    label = np.zeros((3, 12, 16), np.uint16)
    label[:, 2:5, 2:5], label[:, 2:5, 8:10] = 1, 2
    planes = np.arange(3 * 2 * 12 * 16, dtype=np.uint16).reshape(3, 2, 12, 16)
    axes = {"axes": "ZCYX"}
    tifffile.imwrite(tmp_path / "images/a.tif", planes, imagej=True, metadata=axes)
    tifffile.imwrite(tmp_path / "labels/a.tif", label, photometric="minisblack")
    read = functools.partial(
        DATASETS["instance_folder"], data_root=str(tmp_path), undivided=True
    )
    (record,) = read(channels=(1, 1, 0), pages=(2,)).splits["all"]
    assert record["name"] == "a/002"
    expected = np.moveaxis(planes[2][[1, 1, 0]], 0, -1)
    np.testing.assert_array_equal(record["image"], expected)
    with pytest.raises(UserError, match=r"page 1 of 3, has 2 channels, but the config"):
        read()
    with pytest.raises(UserError, match=r"channels is \(0,\), but .* has 3 channels"):
        read(channels=(0,))


def test_an_index_puts_all_pages_of_a_file_into_its_split(stacks):
    write_index(stacks, ["b,val", "d.png,train", "a,train", "c,test"])
    data = DATASETS["instance_folder"](data_root=str(stacks))
    names = {k: [r["name"] for r in v] for k, v in data.splits.items()}
    assert names["validation"] == [f"b/{i:03d}" for i in range(6)]
    assert names["train"] == ["d", *(f"a/{i:03d}" for i in range(6))]
    assert len(names["test"]) == 6


def test_numbers_of_single_images_count_their_names(folder):
    data = DATASETS["instance_folder"](data_root=str(folder))
    found = {r["name"]: r["image_id"] for part in data.splits.values() for r in part}
    assert found == {f"n{i}": i + 1 for i in range(10)}


INDEX_LINES = [
    f"n{i}{'.png' if i % 2 else ''},{'Train' if i < 8 else 'val'}" for i in range(10)
]


@pytest.mark.parametrize(
    ("encoding", "delimiter", "end"),
    [
        ("utf-8", ",", "\n"),
        ("utf-8-sig", ",", "\r\n"),
        ("utf-8-sig", ";", "\r\n;\r\n"),
        ("utf-16", "\t", "\r\n"),
    ],
    ids=["plain", "byte-order mark", "Excel", "Unicode text of Excel"],
)
def test_an_index_is_read_as_spreadsheets_write_it(folder, encoding, delimiter, end):
    text = end.join(["ID,Split", *INDEX_LINES]).replace(",", delimiter)
    (folder / "index.csv").write_bytes((text + end).encode(encoding))
    data = DATASETS["instance_folder"](data_root=str(folder))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 8, "validation": 2}


@pytest.mark.parametrize("mark", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_delimiter_declared_for_excel_is_used(folder, mark):
    (folder / "index.csv").write_text(
        "\r\n".join(
            [mark, "note, if any, or none;id;split"]
            + [";" + line.replace(",", ";") for line in INDEX_LINES]
        )
    )
    data = DATASETS["instance_folder"](data_root=str(folder))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 8, "validation": 2}


@pytest.mark.parametrize(
    ("head", "line"), [("", 7), ("sep=,\n", 8)], ids=["plain", "delimiter"]
)
def test_a_row_is_named_by_the_line_that_it_begins_at(folder, head, line):
    rows = ['n0,train,"two\n\nlines"', "", "n1,dev,", "n2,train,"]
    text = head + "\n".join(['id,split,"a\nnote"', *rows])
    (folder / "index.csv").write_text(text)
    assert text.splitlines()[line - 1].startswith("n1")
    with pytest.raises(UserError, match=rf"line {line}: the split is 'dev'"):
        DATASETS["instance_folder"](data_root=str(folder))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint32, np.int64])
def test_numbers_of_objects_may_have_any_type(folder, dtype):
    for i in range(10):
        label = np.asarray(Image.open(folder / f"labels/n{i}.png")).astype(dtype)
        (folder / f"labels/n{i}.png").unlink()
        tifffile.imwrite(folder / f"labels/n{i}.tif", label * 1000)
    data = DATASETS["instance_folder"](data_root=str(folder), validation_fraction=0)
    assert data.splits["train"].facts.counts.tolist() == [1] * 9 + [0]


def test_accents_may_be_written_in_two_ways(folder):
    for kind, form in (("images", "NFD"), ("labels", "NFC")):
        name = unicodedata.normalize(form, "Zählung.png")
        (folder / kind / "n3.png").rename(folder / kind / name)
    write_index(
        folder, ["n0,val", *(f"n{i},train" for i in range(10) if i not in (0, 3))]
    )
    with (folder / "index.csv").open("a") as file:
        file.write("\n" + unicodedata.normalize("NFD", "Zählung") + ",train")
    data = DATASETS["instance_folder"](data_root=str(folder))
    assert len(data.splits["train"]) == 9


def fill(folder, make, suffix="png"):
    for i in range(10):
        (folder / f"labels/n{i}.png").unlink()
        path = folder / f"labels/n{i}.{suffix}"
        label = np.zeros((12, 16), bool)
        label[2:4, 2:5], label[7:9, 8:11] = True, True
        if suffix == "tif":
            tifffile.imwrite(path, make(label))
        else:
            Image.fromarray(make(label)).save(path)


def test_one_object_in_several_parts_is_reported(folder, caplog):
    fill(folder, lambda label: label.astype(np.uint16))
    with caplog.at_level("WARNING", logger="segjax"):
        data = DATASETS["instance_folder"](data_root=str(folder))
    assert "hold one number only, 1, and in n0.png it has several parts" in caplog.text
    assert len(data.splits["train"][0]["boxes"]) == 1


def shorter_label(folder):
    for kind, pages in (("images", 5), ("labels", 4)):
        (folder / kind / "n2.png").unlink()
        tifffile.imwrite(
            folder / kind / "n2.tif",
            np.ones((pages, 12, 16), np.uint8),
            photometric="minisblack",
        )


WRONG = {
    "pages": (shorter_label, r"n2\.tif has 4 pages, but .*n2\.tif has 5"),
    "masks of 255": (
        lambda f: fill(f, lambda label: label.astype(np.uint8) * 255),
        r"one number only, 255.*several parts: a mask.*scipy\.ndimage\.label",
    ),
    "masks of 1 bit": (
        lambda f: fill(f, lambda label: label),
        r"holds bool values.*scipy\.ndimage\.label",
    ),
    "nothing": (
        lambda f: fill(f, lambda label: label.astype(np.uint16) * 0),
        r"hold no object at all, only 0",
    ),
    "negative": (
        lambda f: fill(f, lambda label: label.astype(np.int32) - 1, "tif"),
        r"n0\.tif has negative values \(180 pixels, the least is -1\).*Save 0 where",
    ),
    "fractions": (
        lambda f: fill(f, lambda label: label.astype(np.float32) / 2, "tif"),
        r"holds float32 values",
    ),
    "names with a suffix": (
        lambda f: (f / "labels/n3.png").rename(f / "labels/n3_gt.png"),
        r"labels/ has n3_gt\.png, whose name differs by '_gt': rename it to "
        r"n3\.png",
    ),
    "lossy": (
        lambda f: (
            Image.open(f / "labels/n3.png").convert("L").save(f / "labels/n3.jpg")
            or (f / "labels/n3.png").unlink()
        ),
        r"n3\.jpg is a JPEG, which changes values",
    ),
    "no table": (
        lambda f: (f / "index.csv").write_bytes(
            b'id,split\nn0,"train' + b"x" * 200_000
        ),
        r"index\.csv is not a table \(field larger",
    ),
    "bytes": (
        lambda f: (f / "index.csv").write_bytes(b"\xff\x00\xfe"),
        r"index\.csv is not text in UTF-8",
    ),
    "short line": (lambda f: write_index(f, ["n0"]), r"line 2: the split is ''"),
    "lone image": (
        lambda f: (f / "labels/n3.png").unlink(),
        r"labels has no label for 1 image \(n3\.png\).*of zeros",
    ),
    "lone label": (
        lambda f: (f / "images/n3.png").unlink(),
        r"images has no image for 1 label \(n3\.png\)",
    ),
    "no labels": (lambda f: (f / "labels").rename(f / "l"), "labels/ is missing"),
    "size": (
        lambda f: Image.new("L", (12, 16)).save(f / "images/n1.png"),
        r"n1\.png is 12 high x 16 wide pixels, but n1\.png is 16 high x 12 wide",
    ),
    "split": (
        lambda f: all_but(f, n2="dev"),
        r"line 4: the split is 'dev'; it must be",
    ),
    "listed": (
        lambda f: write_index(f, ["n77,train"]),
        "n77 is listed, but there is no",
    ),
    "nothing to train on": (
        lambda f: write_index(f, [f"n{i},{'val' if i else 'test'}" for i in range(10)]),
        r"index\.csv gives no image the split train",
    ),
    "unlisted": (lambda f: write_index(f, ["n0,val"]), "n1, one of 9 images that"),
    "twice": (lambda f: write_index(f, ["n0,val"] * 2), "line 3: n0 is listed twice"),
    "header": (
        lambda f: (f / "index.csv").write_text("name\nn0"),
        "columns id and split",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_folder_is_reported(folder, change, sentence):
    change(folder)
    with pytest.raises(UserError, match=sentence):
        DATASETS["instance_folder"](data_root=str(folder))


def test_a_stack_that_is_held_out_as_a_whole_is_reported(stacks):
    for stem in "abd":
        for kind in ("images", "labels"):
            (path,) = (stacks / kind).glob(f"{stem}.*")
            path.unlink()
    for kind in ("images", "labels"):
        path = stacks / kind / "c.tif"
        pages = tifffile.imread(path)[:2]
        tifffile.imwrite(path, pages, photometric="minisblack")
    fractions = {"validation_fraction": 0.3, "test_fraction": 0.3}
    with pytest.raises(
        UserError, match=r"too few images: .* config\.data\.test_fraction: 0"
    ):
        DATASETS["instance_folder"](data_root=str(stacks), **fractions)
    data = DATASETS["instance_folder"](
        data_root=str(stacks), **(fractions | {"test_fraction": 0})
    )
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 1, "validation": 1}


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_fractions_are_checked(folder, fraction):
    with pytest.raises(UserError, match=f"validation_fraction is {fraction}"):
        DATASETS["instance_folder"](data_root=str(folder), validation_fraction=fraction)
