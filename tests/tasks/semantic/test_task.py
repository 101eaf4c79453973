"""What a run learns of its images: folds, which predict together, learn the same."""

from types import SimpleNamespace

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.folds import with_fold
from segjax.data.intensities import COUNTED_IMAGES
from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import Percentiles
from segjax.tasks.semantic.task import SemanticTask

SPEC = LabelSpec(("background", "cell"), ((0, 0, 0), (9, 9, 9)))


def test_all_folds_learn_the_same_intensities_of_many_images():
    levels = np.arange(2 * COUNTED_IMAGES)
    images = [np.array([[[0], [level**2]]], np.int32) for level in levels]
    pool = [{"name": str(i), "image": image} for i, image in enumerate(images)]
    splits = {"train": pool[100:], "validation": pool[:100]}
    groups = {name: [x["name"] for x in part] for name, part in splits.items()}
    data = Dataset("folder", SPEC, 1, splits, groups=groups)
    task = SimpleNamespace(normalization=Percentiles())
    learned = [
        SemanticTask.learn(task, with_fold(data, "validation", index=index, count=2))
        for index in range(2)
    ]
    assert learned[0] == learned[1]
