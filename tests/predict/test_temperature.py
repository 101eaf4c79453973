"""Temperature scaling: probabilities change, labels do not."""

import numpy as np
import pytest
from scipy.special import softmax

from segjax.predict.heads import SOFTMAX
from segjax.predict.temperature import TemperatureScaling

LOGITS = np.random.default_rng(0).normal(0, 3, (4, 5, 3)).astype(np.float32)


class Given:
    """Gives what it is asked for, and notes it."""

    head = SOFTMAX

    def __init__(self):
        self.asked = []

    def pages(self, images, outputs=("labels",)):
        self.asked.append(tuple(outputs))
        values = {"logits": LOGITS, "labels": LOGITS.argmax(-1).astype(np.uint8)}
        for _ in images:
            yield {name: values[name] for name in outputs}


def test_logits_are_divided_and_labels_stay():
    predictor = Given()
    scaled = TemperatureScaling(2.5)(predictor)
    (page,) = scaled.pages([None], ("labels", "probabilities", "logits"))
    np.testing.assert_allclose(page["logits"], LOGITS / 2.5, rtol=1e-6)
    np.testing.assert_allclose(page["probabilities"], softmax(LOGITS / 2.5, -1), 1e-5)
    np.testing.assert_array_equal(page["labels"], LOGITS.argmax(-1))
    list(scaled.pages([None]))
    assert predictor.asked == [("labels", "logits"), ("labels",)]


def test_a_temperature_of_one_is_no_temperature():
    predictor = Given()
    assert TemperatureScaling()(predictor) is predictor


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "2"])
def test_what_is_no_temperature_is_refused(value):
    with pytest.raises(ValueError, match="temperature is a number above 0"):
        TemperatureScaling(value)
