"""EM metrics: goldens of scikit-image, hand-made maps, sums over sections, real labels."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from segjax.metrics.em import EM_COLUMNS, em_metrics, pixel_error, summarize
from segjax.metrics.rand import (
    THRESHOLDS,
    adapted_rand_error,
    connected_cells,
    rand_error_over_thresholds,
)
from segjax.types import IGNORE_LABEL

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "metrics.npz")


def label_of_two_cells(side=12):
    label = np.ones((side, side), int)
    label[:, side // 2] = 0
    return label


def random_sections(count=3, seed=0):
    """Probabilities and labels of sections with gaps at some thresholds."""
    rng = np.random.default_rng(seed)
    label = (
        ndimage.gaussian_filter(rng.normal(size=(count, 40, 44)), (0, 3, 3)) > -0.02
    ) * 1
    noise = ndimage.gaussian_filter(rng.normal(size=label.shape), (0, 1, 1))
    return np.clip(0.3 + 0.4 * label + 0.8 * noise, 0, 1), label


@pytest.mark.parametrize("case", range(len(GOLDEN["names"])), ids=list(GOLDEN["names"]))
def test_rand_error_is_that_of_scikit_image(case):
    error, precision, recall = adapted_rand_error(
        GOLDEN["truth"], GOLDEN["predictions"][case]
    )
    # Its code divides by the truth for what its text, and we, call recall.
    assert (error, recall, precision) == pytest.approx(GOLDEN["rand"][case], abs=1e-12)


def test_a_merger_lowers_precision_and_a_split_lowers_recall():
    two, one = np.array([[1] * 10 + [2] * 10]), np.ones((1, 20), int)
    # 2 x 45 pairs inside the halves, 190 pairs in all.
    assert adapted_rand_error(two, one) == pytest.approx((5 / 14, 90 / 190, 1))
    assert adapted_rand_error(one, two) == pytest.approx((5 / 14, 1, 90 / 190))


def test_membrane_inside_a_cell_is_a_segment_or_single_pixels():
    cell, holes = np.ones((1, 4), int), np.array([[7, 7, 0, 0]])
    # Pairs of different pixels: {7, 7} and {0, 0} of six.
    assert adapted_rand_error(cell, holes) == pytest.approx((0.5, 1, 1 / 3))
    # Pairs with themselves included: 4 + 1 + 1 of 16.
    pixels = adapted_rand_error(cell, holes, membrane="pixels")
    assert pixels == pytest.approx((1 - 12 / 22, 1, 6 / 16))


def test_membrane_that_touches_two_cells_merges_them_only_as_a_segment():
    cells, eroded = np.array([[1, 1, 2, 2]]), np.array([[1, 0, 0, 2]])
    assert adapted_rand_error(cells, eroded)[1] == 0
    assert adapted_rand_error(cells, eroded, membrane="pixels")[1] == 1


def test_many_segments_give_the_same_error_as_few_that_are_renumbered():
    truth, prediction = (
        GOLDEN["truth"].astype(int),
        GOLDEN["predictions"][8].astype(int),
    )
    far = np.where(prediction, prediction + 900_000, 0)
    for membrane in ("segment", "pixels"):
        expected = adapted_rand_error(truth, prediction, membrane=membrane)
        assert adapted_rand_error(truth, far, membrane=membrane) == expected


def test_a_truth_without_cells_has_no_rand_error():
    assert all(map(math.isnan, adapted_rand_error(np.zeros((3, 3)), np.ones((3, 3)))))


def test_a_prediction_that_joins_nothing_has_precision_one_and_error_one():
    cell, lone = np.ones((1, 3), int), np.array([[1, 2, 3]])
    assert adapted_rand_error(cell, lone) == (1, 1, 0)


def test_bad_arguments_of_the_rand_error_are_refused():
    ones = np.ones((2, 2), int)
    with pytest.raises(ValueError, match=r"one shape.*\(2, 2\).*\(2, 1\)"):
        adapted_rand_error(ones, ones[:, :1])
    with pytest.raises(ValueError, match='"segment" or "pixels", got \'none\''):
        adapted_rand_error(ones, ones, membrane="none")
    with pytest.raises(ValueError, match="negative"):
        adapted_rand_error(ones, -ones)


def test_cells_touching_at_a_corner_are_two():
    assert connected_cells(np.eye(3)).max() == 3


def test_the_best_threshold_is_that_of_the_mean_over_sections():
    label = label_of_two_cells()
    # Section a wants a threshold above 0.3, section b one between 0.3 and 0.6.
    a = np.where(label == 1, 0.9, 0.3)
    b = np.where(label == 1, 0.6, 0.2)
    thresholds = (0.1, 0.25, 0.45, 0.7)
    truth = np.stack([connected_cells(label == 1)] * 2)
    means = rand_error_over_thresholds(np.stack([a, b]), truth, thresholds)
    assert means.shape == (4, 3)
    assert means[:, 0].argmin() == 2
    assert means[2].tolist() == [0, 1, 1]
    metrics = summarize(
        [em_metrics(p, label, thresholds=thresholds) for p in (a, b)],
        thresholds=thresholds,
    )
    assert metrics["rand_threshold"] == 0.45
    assert metrics["rand_error"] == 0


def test_summary_is_the_mean_of_the_sections_at_the_best_threshold():
    probability, label = random_sections()
    cells = np.stack([connected_cells(section == 1) for section in label])
    means = rand_error_over_thresholds(probability, cells)
    best = means[:, 0].argmin()
    metrics = summarize(
        [em_metrics(*section) for section in zip(probability, label, strict=True)]
    )
    keys = ("rand_error", "rand_precision", "rand_recall")
    assert [metrics[key] for key in keys] == pytest.approx(means[best])
    assert metrics["rand_threshold"] == THRESHOLDS[best]
    assert metrics["pixel_error"] == pytest.approx(
        pixel_error(label == 1, probability > 0.5)
    )
    assert metrics["rand_error_at_0.5"] == pytest.approx(means[4, 0])
    assert metrics["warping_error"] <= metrics["warping_error_at_0.5"]
    assert metrics["sections"] == 3


def test_sections_measured_apart_add_up_to_the_same_summary():
    probability, label = random_sections(4)
    rows = [em_metrics(*section) for section in zip(probability, label, strict=True)]
    nothing = np.zeros_like(rows[0])
    whole = summarize(rows)
    assert summarize(sum(rows[:2]) + sum(rows[2:])) == pytest.approx(whole)
    assert summarize(np.stack([*rows[::-1], nothing, nothing])) == pytest.approx(whole)
    assert rows[0].dtype == np.float64
    assert rows[0].shape == (1 + len(THRESHOLDS), len(EM_COLUMNS))


def test_ignored_pixels_change_nothing():
    probability, label = random_sections(1)
    label[0, :, :9] = IGNORE_LABEL
    spoiled = probability.copy()
    spoiled[0, :, :9] = 0
    row = em_metrics(probability[0], label[0])
    other = em_metrics(spoiled[0], label[0])
    columns = [EM_COLUMNS.index(c) for c in ("pixels", "wrong_pixels", "warping_error")]
    np.testing.assert_array_equal(row[:, columns], other[:, columns])
    assert row[0, 1] == 40 * 35


def test_a_section_without_cells_has_pixels_but_no_part_in_the_rand_error():
    probability, label = random_sections(1)
    rows = [em_metrics(probability[0], label[0])]
    empty = em_metrics(np.zeros((40, 44)), np.zeros((40, 44), int))
    assert np.isfinite(empty).all()
    alone, both = summarize(rows), summarize([*rows, empty])
    assert both["rand_error"] == alone["rand_error"]
    assert both["sections"] == 2
    assert both["pixel_error"] == pytest.approx(alone["pixel_error"] / 2)
    only = summarize([empty])
    assert math.isnan(only["rand_error"])
    assert math.isnan(only["rand_threshold"])
    assert only["warping_error"] == 0


def test_a_section_that_is_ignored_altogether_is_zero():
    assert not em_metrics(np.ones((4, 4)), np.full((4, 4), IGNORE_LABEL)).any()


def test_no_section_has_no_metrics():
    metrics = summarize([])
    assert metrics.pop("sections") == 0
    assert all(map(math.isnan, metrics.values()))


def test_probabilities_out_of_range_and_other_thresholds_are_refused():
    label = label_of_two_cells()
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 0 .. 2"):
        em_metrics(label * 2, label)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got nan"):
        em_metrics(np.full(label.shape, np.nan), label)
    with pytest.raises(ValueError, match=r"\[N, 2, 8\].*\(1, 10, 8\)"):
        summarize([em_metrics(label * 1.0, label)], thresholds=(0.5,))


def test_real_labels_against_noisy_probabilities(shared_data):
    stack = tifffile.imread(
        shared_data / "isbi2012_em" / "train-labels.tif", key=range(2)
    )
    label = (stack == 255).astype(int)
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=label.shape), (0, 2, 2)) * 0.8
    smooth = ndimage.gaussian_filter(label.astype(float), (0, 2, 2))
    start = time.process_time()
    perfect = summarize([em_metrics(section * 1.0, section) for section in label])
    noisy = summarize(
        [em_metrics(*s) for s in zip(np.clip(smooth + noise, 0, 1), label, strict=True)]
    )
    assert time.process_time() - start < 8
    for key in ("pixel_error", "rand_error", "warping_error"):
        assert perfect[key] == 0
        assert 0 < noisy[key] < 0.2
    assert noisy["warping_error"] < noisy["pixel_error"] / 20


def test_probabilities_off_by_rounding_are_accepted():
    label = label_of_two_cells()
    row = em_metrics(label * 1.0000002, label)
    np.testing.assert_array_equal(row, em_metrics(label * 1.0, label))
