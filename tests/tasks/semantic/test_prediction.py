"""Labels of arrays: the pages of a stack are seen as those of a file."""

import numpy as np
import pytest

from segjax.data.normalization import Percentiles
from segjax.tasks.semantic.prediction import SemanticPrediction


class Brightness:
    """Takes what is brighter than one half for class 1."""

    def pages(self, images, outputs):
        for image in images:
            yield {"labels": (image[..., 0] > 0.5).astype(np.uint8)}


class Task(SemanticPrediction):
    """A task without a network."""

    downscale = 1
    normalization = None

    def __init__(self, method):
        self.normalization = method


@pytest.mark.parametrize(("over", "light"), [("image", 2), ("stack", 1)])
def test_pages_of_an_array_have_one_scale_where_it_is_asked_for(over, light):
    ramp = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    stack = np.concatenate([ramp // 4, ramp])
    method = Percentiles(low=0, high=100, over=over)
    task = Task(method)
    labels = task.label_stack(Brightness(), stack)
    assert sum(page.any() for page in labels) == light
