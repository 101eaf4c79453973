"""Objects across the seams of tiles: cut apart and found whole again."""

import itertools

import numpy as np
import pytest

from segjax.rle import decode
from segjax.tasks.instance.stitch import join_tiles, tile_rects


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "count"),
    [
        ((30, 40), (16, 16), 4, 9),
        ((10, 12), (16, 16), 4, 1),
        ((16, 17), (16, 16), 8, 2),
    ],
)
def test_tiles_cover_the_image_and_overlap(size, tile, overlap, count):
    rects = tile_rects(size, tile, overlap)
    assert len(rects) == count
    covered = np.zeros(size, int)
    for top, left, bottom, right in rects:
        assert bottom - top == min(tile[0], size[0])
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    lefts = sorted({rect[1] for rect in rects})
    assert all(b - a <= tile[1] - overlap for a, b in itertools.pairwise(lefts))


def test_an_overlap_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="overlap must be from 0 to 15, got 16"):
        tile_rects((40, 40), (16, 16), 16)


def scene():
    """Objects `[N, H, W]`: within a tile, across a seam, across a crossing, touching."""
    masks = np.zeros((5, 60, 60), bool)
    masks[0, 3:9, 4:12] = True
    masks[1, 10:16, 18:44] = True
    masks[2, 26:38, 24:36] = True
    masks[3, 44:50, 20:32] = True
    masks[4, 44:50, 32:46] = True
    return masks, np.array([1, 1, 2, 1, 2])


def seen(masks, classes, rect, scores):
    """What a perfect detector finds in a tile, as it lies in it."""
    top, left, bottom, right = rect
    parts = masks[:, top:bottom, left:right]
    there = np.flatnonzero(parts.any((1, 2)))
    boxes = []
    for mask in parts[there]:
        rows, columns = np.nonzero(mask)
        boxes.append([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
    return {
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "scores": scores[there],
        "classes": classes[there],
        "masks": parts[there],
        "keypoints": np.array([[[b[0], b[1], 1.0]] for b in boxes]).reshape(-1, 1, 3),
    }


def test_tiled_equals_whole():
    masks, classes = scene()
    scores = np.linspace(0.9, 0.5, len(masks))
    rects = tile_rects((60, 60), (36, 36), 12)
    assert len(rects) == 4
    found = [seen(masks, classes, rect, scores) for rect in rects]
    assert sum(len(objects["scores"]) for objects in found) > len(masks)
    joined = join_tiles(rects, found, (60, 60))
    np.testing.assert_array_equal([decode(r) for r in joined["masks"]], masks)
    np.testing.assert_array_equal(joined["classes"], classes)
    np.testing.assert_allclose(joined["scores"], scores)
    whole = seen(masks, classes, (0, 0, 60, 60), scores)
    np.testing.assert_array_equal(joined["boxes"], whole["boxes"])
    assert joined["keypoints"].shape == (5, 1, 3)


def test_objects_of_other_classes_and_other_places_stay_apart():
    rects = [(0, 0, 20, 24), (0, 16, 20, 40)]
    mask = np.zeros((1, 20, 24), bool)
    mask[0, 5:9, 18:24] = True
    beside = np.zeros((1, 20, 24), bool)
    beside[0, 5:9, 2:8] = True
    one = {"boxes": [[5, 18, 9, 24]], "scores": [0.9], "classes": [1], "masks": mask}
    other = {"boxes": [[5, 2, 9, 8]], "scores": [0.8], "masks": beside}
    for class_id, count in ((1, 1), (2, 2)):
        found = [one, other | {"classes": [class_id]}]
        assert len(join_tiles(rects, found, (20, 40))["scores"]) == count
    below = np.roll(beside, 6, axis=1)
    apart = {"boxes": [[11, 2, 15, 8]], "scores": [0.8], "classes": [1], "masks": below}
    assert len(join_tiles(rects, [one, apart], (20, 40))["scores"]) == 2


def test_boxes_alone_are_joined_by_what_they_cover():
    rects = [(0, 0, 20, 24), (0, 16, 20, 40)]
    one = {"boxes": [[5.2, 10.0, 9.0, 24.0]], "scores": [0.6], "classes": [1]}
    other = {"boxes": [[5.0, 0.0, 9.1, 12.0]], "scores": [0.8], "classes": [1]}
    joined = join_tiles(rects, [one, other], (20, 40))
    np.testing.assert_allclose(joined["boxes"], [[5.0, 10.0, 9.1, 28.0]], rtol=1e-6)
    assert joined["scores"].tolist() == [pytest.approx(0.8)]
    assert "masks" not in joined


def test_tiles_without_objects_give_none():
    empty = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "classes": np.zeros(0)}
    empty["masks"] = np.zeros((0, 8, 8), bool)
    joined = join_tiles([(0, 0, 8, 8), (0, 4, 8, 12)], [empty, empty], (8, 12))
    assert joined["boxes"].shape == (0, 4)
    assert joined["masks"] == ()
