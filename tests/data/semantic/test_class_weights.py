"""Class weights: those of the description of CamVid, and of their formulas."""

import numpy as np
import pytest

from segjax.data.dataset import LazyRecords
from segjax.data.datasets.camvid import LABEL_SPEC, SEGNET_WEIGHTS, read_list
from segjax.data.files.images import read_label
from segjax.data.label_spec import LabelSpec
from segjax.data.semantic.class_weights import (
    CLASS_WEIGHTS,
    class_weights,
    enet,
    median_frequency,
)
from segjax.errors import UserError

CAMVID = (
    *(0.2794, 0.2018, 4.7889, 0.1491, 1.0000, 0.4235, 3.8464, 1.9798, 0.7890),
    *(6.3847, 8.8193),
)
SPEC = LabelSpec(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def records_of(*labels):
    return [{"label": np.array(label, np.uint8)} for label in labels]


def test_weights_of_camvid_are_those_of_its_description_and_near_segnets(shared_data):
    pairs = read_list(shared_data / "camvid" / "train.txt")

    def read(index):
        return {"label": LABEL_SPEC.to_ids(read_label(pairs[index][1]), "")}

    records = LazyRecords(read, range(len(pairs)))
    weights = median_frequency(records, LABEL_SPEC)
    np.testing.assert_allclose(weights, CAMVID, atol=5e-5)
    ratio = weights / np.array(SEGNET_WEIGHTS)
    others = np.arange(11) != LABEL_SPEC.names.index("SignSymbol")
    assert np.abs(ratio[others] - 1).max() < 0.21
    assert ratio[~others] == pytest.approx(3.8464 / 9.6446, rel=1e-3)


def test_an_ignored_pixel_counts_nowhere():
    plain = records_of([[0, 0, 1, 2]], [[1, 1, 0, 0]])
    padded = records_of([[0, 0, 1, 2, 255]], [[255, 1, 1, 0, 0]], [[255, 255]])
    for method in CLASS_WEIGHTS.values():
        np.testing.assert_array_equal(method(plain, SPEC), method(padded, SPEC))


def test_classes_of_equal_frequency_have_weight_one():
    np.testing.assert_array_equal(
        median_frequency(records_of([[0, 1, 2]], [[2, 1, 0]]), SPEC), 1
    )


def test_a_class_that_nothing_shows_has_weight_zero_and_no_part_in_the_median():
    weights = median_frequency(records_of([[0, 0, 0, 1]]), SPEC)
    np.testing.assert_allclose(weights, [0.5 / 0.75, 0.5 / 0.25, 0])


def test_enets_weights_are_those_of_its_formula():
    weights = enet(records_of([[0, 0, 0, 1]]), SPEC)
    np.testing.assert_allclose(weights, 1 / np.log([1.77, 1.27, 1.02]), rtol=1e-6)


def test_a_config_names_the_method_and_gets_plain_numbers():
    records = records_of([[0, 1, 2, 2]])
    weights = class_weights("median_frequency", records, SPEC)
    assert weights == (1.0, 1.0, 0.5)
    with pytest.raises(UserError, match=r"'median'.*\"median_frequency\""):
        class_weights("median", records, SPEC)


def test_nothing_to_count_is_reported():
    with pytest.raises(UserError, match="no pixel is labelled"):
        median_frequency(records_of([[255, 255]]), SPEC)
    with pytest.raises(UserError, match="has none"):
        enet([{"name": "a"}], SPEC)
