"""Folds: each record validates once, groups stay together, parts are as equal as they can be."""

import collections

import pytest

from segjax.data.dataset import Dataset
from segjax.data.folds import fold_numbers, with_fold
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError

SPEC = LabelSpec(("background", "cell"), ((0, 0, 0), (9, 9, 9)))


def records(*names):
    return [{"name": name} for name in names]


DATA = Dataset(
    "folder",
    SPEC,
    1,
    {
        "train": records("a", "s/000", "s/001", "b"),
        "validation": records("c", "s/002"),
        "test": records("t"),
    },
    groups={"train": ["a", "s", "s", "b"], "validation": ["c", "s"], "test": ["t"]},
    kinds={"train": ["A", "S", "S", "B"], "validation": ["C", "S"], "test": ["T"]},
)


def names(dataset, split):
    return [record["name"] for record in dataset.splits[split]]


def test_each_record_validates_once_and_never_trains_in_the_same_fold():
    everyone = set(names(DATA, "train") + names(DATA, "validation"))
    seen = []
    for index in range(3):
        fold = with_fold(DATA, "validation", index=index, count=3)
        train, held_out = names(fold, "train"), names(fold, "validation")
        assert set(train) | set(held_out) == everyone
        assert len(train) + len(held_out) == len(everyone)
        assert names(fold, "test") == ["t"]
        assert [name.partition("/")[0] for name in train] == fold.groups["train"]
        assert [kind.lower() for kind in fold.kinds["train"]] == fold.groups["train"]
        seen += held_out
    assert sorted(seen) == sorted(everyone)


def test_a_stack_stays_in_one_fold():
    folds = [with_fold(DATA, "validation", index=i, count=3) for i in range(3)]
    (held_out,) = [
        names(x, "validation") for x in folds if "s/000" in names(x, "validation")
    ]
    assert held_out == ["s/000", "s/001", "s/002"]
    train = next(x for x in folds if "s/000" in names(x, "train"))
    pages = [name.startswith("s/") for name in names(train, "train")]
    assert pages.index(True) + 3 == len(pages) - pages[::-1].index(True)


def test_folds_of_single_images_are_equal_and_do_not_follow_their_order():
    numbers = fold_numbers(23, [f"image{i}" for i in range(23)], 5)
    assert sorted(collections.Counter(numbers).values()) == [4, 4, 5, 5, 5]
    assert numbers != sorted(numbers)
    assert numbers == fold_numbers(23, [f"image{i}" for i in range(23)], 5)


@pytest.mark.parametrize("groups", [None, ["stack"] * 7])
def test_pages_of_one_stack_become_blocks(groups):
    assert fold_numbers(7, groups, 3) == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((3, None, 5), "at most --folds=3"),
        ((6, ["a", "a", "a", "b", "b", "b"], 3), "at most --folds=2"),
    ],
)
def test_too_many_folds_are_refused(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        fold_numbers(*arguments)


@pytest.mark.parametrize(
    ("split", "index", "count", "sentence"),
    [
        ("validation", 0, 1, "at least 2, got 1"),
        ("validation", 3, 3, "index is 0 to 2, got 3"),
        ("train", 0, 2, "need a split that does not train"),
    ],
)
def test_folds_that_mean_nothing_are_refused(split, index, count, sentence):
    with pytest.raises(UserError, match=sentence):
        with_fold(DATA, split, index=index, count=count)
