"""ROIs of ImageJ and Fiji: outlines from `.roi` files and zips of them, and back.

The format is that of ImageJ's `ij.io.RoiDecoder`: a header of 64 bytes that begins with
"Iout", coordinates, and a second header with position and name; numbers are big-endian.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from segjax.data.outlines import LARGEST, Outline, Polygon
from segjax.errors import UserError
from segjax.text_files import read_bytes, unreadable

_MAGIC = b"Iout"
_VERSION = 228
_HEADER = struct.Struct(">4sHBx4HH16sHiiiHHBBHii")
"""Magic, version, type; top, left, bottom, right; number of coordinates; a rectangle in
floats, or that number where it is large; stroke width, size of a composite, two colours,
subtype, options, two bytes of arrows, diameter of corners, position, place of the second."""
_SECOND = struct.Struct(">4x3i2i")
"""Channel, slice, frame; place and length of the name."""
_SECOND_SIZE = 64

_POLYGON, _RECTANGLE, _OVAL, _FREEHAND, _TRACED = 0, 1, 2, 7, 8
_WITHOUT_AREA = {
    3: "a line", 4: "a freehand line", 5: "a segmented line", 6: "no selection",
    9: "an angle", 10: "points",
}  # fmt: skip
_SUB_PIXEL = 128
_MOVE, _LINE, _CLOSE = 0, 1, 4
_CONTROLS = {_MOVE: 1, _LINE: 1, 2: 2, 3: 3, _CLOSE: 0}
"""Points that belong to each segment of a composite: line, two kinds of Bezier curves."""
_CURVE = np.linspace(0, 1, 17)[1:, None]
_OVAL_POINTS = 256

_MEMBER_BYTES = 1 << 26
_MEMBERS = 1 << 20
_LARGEST_SHORT = (1 << 15) - 1
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError,
)  # fmt: skip
"""What `zipfile` raises for files that are damaged."""


def read_rois(path: Path) -> list[Outline]:
    """Reads a `.roi` file, or all ROIs of a zip of ImageJ's ROI manager.

    Polygons, freehand and traced areas, rectangles, ovals and composites are read, in
    fractions of pixels where they have them. A polygon that a spline was fitted to is taken
    by its points.

    Args:
      path: the file.

    Returns:
      The outlines, with the pages that they belong to.

    Raises:
      UserError: the file is damaged or not of this kind, or a ROI has no area.
    """
    try:
        raw = read_bytes(path)
    except OSError as error:
        raise unreadable(path, error) from None
    if raw.startswith(_MAGIC):
        return [decode_roi(raw, str(path), path.stem)]
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            return list(_members(file, path))
    except _DAMAGE as error:
        raise UserError(
            f"{path} is neither a ROI of ImageJ nor a whole zip of them ({error}). Save it "
            "anew from the ROI manager."
        ) from None


def write_rois(file: BinaryIO, outlines: Iterable[Outline]) -> None:
    """Writes a zip that ImageJ's ROI manager opens.

    Args:
      file: open for writing.
      outlines: with names that are unique on each page.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for outline in outlines:
            page = "" if outline.page is None else f"{outline.page + 1:04d}-"
            name = re.sub(r"[/\\]", "_", outline.name)  # of a folder in the zip
            # The date of a member would make two equal runs differ.
            member = zipfile.ZipInfo(f"{page}{name}.roi")
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, encode_roi(outline))


def decode_roi(raw: bytes, where: str, name: str = "") -> Outline:
    """Decodes one ROI.

    Args:
      raw: the content of a `.roi` file.
      where: what to call it in an error.
      name: of the ROI, where it holds none.

    Returns:
      The outline.

    Raises:
      UserError: it is damaged, or has no area.
    """
    try:
        page, place, name = _second_header(raw, name)
        with np.errstate(invalid="ignore"):  # NaN is refused below
            polygon = _polygon(raw, f"{where} ({name})" if name else where)
    except (struct.error, ValueError) as error:
        raise UserError(
            f"{where} is not a whole ROI of ImageJ ({error}). Save it anew."
        ) from None
    points = np.concatenate([*polygon, np.zeros((1, 2))])
    if not (np.abs(points) < LARGEST).all():
        raise UserError(
            f"{where} has points that lie outside of any image. Save it anew."
        )
    return Outline((polygon,), name, page=page, place=place)


def encode_roi(outline: Outline) -> bytes:
    """Encodes an outline as a `.roi` file: traced where it has one ring, else composite.

    Example:
      >>> ring = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 2.0]])
      >>> raw = encode_roi(Outline(((ring,),), "cell", page=4))
      >>> found = decode_roi(raw, "a.roi")
      >>> found.name, found.page, found.polygons[0][0].tolist()
      ('cell', 4, [[1.0, 1.0], [3.0, 1.0], [3.0, 2.0]])
    """
    rings = [ring for polygon in outline.polygons for ring in polygon]
    points = np.concatenate(rings)
    low = np.floor(points.min(0)).astype(int)
    high = np.ceil(points.max(0)).astype(int)
    kind, count, long_count, shape, options = _TRACED, len(points), 0, 0, 0
    if len(rings) > 1:
        values = np.concatenate([_segments(ring) for ring in rings])
        kind, count, shape, body = _RECTANGLE, 0, len(values), values.astype(">f4")
        content = body.tobytes()
    else:
        content = np.clip(points - low, 0, _LARGEST_SHORT).T.astype(">i2").tobytes()
        if (points != np.rint(points)).any() or high.max() > _LARGEST_SHORT:
            options = _SUB_PIXEL
            content += points.T.astype(">f4").tobytes()
        if count > 0xFFFF:
            count, long_count = 0, count
    bounds = np.clip([low[1], low[0], high[1], high[0]], -5000, 60535) & 0xFFFF
    page = None if outline.place else outline.page
    position = 0 if page is None else page + 1
    z, t = outline.place or (-1, -1)
    text = outline.name.encode("utf-16-be")
    second = _HEADER.size + len(content)
    header = _HEADER.pack(
        _MAGIC, _VERSION, kind, *bounds.tolist(), count, struct.pack(">i12x", long_count),
        0, shape, 0, 0, 0, options, 0, 0, 0, position, second,
    )  # fmt: skip
    names = _SECOND.pack(0, z + 1, t + 1, second + _SECOND_SIZE, len(text) // 2)
    return header + content + names.ljust(_SECOND_SIZE, b"\0") + text


def _members(file: zipfile.ZipFile, path: Path) -> Iterator[Outline]:
    """Decodes the members of a zip; nothing is unpacked to the disk."""
    members = [x for x in file.infolist() if x.filename.lower().endswith(".roi")]
    if not members:
        raise UserError(
            f"{path} holds no .roi file. Save it from ImageJ's ROI manager."
        )
    if len(members) > _MEMBERS:
        raise UserError(
            f"{path} holds {len(members)} ROIs; at most {_MEMBERS} are read."
        )
    left = _MEMBER_BYTES * 4
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        where = f"{path}, {member.filename},"
        if name.is_absolute() or ".." in name.parts:
            raise UserError(
                f"{where} has the path of another folder. Save the zip anew."
            )
        if member.flag_bits & 1:
            raise UserError(f"{where} is encrypted. Save the zip without a password.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{where} is compressed in a rare way. Save the zip anew.")
        left -= member.file_size
        if member.file_size > _MEMBER_BYTES or left < 0:
            raise UserError(f"{where} is too large for a ROI. Save the zip anew.")
        with file.open(member) as opened:
            raw = opened.read(_MEMBER_BYTES + 1)
        yield decode_roi(raw, where, name.stem)


def _second_header(
    raw: bytes, name: str
) -> tuple[int | None, tuple[int, int] | None, str]:
    """The page of a ROI, or its slice and frame, and its name."""
    if not raw.startswith(_MAGIC):
        raise ValueError('it does not begin with "Iout"')
    *_, position, second = _HEADER.unpack_from(raw)
    page = position - 1 if position > 0 else None
    if second <= 0:
        return page, None, name
    _, z, t, start, length = _SECOND.unpack_from(raw, second)
    place = None
    if page is None and max(z, t) > 0:
        place = max(z - 1, 0), max(t - 1, 0)
    if start > 0 and length > 0:
        if start + 2 * length > len(raw):
            raise ValueError("its name is cut short")
        name = raw[start : start + 2 * length].decode("utf-16-be", "replace")
    return page, place, name


def _polygon(raw: bytes, where: str) -> Polygon:
    """The rings of a ROI, which is named in what is refused."""
    (
        _, version, kind, top, left, bottom, right, count, box,
        _, shape, _, _, _, options, _, _, corner, _, _,
    ) = _HEADER.unpack_from(raw)  # fmt: skip
    body = raw[_HEADER.size :]
    sub_pixel = bool(options & _SUB_PIXEL) and version >= 222
    if kind in _WITHOUT_AREA:
        raise UserError(
            f"{where} is {_WITHOUT_AREA[kind]}, which encloses no area. Remove it, or draw "
            "an area."
        )
    if kind == _RECTANGLE and shape > 0:
        return tuple(_composite(np.frombuffer(body, ">f4", shape).astype(float)))
    x, y = _coordinate(left), _coordinate(top)
    if kind in (_RECTANGLE, _OVAL):
        width, height = float(_coordinate(right) - x), float(_coordinate(bottom) - y)
        if sub_pixel and version >= 223:
            x, y, width, height = struct.unpack(">4f", box)
        if kind == _OVAL:
            return (_rounded(x, y, width, height, width, height, _OVAL_POINTS),)
        points = _OVAL_POINTS if corner else 4
        return (_rounded(x, y, width, height, corner, corner, points),)
    if kind not in (_POLYGON, _FREEHAND, _TRACED):
        raise ValueError(f"its type is {kind}")
    count = count or struct.unpack_from(">i", box)[0]
    if sub_pixel:
        numbers = np.frombuffer(body, ">f4", 2 * count, 4 * count)
        return (numbers.reshape(2, count).T.astype(float),)
    offsets = np.frombuffer(body, ">i2", 2 * count).reshape(2, count).T
    return (np.maximum(offsets, 0) + np.array([x, y], float),)


def _coordinate(stored: int) -> int:
    """Coordinates from -5000 to 60535 are kept in 16 bits."""
    return stored - (1 << 16) if stored >= (1 << 16) - 5000 else stored


def _rounded(
    x: float,
    y: float,
    width: float,
    height: float,
    corner_width: float,
    corner_height: float,
    points: int,
) -> np.ndarray:
    """A rectangle whose corners are quarters of an ellipse of the given diameters."""
    angle = (np.arange(points) + 0.5) * (2 * math.pi / points)
    unit = np.stack([np.cos(angle), np.sin(angle)], 1)
    half, corner = (
        np.array([width, height]) / 2,
        np.array([corner_width, corner_height]) / 2,
    )
    corner = np.minimum(corner, half)
    return np.array([x, y]) + half + unit * corner + np.sign(unit) * (half - corner)


def _composite(values: np.ndarray) -> Iterator[np.ndarray]:
    """The rings of a path of segments: the kind of each, then its points."""
    ring: list[np.ndarray] = []
    place = 0
    while place < len(values):
        kind = int(values[place]) if np.isfinite(values[place]) else -1
        if kind not in _CONTROLS or (kind not in (_MOVE, _CLOSE) and not ring):
            raise ValueError(f"its path has a segment of the type {values[place]:g}")
        end = place + 1 + 2 * _CONTROLS[kind]
        points = values[place + 1 : end]
        if len(points) < 2 * _CONTROLS[kind]:
            raise ValueError("its path is cut short")
        controls = points.reshape(-1, 2)
        if kind in (_MOVE, _CLOSE):
            if ring:
                yield np.concatenate(ring)
            ring = [controls] if kind == _MOVE else []
        elif kind == _LINE:
            ring.append(controls)
        else:
            ring.append(_bezier(np.concatenate([ring[-1][-1:], controls])))
        place = end
    if ring:
        yield np.concatenate(ring)


def _bezier(controls: np.ndarray) -> np.ndarray:
    """Points of a Bezier curve after the first, by the algorithm of de Casteljau."""
    points = [np.broadcast_to(point, (len(_CURVE), 2)) for point in controls]
    while len(points) > 1:
        points = [(1 - _CURVE) * a + _CURVE * b for a, b in itertools.pairwise(points)]
    return points[0]


def _segments(ring: np.ndarray) -> np.ndarray:
    """A closed ring as the segments of a composite."""
    kinds = np.full((len(ring), 1), _LINE)
    kinds[0] = _MOVE
    return np.append(np.concatenate([kinds, ring], 1).ravel(), _CLOSE)
