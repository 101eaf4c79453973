"""Outlines in GeoJSON, as QuPath has them."""

import json

import numpy as np
import pytest

from segjax.data.files.geojson import read_geojson, write_geojson
from segjax.data.outlines import fill, outlines_of
from segjax.errors import UserError

SQUARE = [[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]


def feature(kind="Polygon", coordinates=(SQUARE,), plane=None, **properties):
    geometry = {"type": kind, "coordinates": coordinates}
    geometry |= {"plane": plane} if plane else {}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def written(tmp_path, content):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(content))
    return path


def test_a_collection_of_qupath_is_read(tmp_path):
    plane = {"c": -1, "z": 2, "t": 0}
    tumor = {"name": "Tumor", "color": [200, 0, 0]}
    derived = {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}
    parts = [[SQUARE], [[[5, 5], [7, 5], [7, 6], [5, 6]]]]
    features = [
        feature(classification=tumor, objectType="annotation"),
        feature("MultiPolygon", parts, plane, name="cell 7", classification=derived),
    ]
    collection = {"type": "FeatureCollection", "features": features}
    for content in (collection, features):
        first, second = read_geojson(written(tmp_path, content))
        assert (first.class_name, first.place) == ("Tumor", (0, 0))
        assert (second.name, second.place) == ("cell 7", (2, 0))
        assert second.class_name == "Tumor: Positive"
        assert fill(second, (9, 9), "")[1].sum() == 6
    (alone,) = read_geojson(written(tmp_path, features[0]))
    np.testing.assert_array_equal(alone.polygons[0][0], SQUARE)


def test_objects_come_back_with_their_classes(tmp_path):
    numbers = np.array([[4, 4, 4, 0], [4, 0, 4, 9], [4, 4, 4, 0], [0, 0, 0, 4]])
    outlines = list(outlines_of(numbers, page=1, class_names={4: "\u00e4", 9: "b"}))
    with (tmp_path / "a.geojson").open("wb") as file:
        write_geojson(file, outlines, {"b": (1, 2, 3)})
    content = json.loads((tmp_path / "a.geojson").read_text())
    four, nine = content["features"]
    assert [four["geometry"]["type"], nine["geometry"]["type"]] == [
        "MultiPolygon", "Polygon",
    ]  # fmt: skip
    assert nine["properties"]["classification"] == {"name": "b", "color": [1, 2, 3]}
    assert (
        nine["geometry"]["coordinates"][0][0] == nine["geometry"]["coordinates"][0][-1]
    )
    label = np.zeros_like(numbers)
    for outline in read_geojson(tmp_path / "a.geojson"):
        place, mask = fill(outline, label.shape, "a.geojson")
        label[place][mask] = int(outline.name)
        assert outline.place == (1, 0)
        assert outline.class_name in ("\u00e4", "b")
    np.testing.assert_array_equal(label, numbers)


BAD = {
    "no list": ({"features": 3}, "is not GeoJSON"),
    "no geometry": (
        [{"type": "Feature", "geometry": None}],
        "feature 1, has no geometry",
    ),
    "a line": (
        [feature("LineString", [[1, 2], [3, 4]])],
        "'LineString', which encloses",
    ),
    "text": ([feature(coordinates=[[["1", "2"]]])], "not a list of points"),
    "ragged": ([feature(coordinates=[[[1, 2], [3]]])], "not a list of points"),
    "huge": ([feature(coordinates=[[[1, 10**30]]])], "not a list of points"),
    "one number": ([feature(coordinates=[3])], "3 where coordinates belong"),
    "null": ([feature(coordinates=None)], "None where coordinates belong"),
    "a plane of text": ([feature(plane={"z": "1", "t": 2})], "slice '1' and frame 2"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD.values(), ids=BAD)
def test_what_is_wrong_with_a_file_is_reported(tmp_path, content, sentence):
    with pytest.raises(UserError, match=rf"a\.geojson.*{sentence}"):
        read_geojson(written(tmp_path, content))
