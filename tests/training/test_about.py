"""What is kept beside a checkpoint of the images that it has learned."""

import numpy as np

from segjax.data.dataset import Dataset, LazyPage, LazyRecord
from segjax.data.label_spec import LabelSpec
from segjax.training.about import TRAIN_IMAGES, image_hashes, train_images

SPEC = LabelSpec(("dark", "light"), ((0, 0, 0), (9, 9, 9)))


def record(value):
    return {"name": "a", "image": np.full((4, 5, 1), value, np.uint8)}


def dataset(*records, **known):
    return Dataset("folder", SPEC, 1, {"train": records}, **known)


def hashes(*records, **known):
    return image_hashes(dataset(*records, **known), "train")


def test_equal_images_have_equal_hashes():
    first, second = hashes(record(1)), hashes(record(2))
    assert first == hashes(record(1))
    assert first != second
    assert hashes(record(2), record(1)) == sorted(first + second)


def test_images_that_are_read_by_windows_are_not_read_for_it():
    def read(window):
        raise AssertionError("the page was read")

    page = LazyRecord({"name": "a", "image": LazyPage((4, 5), read)})
    assert hashes(page) == []
    assert hashes(page, image_hashes={"train": ["beef"]}) == ["beef"]


def test_images_of_the_weights_that_training_began_with_count_too():
    initialization = {"source": "run", TRAIN_IMAGES: ["beef"]}
    found = train_images(dataset(record(1)), initialization)
    assert found == {TRAIN_IMAGES: sorted(["beef", *hashes(record(1))])}
    assert initialization == {"source": "run"}  # they stand once beside a checkpoint
