"""Labels that hold sums of classes."""

import json

import numpy as np
import pytest
from PIL import Image

from segjax.data.datasets.folder import folder
from segjax.data.overlapping_classes import OverlappingClasses, pack
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

CLASSES = (("cell", (250, 0, 0)), ("nucleus", (0, 0, 100)))
SPEC = OverlappingClasses(*zip(*CLASSES, strict=True))


def test_every_sum_has_a_name_and_a_colour():
    assert SPEC.value_names == ("nothing", "cell", "nucleus", "cell + nucleus")
    assert SPEC.value_colors == ((0, 0, 0), (250, 0, 0), (0, 0, 100), (125, 0, 50))


def test_packed_masks_are_the_sums():
    masks = np.random.default_rng(0).random((5, 6, 7)) < 0.5
    assert (pack(masks) == (masks * 2 ** np.arange(7)).sum(-1)).all()
    assert pack(np.ones((1, 1, 7), bool)).item() < IGNORE_LABEL
    with pytest.raises(ValueError, match="at most 7"):
        pack(np.ones((1, 1, 8), bool))


def test_pixels_are_counted_for_each_of_their_classes():
    counts = np.zeros(256, int)
    counts[[0, 1, 2, 3, IGNORE_LABEL]] = 10, 1, 2, 4, 100
    assert SPEC.class_pixels(counts).tolist() == [5, 6]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.array([[4]]), r"a.png has the value 4; .* 1 \(cell\), 2 \(nucleus\)"),
        (np.array([[-1]]), "the value -1"),
        (np.array([[0.5]]), "float64 values"),
    ],
)
def test_values_that_are_no_sums_are_named(label, message):
    with pytest.raises(UserError, match=message):
        SPEC.to_ids(label, "a.png")


def test_remap_is_refused():
    with pytest.raises(UserError, match="remap"):
        OverlappingClasses(SPEC.names, SPEC.colors, remap=((5, 1),))


@pytest.fixture
def cells(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    label = np.zeros((8, 8), np.uint8)
    label[2:6, 2:6], label[4:, 4:], label[0, 0] = 1, 2, IGNORE_LABEL
    label[4:6, 4:6] = 3
    for i in range(3):
        Image.fromarray(label * 20).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(label).save(tmp_path / "labels" / f"{i}.png")
    return tmp_path, label


def test_a_folder_of_sums_is_read(cells, tmp_path_factory):
    root, label = cells
    cache = str(tmp_path_factory.mktemp("cache"))
    found = folder(
        cache_dir=cache, data_root=str(root), classes=CLASSES, labels="overlapping"
    )
    assert found.label_spec == SPEC
    assert (found.splits["train"][0]["label"] == label).all()


def test_outlines_that_overlap_are_added(tmp_path, tmp_path_factory):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    square = lambda a, b: [[[a, a], [b, a], [b, b], [a, b], [a, a]]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": square(*corners)},
            "properties": {"classification": {"name": name}},
        }
        for name, corners in (("cell", (0, 6)), ("nucleus", (4, 8)))
    ]
    for i in range(2):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(
            tmp_path / "images" / f"{i}.png"
        )
        text = json.dumps({"type": "FeatureCollection", "features": features})
        (tmp_path / "labels" / f"{i}.geojson").write_text(text)
    cache = str(tmp_path_factory.mktemp("cache"))
    found = folder(
        cache_dir=cache, data_root=str(tmp_path), classes=CLASSES, labels="overlapping"
    )
    label = found.splits["train"][0]["label"]
    assert [label[1, 1], label[5, 5], label[7, 7], label[7, 0]] == [1, 3, 2, 0]
