"""Photographs and their labels, read where they lie, for data sets with a fixed layout.

Nothing is copied: a prepared copy of Cityscapes would take 20 GB. Every file is decoded
and checked once before training, and the result is remembered until a file changes.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segjax.data.dataset import Dataset, LazyRecords
from segjax.data.datasets.folder_check import Facts, checked, remembered
from segjax.data.datasets.pairing import Pair
from segjax.data.downscale import area_average, nearest_label, require_factor
from segjax.data.files.decoders import absent
from segjax.data.files.images import (
    conversion,
    read_label,
    read_page,
    read_palette,
    with_channels,
)
from segjax.data.files.palette import Color, require_palette
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL, Record

log = logging.getLogger("segjax")

_CHANNELS = 3


@dataclass(frozen=True)
class Layout:
    """The meaning of the files of a data set.

    Attributes:
      name: key in `DATASETS`.
      spec: the classes.
      palette: colours that palette pictures must have, by value; empty for any.
      suffix: end of an image's stem that is not part of its name.
      downscale: whole factor by which images (averaged) and labels (nearest) are made
        smaller; it must divide the sides of every image.
    """

    name: str
    spec: LabelSpec
    palette: tuple[Color, ...] = ()
    suffix: str = ""
    downscale: int = 1

    def dataset(
        self, root: Path, splits: Mapping[str, Sequence[Pair]], cache_dir: str | None
    ) -> Dataset:
        """Checks all files, and returns their splits as records in colour.

        Args:
          root: the folder of the data set.
          splits: pairs of each split; a pair without label gives a record without.
          cache_dir: where to remember which files were found good.

        Raises:
          UserError: a file is damaged, or not what the layout says.
        """
        pairs = [pair for split in splits.values() for pair in split]
        with remembered(cache_dir, root, self.spec, f"photographs {self!r}") as known:
            facts = checked(pairs, self._check, known)
        if converted := sum(f.converted for f in facts.values()):
            log.info("In %s, %s", root, conversion(converted, _CHANNELS))
        records = {
            name: LazyRecords(functools.partial(self._record, split), range(len(split)))
            for name, split in splits.items()
            if split
        }
        return Dataset(self.name, self.spec, channels=_CHANNELS, splits=records)

    def _record(self, pairs: Sequence[Pair], index: int) -> Record:
        pair = pairs[index]
        image = _in_color(pair.image)
        record = {
            "image": area_average(image, self.downscale),
            "name": pair.image.stem.removesuffix(self.suffix),
        }
        if pair.label is not None:
            ids = self._ids(read_label(pair.label), pair.label)
            record["label"] = nearest_label(ids, self.downscale)
        return record

    def _check(self, pair: Pair) -> Facts:
        image = read_page(pair.image)
        converted = image.shape[-1] != _CHANNELS
        try:
            require_factor(image.shape, self.downscale)
        except ValueError as error:
            raise UserError(f"{pair.image}: {error}.") from error
        if pair.label is None:
            return Facts(1, (), converted)
        raw = read_label(pair.label)
        if raw.shape != image.shape[:2]:
            raise UserError(
                f"{pair.label} is {raw.shape[0]} high x {raw.shape[1]} wide pixels, but "
                f"{pair.image.name} is {image.shape[0]} high x {image.shape[1]} wide. "
                "Image and label must have the same size."
            )
        palette = read_palette(pair.label) if self.palette else None
        if palette is not None:
            require_palette(pair.label, raw, palette, self.palette)
        ids = self._ids(raw, pair.label)
        seen = np.flatnonzero(np.bincount(ids.ravel(), minlength=IGNORE_LABEL + 1))
        return Facts(1, tuple(int(i) for i in seen if i != IGNORE_LABEL), converted)

    def _ids(self, raw: np.ndarray, path: Path) -> np.ndarray:
        return self.spec.to_ids(raw, str(path), remappable=False)


def require_root(
    name: str, data_root: str | None, folders: Sequence[str], source: str
) -> Path:
    """Returns the folder of a data set, once it has what it must have.

    Args:
      name: key in `DATASETS`.
      data_root: what the user has given.
      folders: folders and files that must lie in it.
      source: a sentence on where they come from.

    Raises:
      UserError: no folder is given, or something is missing in it; where the folder lies
        a little deeper, that one is named.
    """
    needed = ", ".join(folders)
    if data_root is None:
        raise UserError(
            f"The data set {name!r} needs {needed}. {source}; name their folder with "
            "--data_root."
        )
    root = Path(data_root).expanduser()
    missing = [folder for folder in folders if not (root / folder).exists()]
    if not missing:
        return root
    remedy = "Name the folder that has them with --data_root."
    deeper = [*root.glob("*"), *root.glob("*/*")] if root.is_dir() else []
    for other in sorted(path for path in deeper if path.is_dir()):
        if all((other / folder).exists() for folder in folders):
            remedy = f"Give --data_root={other}."
            break
    raise UserError(
        f"The data set {name!r} needs {needed} in {root}, where {', '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} missing. {source}. {remedy}"
    )


def require_files(name: str, root: Path, pairs: Sequence[Pair], listed: str) -> None:
    """Raises UserError where files of pairs are missing; the first one is named.

    Args:
      name: key in `DATASETS`.
      root: the folder of the data set.
      pairs: what there should be.
      listed: what says so, such as "train.txt names".
    """
    paths = [p for pair in pairs for p in (pair.image, pair.label) if p is not None]
    # A name of a list may be one that no disk takes, which `Path.is_file` raises for.
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        if os.path.islink(missing[0]):
            raise absent(missing[0])
        first = missing[0].relative_to(root)
        raise UserError(
            f"The data set {name!r} lacks {len(missing)} of the {len(paths)} files that "
            f"{listed} in {root}, the first is {first}. Put them there."
        )


def _in_color(path: Path) -> np.ndarray:
    """Reads a photograph; one in black and white gets three equal channels."""
    image = with_channels(read_page(path), _CHANNELS)
    assert image is not None  # grey becomes RGB, whatever it shows
    return image
