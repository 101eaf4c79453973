"""Looking at every file of a folder before training, and remembering what was found."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.data.dataset import hash_of_image
from segjax.data.datasets.label_files import count_pages_of, opened_label
from segjax.data.datasets.label_meanings import Meaning
from segjax.data.datasets.pairing import Page, Pair
from segjax.data.files.channels import (
    Channels,
    choose,
    count_of,
    grey_pages_hint,
    places_of,
)
from segjax.data.files.chunks import check_chunks
from segjax.data.files.images import read_layout, read_pages
from segjax.errors import UserError
from segjax.output.files import whole_file
from segjax.text_files import read_bytes
from segjax.types import IGNORE_LABEL

log = logging.getLogger("segjax")

_THREADS = 4
_MANY = 1000
_RULES = 7
"""Raise it when a check is added, so that what was remembered is looked at again."""


class Facts(NamedTuple):
    """Facts that are remembered about a good pair.

    Attributes:
      pages: of its files.
      classes: class ids in its label.
      converted: whether `with_channels` has something to do with its image.
      channel_names: of the channels that are used, where the image names them.
      pixel_size: height and width of a pixel, micrometres, where the image states them.
      hashes: of the pages of its image, with the channels that are used.
    """

    pages: int
    classes: tuple[int, ...]
    converted: bool = False
    channel_names: tuple[str, ...] = ()
    pixel_size: tuple[float, float] | None = None
    hashes: tuple[str, ...] = ()


def check_pairs(
    pairs: Sequence[Pair],
    spec: Meaning,
    channels: Channels,
    known: MutableMapping[str, Facts],
) -> dict[Path, Facts]:
    """Checks every page of every pair.

    Args:
      pairs: what to look at.
      spec: what label values mean.
      channels: that every image must have, or that are chosen.
      known: the pairs that were found good before; new ones are added.

    Returns:
      What was found, by image file.

    Raises:
      UserError: the first fault, in the order of `pairs`.
    """
    return checked(pairs, lambda pair: _check_pair(pair, spec, channels), known)


def checked(
    pairs: Sequence[Pair],
    check: Callable[[Pair], Facts],
    known: MutableMapping[str, Facts],
) -> dict[Path, Facts]:
    """Checks every pair that is not known to be good, several at a time.

    Args:
      pairs: what to look at.
      check: looks at one pair, and raises UserError where something is wrong.
      known: the pairs that were found good before; new ones are added.

    Returns:
      What was found, by image file.

    Raises:
      UserError: the first fault, in the order of `pairs`.
    """
    states = [_state(pair) for pair in pairs]
    new = [
        pair for pair, state in zip(pairs, states, strict=True) if state not in known
    ]
    if len(new) > _MANY:
        log.info("Looking at %d images and labels, once; this takes a while.", len(new))
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for pair, facts in zip(
                new,
                pool.map(check, new),
                strict=True,
            ):
                known[_state(pair)] = facts
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {pair.image: known[state] for pair, state in zip(pairs, states, strict=True)}


@contextlib.contextmanager
def remembered(
    cache_dir: str | None, root: Path, spec: Meaning, channels: Channels | str
) -> Iterator[MutableMapping[str, Facts]]:
    """Opens the memory of what was found good in a folder under a spec.

    It is a file in the data folder, JSON below a digest of it, written when the block
    ends (also by an error, so that the good files need not be read again) and replaced as
    a whole. Where it cannot be read or written, everything is checked each time.

    Yields:
      Facts by state (path, time and size) of a pair.
    """
    base = cache_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    subject = repr((_RULES, str(root.resolve()), spec, channels))
    name = hashlib.sha256(subject.encode()).hexdigest()[:16]
    path = Path(base).expanduser() / "segjax_folder" / f"{name}.json"
    known = _remembered(path)
    before = dict(known)
    try:
        yield known
    finally:
        if known != before:
            _write(path, known)


def _remembered(path: Path) -> dict[str, Facts]:
    """Reads what `_write` wrote; a damaged memory counts as none."""
    try:
        digest, _, facts = read_bytes(path).partition(b"\n")
    except OSError:
        return {}
    if digest.decode("ascii", "replace") != hashlib.sha256(facts).hexdigest():
        return {}
    known = json.loads(facts).items()
    return {
        state: Facts(
            pages,
            tuple(ids),
            bool(converted),
            tuple(names),
            size and (size[0], size[1]),
            tuple(hashes),
        )
        for state, (pages, ids, converted, names, size, hashes) in known
    }


def _write(path: Path, known: MutableMapping[str, Facts]) -> None:
    facts = json.dumps(known).encode()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(hashlib.sha256(facts).hexdigest().encode() + b"\n" + facts)


def _state(pair: Pair) -> str:
    """Returns text that changes when one of the two files does."""
    facts: list[tuple[str, int, int]] = []
    for path in (pair.image, pair.label):
        if path is not None:
            inner = path.rglob("*") if path.is_dir() else ()  # that of a Zarr
            status = [part.stat() for part in (path, *inner)]
            newest = max(part.st_mtime_ns for part in status)
            facts.append(
                (str(path.resolve()), newest, sum(part.st_size for part in status))
            )
    return json.dumps(facts)


def _check_pair(pair: Pair, spec: Meaning, channels: Channels) -> Facts:
    """Checks the pages of one pair."""
    count = count_pages_of(pair)
    require_chunks(pair)
    layout = read_layout(pair.image)
    names = layout.channel_names
    used: list[str] = []
    classes: set[int] = set()
    hashes: list[str] = []
    converted = False
    with contextlib.ExitStack() as stack:
        images = stack.enter_context(contextlib.closing(read_pages(pair.image)))
        label, next_label = pair.label, None
        if label is not None:
            next_label = stack.enter_context(opened_label(pair, spec))
        for index, image in enumerate(images):
            page = Page(pair, index, count)
            where = page.where(pair.image)
            hashes.append(
                hash_of_image(with_wanted_channels(image, channels, names, where))
            )
            converted |= isinstance(channels, int) and image.shape[-1] != channels
            if names and not used:
                places = places_of(channels, image.shape[-1], names, str(pair.image))
                used = [names[i] for i in places if i < len(names)]
            if label is not None and next_label is not None:
                raw, where = next_label(image.shape[:2]), page.where(label)
                classes |= _label_classes(raw, where, image, pair.image.name, spec)
    return Facts(
        count,
        tuple(sorted(classes)),
        converted,
        tuple(used),
        layout.calibration.pixel_size,
        tuple(hashes),
    )


def require_chunks(pair: Pair) -> None:
    """Looks whether the chunks of what is OME-Zarr are there.

    Raises:
      UserError: no chunk of an image is.
    """
    check_chunks(pair.image)
    if pair.label is not None:
        check_chunks(pair.label, is_label=True)


def with_wanted_channels(
    image: np.ndarray, channels: Channels, names: Sequence[str], where: str
) -> np.ndarray:
    """Gives an image the channels that the config wants.

    Args:
      image: `[H, W, C]`.
      channels: how many, or which.
      names: of its channels, where they are known.
      where: what to call the image in a message.

    Returns:
      The image with these channels.

    Raises:
      UserError: it has others.
    """
    chosen = choose(image, channels, names, where)
    if chosen is None:
        raise UserError(
            f"{where} has {_channels(image.shape[-1])}, but the config says "
            f"{channels}. Convert the image or set config.data.channels."
            f"{grey_pages_hint(where, image.shape[-1], count_of(channels))}"
        )
    return chosen


def _label_classes(
    raw: np.ndarray, where: str, image: np.ndarray, name: str, spec: Meaning
) -> set[int]:
    """Checks a label against its image and returns the class ids that occur."""
    if raw.shape[:2] != image.shape[:2]:
        raise UserError(
            f"{where} is {_size(raw.shape)} pixels, but {name} is "
            f"{_size(image.shape)}. Image and label must have the same size."
        )
    ids = np.bincount(spec.to_ids(raw, where).ravel(), minlength=IGNORE_LABEL)
    classes = set(np.flatnonzero(ids[:IGNORE_LABEL]).tolist())
    if not classes:
        raise UserError(
            f"{where} has nothing but ignored pixels, so there is nothing to learn "
            "from it. Label it, or remove it and its image."
        )
    return classes


def _channels(count: int) -> str:
    return f"{count} channel" if count == 1 else f"{count} channels"


def _size(shape: Sequence[int]) -> str:
    """Returns height x width, said so, as programs differ in the order."""
    return f"{shape[0]} high x {shape[1]} wide"
