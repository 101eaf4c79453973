"""Outlines as COCO renders them: against the rendering of every point, and within their image."""

import tracemalloc

import numpy as np
import pytest

from segjax.data.datasets.coco import polygons
from segjax.data.datasets.coco.polygons import polygon_to_rle, polygons_to_rle
from segjax.rle import decode, from_positions


def rendered_point_by_point(points, size):
    """The plain definition (`rleFrPoly`): every point of the outline, one after the other."""
    height, width = size
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    corners = (5 * corners + 0.5).astype(np.int64)
    along, down = [], []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        steps = np.abs(end - start).max()
        long_axis = int(np.abs(end - start)[0] < steps)
        flip = start[long_axis] > end[long_axis]
        first, last = (end, start) if flip else (start, end)
        slope = (last - first)[1 - long_axis] / max(steps, 1)
        at = np.arange(steps + 1)[:: -1 if flip else 1]
        line = [first[long_axis] + at, (first[1 - long_axis] + slope * at + 0.5)]
        along.append(line[long_axis].astype(np.int64))
        down.append(line[1 - long_axis].astype(np.int64))
    x, y = np.concatenate(along), np.concatenate(down)
    turned = x[1:] != x[:-1]
    left = np.minimum(x[1:], x[:-1])[turned]
    top = np.minimum(y[1:], y[:-1])[turned]
    column = (left + 0.5) / 5 - 0.5
    inside = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip((top + 0.5) / 5 - 0.5, 0, height))
    return from_positions((column * height + row)[inside].astype(np.int64), size)


KINDS = {
    "anywhere": lambda rng, n: rng.uniform(-10, 70, (n, 2)),
    "whole": lambda rng, n: rng.integers(-5, 65, (n, 2)),
    "tenths": lambda rng, n: np.round(rng.uniform(-30, 90, (n, 2)), 1),
    "rims": lambda rng, n: rng.choice([0, 0.1, 3.5, 20, 20.5, 41, 60], (n, 2)),
    "far": lambda rng, n: rng.uniform(-900, 900, (n, 2)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [1, 1 << 20], ids=["in_parts", "at_once"])
def test_the_mask_is_that_of_all_points_of_the_outline(kind, part, monkeypatch):
    monkeypatch.setattr(polygons, "_PART", part)
    rng = np.random.default_rng(7)
    for _ in range(150):
        size = tuple(rng.integers(1, 60, 2).tolist())
        points = KINDS[kind](rng, int(rng.integers(3, 20))).ravel()
        expected = rendered_point_by_point(points, size).counts.tolist()
        assert polygon_to_rle(points, size).counts.tolist() == expected


def test_a_polygon_that_leaves_the_image_is_cut_and_direction_does_not_matter():
    corners = [[-2.0, 1.0], [4.0, 1.0], [4.0, 9.0], [-2.0, 9.0]]
    turned = [np.ravel(c).tolist() for c in (corners, corners[::-1])]
    for points in turned:
        mask = decode(polygon_to_rle(points, (6, 7)))
        assert mask[1:, :4].all()
        assert mask.sum() == 20
    both = polygons_to_rle([turned[0], [5, 0, 7, 0, 7, 1, 5, 1]], (6, 7))
    assert both.area == 22


def measured(points, size):
    """The mask of an outline, and the bytes that were needed for it at most."""
    tracemalloc.start()
    try:
        rle = polygon_to_rle(points, size)
        return decode(rle), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_lies_far_outside_takes_no_memory():
    wide = [-9e8, 1, 9e8, 1, 9e8, 3, -9e8, 3]
    mask, peak = measured(wide, (6, 7))
    assert mask[1:3].all()
    assert mask.sum() == 14
    assert peak < 1 << 20  # every point of the outline would take 140 GB


def test_lines_to_and_fro_take_no_more_memory_than_their_image(monkeypatch):
    monkeypatch.setattr(polygons, "_PART", 1 << 14)
    to_and_fro = np.tile([0, 0, 1000, 3], 2001)  # crosses 4 million columns
    mask, peak = measured(to_and_fro, (4, 1000))
    np.testing.assert_array_equal(mask, 0)
    assert peak < 8 << 20


def test_the_work_grows_as_the_outline_whatever_the_width(monkeypatch):
    turn = np.linspace(0, 2 * np.pi, 50_000, endpoint=False)
    circle = 10_000 * np.stack([1 + np.cos(turn), 1 + np.sin(turn)], axis=1)
    sorted_before = []

    def counted(positions, size):
        sorted_before.append(len(positions))
        return from_positions(positions, size)

    monkeypatch.setattr(polygons, "from_positions", counted)
    for part in (1 << 20, 1 << 8):
        sorted_before.clear()
        monkeypatch.setattr(polygons, "_PART", part)
        polygon_to_rle(circle.ravel(), (20_000, 20_000))
        # Each of 20,000 columns is crossed twice.
        assert 40_000 <= sum(sorted_before) < 5 * 40_000


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1e18, 1e300, 10**400])
def test_what_is_not_a_place_never_becomes_an_integer(wrong):
    with pytest.raises(ValueError, match="points must be finite and below 1e"):
        polygon_to_rle([wrong, 1, 5, 1, 5, 5], (10, 20))
