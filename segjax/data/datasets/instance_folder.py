"""A folder of images and of label images that number the objects, such as nuclei.

    nuclei/
    ├── images/ID.png        grey or RGB; of a stack each page is an image
    ├── labels/ID.png        16 bits: 0 background, 1, 2, ... the objects
    └── index.csv            columns `id` and `split` (train, validation, test)

Nuclei of the 2018 Data Science Bowl come so (Caicedo et al. 2019, Nature Methods 16,
1247-1253, BBBC038v1). Files are read where they lie.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from segjax.data.dataset import Dataset, hash_of_image
from segjax.data.datasets.folder_check import require_chunks, with_wanted_channels
from segjax.data.datasets.groups import group_cut, groups_of, require_apart
from segjax.data.datasets.label_files import (
    count_pages_of,
    opened_label,
    read_raw,
)
from segjax.data.datasets.pairing import (
    SPLITS,
    Page,
    Pair,
    block_cut,
    find_pairs,
    only_pages,
    require_fractions,
    require_train,
)
from segjax.data.datasets.split_index import has_splits, index_of, listed_splits
from segjax.data.files.channels import (
    Channels,
    conversion,
    count_of,
    require_channels,
)
from segjax.data.files.images import read_layout, read_page, read_pages
from segjax.data.instance.records import Facts, FactualRecords, from_masks
from segjax.data.instance_labels import NUMBER_THEM, InstanceLabels, require_numbers
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.rle import encode_label
from segjax.types import Record

log = logging.getLogger("segjax")

CHANNELS = 3
_THREADS = 4
_COLORS = ((40, 44, 52), (90, 190, 110))
_NUMBERS = InstanceLabels(LabelSpec(("background", "object"), _COLORS))
_WHITE = 255


def instance_folder(
    *,
    cache_dir: str | None = None,
    data_root: str | None = None,
    class_name: str = "object",
    validation_fraction: float = 0.2,
    test_fraction: float = 0.0,
    group: str | None = None,
    channels: int | Sequence[int | str] = CHANNELS,
    pages: Sequence[int] = (),
    undivided: bool = False,
) -> Dataset:
    """Objects of one class in label images, one number for each object.

    Every label is read once at the start, and checked. Each page of a stack is a record
    of its own, named "stem/007".

    Args:
      cache_dir: not needed; every data set is called with it.
      data_root: the folder with `images` and `labels`, and `index.csv` where there is a
        split.
      class_name: what the objects are called.
      validation_fraction: fraction of the images, evenly by name, to choose by, where there is
        no `index.csv`; of each stack it is a block of pages.
      test_fraction: fraction of those held out.
      group: as of the data set `folder`.
      channels: 3, or which three are taken of the images, by number from 0 or by name.
      pages: as of the data set `folder`.
      undivided: whether all images are one split, "all", for measuring.

    Returns:
      The data set "instance_folder" with 3 channels; grey images are repeated.

    Raises:
      UserError: a folder or file is missing, an image has no label or the other way
        round, their pages or sizes differ, labels hold something else than numbers of
        objects, `index.csv` names another split or image, or nothing is left to
        train on.
    """
    del cache_dir
    require_fractions(validation_fraction, test_fraction)
    wanted = require_channels(channels, "config.data.channels")
    if count_of(wanted) != CHANNELS:
        raise UserError(
            f"config.data.channels is {channels}, but the data set 'instance_folder' has "
            f"{CHANNELS} channels. Name as many; one may be named again."
        )
    root = _require_root(data_root)
    pairs = find_pairs(root / "images", root / "labels")
    pairs = sorted(pairs, key=lambda pair: pair.name)
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = dict(
            zip(pairs, pool.map(functools.partial(_look, wanted), pairs), strict=True)
        )
    every = [Page(pair, i, len(r)) for pair, r in rows.items() for i in range(len(r))]
    table = {page: rows[page.pair][page.index] for page in every}
    _require_objects(root, table)
    if converted := sum(r[0].is_converted for r in rows.values()):
        log.info("In %s, %s", root, conversion(converted, CHANNELS))
    index = index_of(root)
    names = [pair.name for pair in pairs]
    groups = None if group is None or undivided else groups_of(names, group, index)
    if undivided:
        splits = {"all": every}
    elif index is not None and (not groups or has_splits(index)):
        splits = listed_splits(index, every)
    elif groups:
        splits = group_cut(every, groups, validation_fraction, test_fraction)
        splits = {split: chosen for split, chosen in splits.items() if chosen}
    else:
        splits = _cut(every, validation_fraction, test_fraction)
    if groups:
        require_apart(splits, groups)
    splits = {k: kept for k, kept in only_pages(splits, pages).items() if kept}
    if not undivided:
        require_train(splits, root, index)
    numbers = {page: i for i, page in enumerate(every, 1)}
    records = {}
    for split, chosen in splits.items():
        found = [table[page] for page in chosen]
        sides = np.array([(row.height, row.width) for row in found], np.int64)
        counts = np.array([row.objects for row in found], np.int64)
        ids = [numbers[page] for page in chosen]
        read = functools.partial(_read, chosen, ids, wanted)
        records[split] = FactualRecords(read, range(len(chosen)), Facts(sides, counts))
    spec = LabelSpec(("background", class_name), _COLORS, ignore=None)
    return Dataset(
        "instance_folder",
        spec,
        CHANNELS,
        records,
        InstanceSpec((1,)),
        image_hashes={
            split: [table[page].image_hash for page in chosen]
            for split, chosen in splits.items()
        },
    )


def _read(
    pages: Sequence[Page], numbers: Sequence[int], channels: Channels, index: int
) -> Record:
    page = pages[index]
    path = page.pair.image
    assert page.pair.label is not None
    names = () if isinstance(channels, int) else read_layout(path).channel_names
    stored, where = read_page(path, page.index), page.where(path)
    image = with_wanted_channels(stored, channels, names, where)
    masks = encode_label(read_raw(page.pair, page.index, image.shape[:2], _NUMBERS))
    return from_masks(
        image,
        masks,
        np.ones(len(masks), np.int32),
        name=page.name,
        image_id=numbers[index],
    )


class _Looked(NamedTuple):
    """What was found of a page.

    Attributes:
      height: pixels.
      width: pixels.
      objects: how many.
      is_converted: whether its image is grey, and becomes RGB.
      largest: the largest number of its label.
      image_hash: `hash_of_image` of its image, with the channels that are used.
    """

    height: int
    width: int
    objects: int
    is_converted: bool
    largest: int
    image_hash: str


def _look(channels: Channels, pair: Pair) -> list[_Looked]:
    """Looks at each page of a pair of files."""
    assert pair.label is not None
    count = count_pages_of(pair)
    require_chunks(pair)
    names = read_layout(pair.image).channel_names
    rows = []
    with (
        contextlib.closing(read_pages(pair.image)) as images,
        opened_label(pair, _NUMBERS) as next_label,
    ):
        for index, image in enumerate(images):
            label = next_label(image.shape[:2])
            page = Page(pair, index, count)
            where = page.where(pair.label)
            require_numbers(label, where)
            if label.shape != image.shape[:2]:
                raise UserError(
                    f"{where} is {label.shape[0]} high x {label.shape[1]} wide pixels, but "
                    f"{pair.image.name} is {image.shape[0]} high x {image.shape[1]} wide. "
                    "Image and label must have the same size."
                )
            grey = image.shape[-1] != CHANNELS and isinstance(channels, int)
            found = len(encode_label(label))
            seen = with_wanted_channels(image, channels, names, page.where(pair.image))
            height, width = label.shape
            largest = int(label.max(initial=0))
            rows.append(
                _Looked(height, width, found, grey, largest, hash_of_image(seen))
            )
    return rows


def _require_objects(root: Path, table: Mapping[Page, _Looked]) -> None:
    """Stops where there is nothing to learn, and where masks stand for numbers."""
    if not any(row.objects for row in table.values()):
        raise UserError(
            f"The labels of {root} hold no object at all, only 0. Save the numbers of the "
            "objects in them."
        )
    alone = [page for page, row in table.items() if row.objects == 1]
    values = {table[page].largest for page in alone}
    if any(row.objects > 1 for row in table.values()) or len(values) > 1:
        return
    for page in alone:
        label = page.pair.label
        row = table[page]
        if label is None:
            continue
        raw = read_raw(page.pair, page.index, (row.height, row.width), _NUMBERS)
        if ndimage.label(raw)[1] < 2:
            continue
        found = (
            f"The labels of {root} hold one number only, {values.pop()}, and in "
            f"{label.name} it has several parts"
        )
        if row.largest == _WHITE:
            raise UserError(
                f"{found}: a mask, in which objects are not told apart. {NUMBER_THEM}; or "
                "train on masks with the data set 'folder'."
            )
        log.warning("%s, which count as one object.", found)
        return


def _require_root(data_root: str | None) -> Path:
    needs = "The data set 'instance_folder' needs images/ and labels/"
    if data_root is None:
        raise UserError(f"{needs}; name their folder with --data_root.")
    root = Path(data_root).expanduser()
    for name in ("images", "labels"):
        if not (root / name).is_dir():
            raise UserError(f"{needs} in {root}, where {name}/ is missing.")
    return root


def _cut(
    pages: Sequence[Page], validation: float, test: float
) -> dict[str, list[Page]]:
    """Takes fractions of single images, spread evenly by name, and blocks of stacks."""
    splits: dict[str, list[Page]] = {split: [] for split in SPLITS}
    quota = {"validation": 0.5, "test": 0.5}
    for place, page in enumerate(pages):
        if page.count > 1:
            if page.index == 0:
                stack = pages[place : place + page.count]
                for split, part in block_cut(stack, validation, test).items():
                    splits[split] += part
            continue
        quota["validation"] += validation
        quota["test"] += test
        split = max(quota, key=lambda key: quota[key])
        if quota[split] >= 1 - 1e-9:
            quota[split] -= 1
        else:
            split = "train"
        splits[split].append(page)
    return {split: chosen for split, chosen in splits.items() if chosen}
