"""Outlines in GeoJSON (RFC 7946), as QuPath exports and imports them, in pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segjax.data.outlines import LARGEST, Outline, Polygon
from segjax.errors import UserError, shown
from segjax.text_files import parse_json, read_bytes, unreadable
from segjax.types import is_integer


def read_geojson(path: Path) -> list[Outline]:
    """Reads polygons, with the names and classes that QuPath gives them.

    Args:
      path: a file with a FeatureCollection, a list of features, or one.

    Returns:
      The outlines, in their order. Without a plane they belong to the first page.

    Raises:
      UserError: the file is not GeoJSON, or has something else than polygons.
    """
    try:
        content = parse_json(read_bytes(path), path)
    except OSError as error:
        raise unreadable(path, error) from None
    features = content
    if isinstance(content, dict):
        features = content.get("features", [content])
    if not isinstance(features, list):
        raise UserError(
            f"{path} is not GeoJSON with a list of features. Export it anew."
        )
    return [
        _outline(feature, f"{path}, feature {number},")
        for number, feature in enumerate(features, 1)
    ]


def write_geojson(
    file: BinaryIO,
    outlines: Iterable[Outline],
    colors: Mapping[str, tuple[int, int, int]] | None = None,
) -> None:
    """Writes a FeatureCollection that QuPath imports as detections.

    Args:
      file: open for writing.
      outlines: of the objects.
      colors: (red, green, blue) of the classes, by name.
    """
    file.write(b'{"type": "FeatureCollection", "features": [')
    for number, outline in enumerate(outlines):
        feature = _feature(outline, colors or {})
        file.write((b",\n" if number else b"\n") + json.dumps(feature).encode())
    file.write(b"\n]}\n")


def _outline(feature: Any, where: str) -> Outline:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict):
        raise UserError(f"{where} has no geometry. Export the file anew.")
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise UserError(
            f"{where} is of the type {shown(kind)}, which encloses no area. Remove it, or "
            "draw an area."
        )
    parts = [coordinates] if kind == "Polygon" else coordinates
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    plane = geometry.get("plane")
    return Outline(
        tuple(_polygons(parts, where)),
        str(properties.get("name") or feature.get("id") or ""),
        _class_name(properties.get("classification")),
        place=_place(plane if isinstance(plane, dict) else {}, where),
    )


def _polygons(parts: Any, where: str) -> Iterator[Polygon]:
    for rings in _listed(parts, where):
        polygon = []
        for ring in _listed(rings, where):
            try:
                points = np.array(_listed(ring, where) or np.zeros((0, 2)))
            except ValueError:  # points of different lengths
                points = np.zeros(0)
            if (
                points.dtype.kind not in "iuf"
                or points.ndim != 2
                or points.shape[1] < 2
                or not (np.abs(points) < LARGEST).all()
            ):
                raise UserError(
                    f"{where} has a ring that is not a list of points [x, y] in pixels: "
                    f"{shown(ring)}. Export the file anew."
                )
            polygon.append(points[:, :2].astype(float))
        yield tuple(polygon)


def _listed(value: Any, where: str) -> list[Any]:
    if isinstance(value, list):
        return value
    raise UserError(
        f"{where} has {shown(value)} where coordinates belong. Export the file anew."
    )


def _class_name(classification: Any) -> str | None:
    """The name of a class; QuPath gives several where one derives from another."""
    if not isinstance(classification, dict):
        return None
    names = classification.get("names")
    name = classification.get("name")
    if name is None and isinstance(names, list) and names:
        name = ": ".join(map(str, names))
    return None if name is None else str(name)


def _place(plane: Mapping[str, Any], where: str) -> tuple[int, int]:
    z, t = (plane.get(axis, 0) for axis in "zt")
    if not all(is_integer(place) and 0 <= place < LARGEST for place in (z, t)):
        raise UserError(
            f"{where} belongs to slice {shown(z)} and frame {shown(t)}, which are not "
            "numbers from 0. Export the file anew."
        )
    return z, t


def _feature(
    outline: Outline, colors: Mapping[str, tuple[int, int, int]]
) -> dict[str, Any]:
    closed = [
        [np.concatenate([ring, ring[:1]]).tolist() for ring in polygon]
        for polygon in outline.polygons
    ]
    one = len(closed) == 1
    geometry: dict[str, Any] = {
        "type": "Polygon" if one else "MultiPolygon",
        "coordinates": closed[0] if one else closed,
    }
    if (place := outline.place) is None and outline.page is not None:
        place = outline.page, 0
    if place is not None:
        geometry["plane"] = {"c": -1, "z": place[0], "t": place[1]}
    properties: dict[str, Any] = {"objectType": "detection", "name": outline.name}
    if (name := outline.class_name) is not None:
        color = {"color": list(colors[name])} if name in colors else {}
        properties["classification"] = {"name": name, **color}
    return {"type": "Feature", "geometry": geometry, "properties": properties}
