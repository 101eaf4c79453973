"""Folders of label images that number their objects: nuclei, and what can be wrong."""

import numpy as np
import pytest
from PIL import Image

from segjax.data import DATASETS
from segjax.rle import decode
from segjax.types import UserError


def test_nuclei_are_read_in_their_split(shared_data):
    nuclei = DATASETS["instance_folder"](
        manual_dir=str(shared_data / "nuclei_dsb2018"), class_name="nucleus"
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


def test_without_an_index_a_share_is_taken_evenly(folder):
    data = DATASETS["instance_folder"](
        manual_dir=str(folder), validation_share=0.2, test_share=0.2
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
    data = DATASETS["instance_folder"](manual_dir=str(folder), validation_share=0.0)
    record = data.splits["train"][3]
    assert record["boxes"].tolist() == [[2, 3, 5, 7]]
    assert decode(record["masks"][0])[2:5, 3:7].all()


def write_index(folder, lines):
    (folder / "index.csv").write_text("\n".join(["id,split", *lines]))


def all_but(folder, **splits):
    write_index(folder, [f"n{i},{splits.get(f'n{i}', 'train')}" for i in range(10)])


WRONG = {
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
    "unlisted": (lambda f: write_index(f, ["n0,val"]), "n1, one of 9 images that"),
    "twice": (lambda f: write_index(f, ["n0,val"] * 2), "line 3: n0 is listed twice"),
    "header": (
        lambda f: (f / "index.csv").write_text("name\nn0"),
        "columns id and split",
    ),
}


@pytest.mark.parametrize(("change", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_folder_is_told(folder, change, said):
    change(folder)
    with pytest.raises(UserError, match=said):
        DATASETS["instance_folder"](manual_dir=str(folder))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_are_checked(folder, share):
    with pytest.raises(UserError, match=f"validation_share is {share}"):
        DATASETS["instance_folder"](manual_dir=str(folder), validation_share=share)
