"""Splits that keep groups of images together."""

import numpy as np
import pytest
from PIL import Image

from segjax.data import DATASETS
from segjax.errors import UserError

PATTERN = r"(m\d+)_"


@pytest.fixture
def root(tmp_path):
    """Three images each of five animals."""
    label = np.zeros((8, 8), np.uint8)
    label[2:4, 2:4], label[5:7, 5:7] = 1, 2
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for name in (f"m{animal}_{k}" for animal in range(5) for k in "abc"):
            Image.fromarray(label).save(tmp_path / kind / f"{name}.png")
    return tmp_path


def animals(root, name="folder", **arguments):
    options = {"labels": "instances"} if name == "folder" else {}
    dataset = DATASETS[name](
        cache_dir=str(root / "memory"), data_root=str(root), **options, **arguments
    )
    return {
        split: [record["name"][:2] for record in records]
        for split, records in dataset.splits.items()
    }


def index(root, *columns):
    """Writes an index with the animal and the split of each image."""
    rows = [",".join(("id", *columns))]
    for path in sorted((root / "images").iterdir()):
        animal = int(path.stem[1])
        cells = {"animal": "mouse-" + "AABCC"[animal], "split": "train"}
        cells["split"] = "test" if path.stem == "m0_a" else cells["split"]
        rows.append(",".join((path.name, *(cells[column] for column in columns))))
    (root / "index.csv").write_text("\n".join(rows))


@pytest.mark.parametrize("name", ["folder", "instance_folder"])
def test_no_group_is_on_both_sides(root, name):
    fractions = {"validation_fraction": 0.3, "test_fraction": 0.2}
    found = animals(root, name, group=PATTERN, **fractions)
    assert {split: len(part) for split, part in found.items()} == {
        "train": 6, "validation": 6, "test": 3,
    }  # fmt: skip
    assert len({x for part in found.values() for x in set(part)}) == 5
    assert sum(len(set(part)) for part in found.values()) == 5
    assert set(animals(root, name, group=None)["train"]) == {f"m{i}" for i in range(5)}


def test_groups_may_be_a_column_of_the_index(root):
    index(root, "animal")
    found = animals(root, group="Animal")
    together = [{"m0", "m1"}, {"m2"}, {"m3", "m4"}]
    assert set(found["validation"]) in together
    assert not set(found["validation"]) & set(found["train"])


def test_splits_that_are_given_must_keep_groups_together(root):
    index(root, "animal", "split")
    with pytest.raises(
        UserError, match=r"'m0' is in the split train \(m0_b\) and in test"
    ):
        animals(root, group=PATTERN)
    for name in ("folder", "instance_folder"):
        with pytest.raises(UserError, match=r"'mouse-A' is in the split"):
            animals(root, name, group="animal")
    assert animals(root)["test"] == ["m0"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"group": "(m)"}, r"of one group alone \('m'\), which is too few"),
        ({"group": "(m[01])_"}, r"gives 'm2_a' no group, one of 9 such images"),
        ({"group": "animal"}, r"is not a pattern of names with one group in paren"),
        ({"group": "(m"}, r"is not a regular expression"),
        ({"group": PATTERN, "test_fraction": 0.7}, r"of 5 groups .* too few"),
    ],
)
def test_what_cannot_be_grouped_is_reported(root, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        animals(root, **arguments)


def test_a_column_that_is_missing_is_reported(root):
    index(root, "animal")
    with pytest.raises(
        UserError, match=r"neither a column of \S+index.csv nor a pattern"
    ):
        animals(root, group="mouse")
    with pytest.raises(UserError, match=r"the columns id and split"):
        animals(root)


def test_the_kinds_of_images_are_known_by_split(root):
    index(root, "animal", "split")
    options = {"cache_dir": str(root / "memory"), "data_root": str(root)}
    dataset = DATASETS["folder"](**options, labels="instances", balance="animal")
    for split, records in dataset.splits.items():
        kinds = dataset.kinds_of(split)
        animals = [int(record["name"][1]) for record in records]
        assert kinds == ["mouse-" + "AABCC"[animal] for animal in animals]
    measured = DATASETS["folder"](
        **options, labels="instances", balance="animal", undivided=True
    )
    assert measured.kinds is None  # other folders need not have the column
    plain = DATASETS["folder"](**options, labels="instances")
    assert plain.kinds_of("train") == ()
    with pytest.raises(UserError, match=r"config\.data\.balance is 'stain', which is"):
        DATASETS["folder"](**options, labels="instances", balance="stain")
