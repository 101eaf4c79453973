"""Images, categories and keypoints as COCO's files list them, checked entry by entry."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segjax.data.datasets.coco.fields import identity, integer
from segjax.data.files.plane import MAX_PIXELS
from segjax.data.instance_spec import KeypointSpec
from segjax.errors import UserError, shown

log = logging.getLogger("segjax")

_MOST_ID = (1 << 63) - 1
"""Ids that are integers are kept as int64."""


@dataclass(frozen=True)
class ListedImage:
    """An image as it is listed.

    Attributes:
      number: its id, text where that is not a number.
      file_name: within the folder of images.
      size: `(height, width)`.
    """

    number: int | str
    file_name: str
    size: tuple[int, int]


class Faults:
    """Wrong entries of a list: the first one is refused, or all are left out and counted.

    Attributes:
      count: of those that were left out.
      first: what was wrong with the first of them.
    """

    def __init__(self, path: Path, key: str, *, drop: bool):
        """Begins with none.

        Args:
          path: the file.
          key: the list that is checked, such as "annotations".
          drop: whether wrong entries are left out.
        """
        self.path, self.key, self.drop = path, key, drop
        self.count, self.first = 0, ""

    def add(self, place: int, entry: Any, error: UserError) -> None:
        """Counts a wrong entry.

        Raises:
          UserError: where it is not to be left out.
        """
        number = entry.get("id") if isinstance(entry, dict) else None
        named = number is not None and identity(number) is not None
        which = shown(number) if named else f"at place {place + 1} of the list"
        reason = f"{self.path}, {_ONE[self.key]} {which}: {error}"
        if not self.drop:
            raise UserError(
                f"{reason} Correct it, or leave such {self.key} out by "
                "config.data.skip_invalid=True."
            ) from None
        self.count += 1
        self.first = self.first or reason

    def report(self, total: int, left: int) -> None:
        """Logs how many were left out.

        Raises:
          UserError: where that leaves none.
        """
        if not self.count:
            return
        message = f"{self.count} of {total} {self.key} are wrong and left out"
        if not left:
            raise UserError(
                f"{message}, so none is left. The first: {self.first} Correct them."
            )
        log.warning("%s. The first: %s", message, self.first)


_ONE = {"images": "image", "annotations": "annotation", "categories": "category"}


def read_images(entries: Sequence[Any], faults: Faults) -> dict[int | str, ListedImage]:
    """Checks the list of images.

    Returns:
      Those that are right, by id and in their order.

    Raises:
      UserError: if one is wrong, two have one id, or there is none.
    """
    listed: dict[int | str, ListedImage] = {}
    for place, entry in enumerate(entries):
        try:
            image = _image(entry)
        except UserError as error:
            faults.add(place, entry, error)
            continue
        if image.number in listed:
            raise UserError(
                f"{faults.path} lists two images of the id {shown(image.number)}. Give "
                "each an id of its own."
            )
        listed[image.number] = image
    faults.report(len(entries), len(listed))
    if not listed:
        raise UserError(
            f"{faults.path} lists no image. Replace it with a complete file."
        )
    return listed


def read_categories(entries: Sequence[Any], faults: Faults) -> dict[int, str]:
    """Checks the list of categories.

    Returns:
      Names by id, ids growing.

    Raises:
      UserError: if one is wrong, two have one id or one name, or there is none.
    """
    found: dict[int, str] = {}
    ids: dict[str, int] = {}
    for place, entry in enumerate(entries):
        try:
            number, name = _category(entry)
        except UserError as error:
            faults.add(place, entry, error)
            continue
        if number in found:
            raise UserError(
                f"{faults.path}: two categories have the id {number}, {found[number]!r} "
                f"and {name!r}; categories need different ids."
            )
        if name in ids:
            raise UserError(
                f"{faults.path}: the categories {ids[name]} and {number} are both named "
                f"{name!r}. Rename one, or give their annotations the same category_id."
            )
        found[number], ids[name] = name, number
    faults.report(len(entries), len(found))
    if not found:
        raise UserError(
            f"{faults.path} lists no category. Replace it with a complete file."
        )
    return dict(sorted(found.items()))


def read_keypoints(entries: Sequence[Any], path: Path) -> KeypointSpec:
    """The keypoints of the categories, which must all have the same.

    Raises:
      UserError: if they have none or different ones, or they are not as COCO's.
    """
    specs = {
        _keypoints(entry, path)
        for entry in entries
        if isinstance(entry, dict) and entry.get("keypoints")
    }
    if len(specs) != 1:
        what = "have none" if not specs else "have different ones"
        raise UserError(
            f"{path}: keypoints are wanted, but its categories {what}. Give a file whose "
            "categories have the same keypoints, or config.data.keypoints=False."
        )
    return specs.pop()


def _image(entry: Any) -> ListedImage:
    if not isinstance(entry, dict):
        raise UserError(f"it is {shown(entry)}, where an object belongs.")
    if not {"id", "file_name", "height", "width"} <= entry.keys():
        raise UserError(
            f"it is listed as {shown(sorted(entry))}; it needs id, file_name, height and "
            "width."
        )
    number, name = identity(entry["id"]), entry["file_name"]
    fits = not isinstance(number, int) or -_MOST_ID <= number <= _MOST_ID
    if number is None or not fits:
        raise UserError(
            f"its id is {shown(entry['id'])}, where an integer of at most 64 bits or text "
            "belongs."
        )
    if type(name) is not str or not name:
        raise UserError(
            f"its file_name is {shown(name)}, where the name of a file belongs."
        )
    height, width = (integer(entry[key]) for key in ("height", "width"))
    if height is None or width is None or min(height, width) < 1:
        raise UserError(
            f"its height is {shown(entry['height'])} and its width "
            f"{shown(entry['width'])}, where integers of at least 1 belong (without "
            "quotation marks)."
        )
    if height * width > MAX_PIXELS:
        raise UserError(
            f"it claims {shown(height)} x {shown(width)} pixels, more than the "
            f"{MAX_PIXELS} that an image may have."
        )
    return ListedImage(number, name, (height, width))


def _category(entry: Any) -> tuple[int, str]:
    if not isinstance(entry, dict):
        raise UserError(f"it is {shown(entry)}, where an object belongs.")
    number, name = identity(entry.get("id")), entry.get("name")
    if not isinstance(number, int) or not 0 <= number <= _MOST_ID:
        raise UserError(
            f"its id is {shown(entry.get('id'))}, where an integer of at least 0 and at "
            "most 63 bits belongs."
        )
    if type(name) not in (str, int) or name == "":
        raise UserError(f"its name is {shown(name)}, where text belongs.")
    return number, str(name)


def _keypoints(entry: dict[str, Any], path: Path) -> KeypointSpec:
    names, listed = entry["keypoints"], entry.get("skeleton") or []
    named = type(names) is list and all(type(name) is str for name in names)
    bones = [_bone(pair) for pair in (listed if type(listed) is list else [None])]
    joined = [bone for bone in bones if bone is not None]
    if not named or len(joined) != len(bones):
        raise UserError(
            f"{path}: a category has the keypoints {shown(names)} and the skeleton "
            f"{shown(listed)}, where a list of names and pairs of their numbers, counted "
            "from 1, belong."
        )
    try:
        return KeypointSpec(tuple(names), tuple(joined))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _bone(pair: Any) -> tuple[int, int] | None:
    """Positions from 0 of the two points that a bone joins, None where it is not a pair."""
    if type(pair) is not list or len(pair) != 2:
        return None
    a, b = map(integer, pair)
    return None if a is None or b is None else (a - 1, b - 1)
