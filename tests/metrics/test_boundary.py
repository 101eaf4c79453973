"""Boundary metrics against the distances of all pairs of pixels, and cases by hand."""

import math

import numpy as np
import pytest
from PIL import Image

from segjax.metrics.boundary import (
    boundary_counts,
    boundary_metrics,
    trimap_counts,
    trimap_metrics,
)
from segjax.metrics.confusion import semantic_metrics
from segjax.types import IGNORE_LABEL

CLASSES = 4
WIDTHS = (1, 2, 3.5, 40)


def random_case(seed, shape=(19, 23)):
    """Blocky labels, the prediction shifted and spoilt; some pixels are ignored."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 3, (6, 6)), np.ones((4, 4), int))
    label = blocks[: shape[0], : shape[1]].copy()
    prediction = np.roll(label, seed % 4, axis=1)
    spoilt = rng.random(shape) < 0.05
    prediction[spoilt] = rng.integers(0, CLASSES, spoilt.sum())
    label[rng.random(shape) < 0.03] = IGNORE_LABEL
    return label, prediction


def pixels(mask):
    return np.argwhere(mask)


def boundary_by_hand(classes, counted, k):
    """Pixels of class k beside a counted one of another class."""
    height, width = classes.shape
    found = []
    for row, column in pixels((classes == k) & counted):
        for r, c in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            r, c = row + r, column + c
            inside = 0 <= r < height and 0 <= c < width
            if inside and counted[r, c] and classes[r, c] != k:
                found.append((row, column))
                break
    return np.array(found).reshape(-1, 2)


def fraction_near(points, others, reach):
    if not len(points) or not len(others):
        return 0.0
    squares = ((points[:, None] - others[None]) ** 2).sum(-1).min(1)
    return np.mean(squares <= reach**2 + 1e-9)


def f1_by_hand(label, prediction, tolerance):
    counted = label != IGNORE_LABEL
    reach = tolerance * np.hypot(*label.shape)
    scores = {}
    for k in set(label[counted].tolist()):
        true = boundary_by_hand(label, counted, k)
        given = boundary_by_hand(prediction, counted, k)
        p, r = fraction_near(given, true, reach), fraction_near(true, given, reach)
        scores[k] = 2 * p * r / (p + r) if p + r else 0.0
    return scores


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.1])
def test_f1_is_that_of_all_pairs_of_boundary_pixels(seed, tolerance):
    label, prediction = random_case(seed)
    scores = f1_by_hand(label, prediction, tolerance)
    sums = boundary_counts(label, prediction, num_classes=CLASSES, tolerance=tolerance)
    expected = np.zeros((CLASSES + 1, 2))
    for k, score in scores.items():
        expected[k] = score, 1
    expected[-1] = np.mean(list(scores.values())), 1
    np.testing.assert_allclose(sums, expected, rtol=1e-12)


def halves(column, shape=(30, 40)):
    """Diagonal 50 pixels: a tolerance of 0.02 is one pixel."""
    return (np.arange(shape[1])[None] >= column).astype(int).repeat(shape[0], axis=0)


@pytest.mark.parametrize(("shift", "f1"), [(0, 1.0), (1, 1.0), (2, 0.0)])
def test_a_boundary_may_be_off_by_the_tolerance_and_no_more(shift, f1):
    sums = boundary_counts(
        halves(20), halves(20 + shift), num_classes=2, tolerance=0.02
    )
    assert boundary_metrics(sums) == {
        "boundary_f1": f1,
        "boundary_f1/0": f1,
        "boundary_f1/1": f1,
    }


def test_the_usual_tolerance_is_that_of_segnet():
    """480 x 360 pixels, SegNet's size of CamVid: 0.75 % of 600 is 4.5."""
    label = halves(200, (360, 480))
    for shift, f1 in ((4, 1.0), (5, 0.0)):
        given = halves(200 + shift, (360, 480))
        sums = boundary_counts(label, given, num_classes=2)
        assert boundary_metrics(sums)["boundary_f1"] == f1


def test_what_is_not_predicted_is_zero_and_what_is_not_true_is_left_out():
    label = halves(20)
    label[:5, :5] = 2
    given = halves(20)
    given[-5:, -5:] = 3
    metrics = boundary_metrics(boundary_counts(label, given, num_classes=4))
    assert metrics["boundary_f1/2"] == 0
    assert math.isnan(metrics["boundary_f1/3"])
    by_class = [metrics[f"boundary_f1/{k}"] for k in range(3)]
    assert metrics["boundary_f1"] == pytest.approx(np.mean(by_class))
    assert 0 < by_class[1] < 1


def test_a_class_that_fills_the_image_has_no_boundary():
    full = np.ones((9, 9), int)
    assert not boundary_counts(full, full, num_classes=2).any()
    other = full.copy()
    other[4, 4] = 0
    sums = boundary_counts(full, other, num_classes=2)
    np.testing.assert_array_equal(sums, [[0, 0], [0, 1], [0, 1]])
    empty = boundary_metrics(np.zeros((3, 2)))
    assert all(map(math.isnan, empty.values()))


def test_images_are_averaged_after_their_classes():
    images = [random_case(seed) for seed in range(3)]
    sums = sum(boundary_counts(*image, num_classes=CLASSES) for image in images)
    names = ("a", "b", "c", "d")
    metrics = boundary_metrics(sums, names)
    scores = [f1_by_hand(*image, 0.0075) for image in images]
    of_images = [np.mean(list(score.values())) for score in scores]
    assert metrics["boundary_f1"] == pytest.approx(np.mean(of_images))
    assert metrics["boundary_f1/b"] == pytest.approx(np.mean([s[1] for s in scores]))
    assert next(iter(metrics)) == "boundary_f1"


@pytest.mark.parametrize("seed", range(3))
def test_bands_are_those_of_the_distances_of_all_pairs(seed):
    label, prediction = random_case(seed, shape=(13, 15))
    found = trimap_counts(label, prediction, num_classes=CLASSES, widths=WIDTHS)
    assert found.dtype == np.int64
    everywhere = pixels(np.ones(label.shape, bool))
    expected = np.zeros((len(WIDTHS), CLASSES, CLASSES), int)
    for pixel in pixels(label != IGNORE_LABEL):
        true, given = label[tuple(pixel)], prediction[tuple(pixel)]
        others = everywhere[(label != true).ravel()]
        square = ((others - pixel) ** 2).sum(1).min()
        for i, width in enumerate(WIDTHS):
            expected[i, true, given] += square <= width**2
    np.testing.assert_array_equal(found, expected)


def test_labels_that_hide_every_boundary_are_not_counted():
    label = halves(20)
    label[:, 19:21] = IGNORE_LABEL
    for given in (halves(20), np.eye(30, 40, dtype=int)):
        sums = boundary_counts(label, given, num_classes=2)
        assert not sums.any()
    assert math.isnan(boundary_metrics(sums)["boundary_f1"])
    label[0, 19:21] = 0, 1
    assert boundary_counts(label, halves(20), num_classes=2)[-1, 1] == 1


def test_bands_reach_as_far_as_they_are_wide():
    label, given = halves(20), halves(20) * 0
    counts = trimap_counts(label, given, num_classes=2, widths=(1, 5, 100))
    sides = [[30, 30], [150, 150], [600, 600]]
    np.testing.assert_array_equal(counts[:, :, 0], sides)
    metrics = trimap_metrics(counts, (1, 5, 100))
    assert metrics["trimap_pixel_accuracy/5"] == 0.5
    assert metrics["trimap_mean_iou/5"] == 0.25


def test_the_ignored_margin_is_a_boundary_as_in_deeplab():
    label = np.zeros((1, 12), int)
    label[0, 5] = IGNORE_LABEL
    counts = trimap_counts(label, label * 0, num_classes=2, widths=(1, 3))
    np.testing.assert_array_equal(counts[:, 0, 0], [2, 6])


def test_one_label_alone_has_no_band():
    label = np.zeros((5, 5), int)
    counts = trimap_counts(label, label, num_classes=2, widths=(1, 10))
    assert not counts.any()
    assert all(map(math.isnan, trimap_metrics(counts, (1, 10)).values()))


def test_a_band_as_wide_as_the_image_is_the_image(shared_data):
    """FCN-8s on a real image: near the margins it is worse than on the whole."""
    folder = shared_data / "voc2012_mini"
    read = lambda path: np.asarray(Image.open(path))
    label = read(folder / "SegmentationClass" / "2007_000129.png")
    given = read(folder / "predictions" / "2007_000129_fcn8s.png")
    widths = (*range(1, 41), 1000)
    counts = trimap_counts(label, given, num_classes=21, widths=widths)
    metrics = trimap_metrics(counts, widths)
    curve = [metrics[f"trimap_mean_iou/{width}"] for width in widths]
    assert curve[-1] == pytest.approx(0.7196156777147081, abs=1e-12)
    assert curve[0] < curve[4] < curve[39] < curve[-1]
    whole = semantic_metrics(counts[-1])["pixel_accuracy"]
    assert whole == pytest.approx(0.8425141101426042, abs=1e-12)


@pytest.mark.parametrize("widths", [(2, 1), (1, 1), (0, 1), (-1,), ("1",)])
def test_widths_that_do_not_grow_are_refused(widths):
    label = np.zeros((5, 5), int)
    with pytest.raises(ValueError, match="widths must be numbers of pixels that grow"):
        trimap_counts(label, label, num_classes=2, widths=widths)


def test_shapes_that_do_not_fit_are_refused():
    label = np.zeros((5, 5), int)
    with pytest.raises(ValueError, match=r"\(5, 5\) and \(5, 4\)"):
        boundary_counts(label, label[:, 1:], num_classes=2)
    with pytest.raises(ValueError, match=r"one shape \[H, W\], got \(1, 5, 5\)"):
        trimap_counts(label[None], label[None], num_classes=2, widths=(1,))
    with pytest.raises(ValueError, match=r"\[K \+ 1, 2\] for 3 classes, got \(3, 2\)"):
        boundary_metrics(np.zeros((3, 2)), ("a", "b", "c"))
    with pytest.raises(ValueError, match="for 2 widths, got"):
        trimap_metrics(np.zeros((3, 2, 2)), (1, 2))
