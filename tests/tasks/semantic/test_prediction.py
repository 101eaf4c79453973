"""Labels of arrays: the pages of a stack are seen as those of a file."""

import jax
import numpy as np
import pytest

from segjax.data.normalization import Percentiles
from segjax.tasks.semantic.prediction import SemanticPrediction
from segjax.training.layout import Spread


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spread", "tile"), [(Spread(3), 32), (Spread(2, 2), 32), (Spread(1, 4), 0)]
)
def test_every_spread_over_devices_gives_the_same_logits(smoke, spread, tile):
    """Of an image whose rows are no multiple of the number of devices."""
    task = SemanticPrediction(smoke)
    variables = jax.jit(lambda: task.init_variables(1))()
    image = np.random.default_rng(0).random((150, 90, 1), np.float32)
    one, other = (
        task.predictor(variables, tile=tile, spread=x).logits(image)
        for x in (Spread(), spread)
    )
    assert one.std() > 0
    np.testing.assert_allclose(other, one, atol=1e-5)
