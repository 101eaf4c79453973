"""From image files to objects: label images, COCO's results, pictures."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.files.channels import Channels
from segjax.data.files.listing import name_of
from segjax.data.files.zarr import is_zarr
from segjax.data.instance_spec import InstanceSpec
from segjax.data.label_spec import LabelSpec
from segjax.output.folder import Outputs
from segjax.predict.inputs import Source, list_inputs, look_at_all, read_source
from segjax.predict.writers import (
    finish,
    kind_name,
    number_type,
    page_file,
    plan_outputs,
    planned_files,
    png_file,
    telling_what_stands,
)
from segjax.rle import decode, encode
from segjax.tasks.instance.coco_results import coco_results, numbered, write_results
from segjax.tasks.instance.evaluate import Detect, predictions
from segjax.tasks.instance.found_arrays import from_arrays, to_arrays
from segjax.tasks.instance.stitch import join_tiles, tile_rects
from segjax.training import sharding
from segjax.training.page_shares import PageShares
from segjax.training.task import PageProgress
from segjax.viz import to_display
from segjax.viz.instances import plot_instances

log = logging.getLogger("segjax")

RESULTS = "results.json"
OVERLAP = 0.25
"""Fraction of a tile's shorter side that neighbours have in common."""


@dataclass(frozen=True)
class InstancePredictor:
    """Finds objects in images of any size.

    Attributes:
      detect: the network, from a batch of `image` and `sizes` to its outputs.
      batch_size: rows that it takes.
      buckets: sizes that it is compiled for.
      resize: how images meet them (`segjax.data.instance.buckets.RESIZES`).
      mask_threshold: least probability of a pixel in a mask.
      keep_score: objects of a lower score are left out.
      tile: side of a tile in pixels of the image; 0 takes images whole; None cuts into
        tiles only what is larger than every bucket where images keep their size.
    """

    detect: Detect
    batch_size: int
    buckets: Sequence[tuple[int, int]]
    resize: str
    mask_threshold: float = 0.5
    keep_score: float = 0.5
    tile: int | None = None

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """Finds the objects of an image.

        Args:
          image: `[H, W, C]` of unsigned integers.

        Returns:
          `boxes` `[N, 4]`, `scores`, `classes` `[N]`, highest score first, and where the
          network has them `masks`, run lengths, and `keypoints` `[N, P, 3]`.
        """
        size = (image.shape[0], image.shape[1])
        rects = self._rects(size)
        parts = [{"image": image[y0:y1, x0:x1]} for y0, x0, y1, x1 in rects]
        found: list[Mapping[str, np.ndarray]] = [{} for _ in parts]
        for i, objects in predictions(
            self.detect,
            parts,
            batch_size=self.batch_size,
            buckets=self.buckets,
            resize=self.resize,
            mask_threshold=self.mask_threshold,
        ):
            good = objects["scores"] >= self.keep_score
            found[i] = {name: values[good] for name, values in objects.items()}
        if len(rects) > 1:
            return join_tiles(rects, found, size)
        whole: dict[str, Any] = dict(found[0])
        if "masks" in whole:
            whole["masks"] = tuple(encode(mask) for mask in whole["masks"])
        return whole

    def _rects(self, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        if self.tile:
            side = (self.tile, self.tile)
        else:
            side = max(self.buckets, key=lambda bucket: bucket[0] * bucket[1])
            fits = any(b[0] >= size[0] and b[1] >= size[1] for b in self.buckets)
            if self.tile == 0 or self.resize != "keep" or fits:
                return [(0, 0, *size)]
        return tile_rects(size, side, int(OVERLAP * min(side)))


def predict_instance_files(
    find: Callable[[np.ndarray], Mapping[str, Any]],
    input: str | Path,
    output: str | Path,
    *,
    label_spec: LabelSpec,
    instances: InstanceSpec | None = None,
    channels: Channels = 3,
    chosen: tuple[int, ...] = (),
    overlay: bool = False,
    overwrite: bool = False,
    progress: PageProgress | None = None,
) -> list[Path]:
    """Writes the objects of each image file.

    For `STEM.*` there is `STEM.png` (of a TIFF `STEM.tif`, page by page) with 16 bits a
    pixel, or in a TIFF 32 where there are more objects: 0 where there is none, then 1, 2,
    ..., the best one first; and on demand `STEM_overlay.png` (of a stack, with the number
    of the page) with boxes, names, masks and skeletons. `results.json` lists all objects in COCO's form, each with
    `category_name`, `file_name`, `page` and `label`, its number in the label image.
    `image_id` is the number that each file is named by, as COCO's are; where a stem is
    no number, two have the same, or a file has pages, images are numbered from 1 in
    their order.

    Args:
      find: what finds the objects of an image (`InstancePredictor`).
      input: an image file, or a folder of them.
      output: folder for the results; made if it is not there.
      label_spec: names of the classes, 0 being the background.
      instances: numbers of the categories and the skeleton; by default the categories
        are numbered as the classes.
      channels: how many the network was trained on; images that are grey are given as
        many. Or which are taken, by number or name.
      chosen: places of the pages that are predicted of each file, from 0; empty for all.
      overlay: whether pictures are written, too.
      overwrite: whether files are replaced that segjax did not write, or that were
        changed since.
      progress: called after each finished page.

    Returns:
      The label images and `results.json`, the last.

    Raises:
      UserError: an input that is missing or damaged, two inputs of one stem, results
        that would overwrite inputs or files of the user, or a folder that cannot be
        written.
    """
    shares, output = PageShares(), Path(output)
    with sharding.fail_together():
        paths = list_inputs(input)
        sources = look_at_all(input, paths, channels, chosen)
        names = {
            source.path: _names(source, Path(input), overlay) for source in sources
        }
        files = {path: planned_files(path, own, chosen) for path, own in names.items()}
        outputs = plan_outputs(files, output, also=[RESULTS], overwrite=overwrite)
    sharding.check_same("list of images", str(list(names.values())))
    if instances is None:
        instances = InstanceSpec(tuple(range(1, label_spec.num_classes)))
    counts = [source.pages for source in sources]
    total, done = sum(counts), 0
    ids = _image_ids(paths, counts)
    shown: collections.deque[np.ndarray] = collections.deque()

    def own() -> Iterator[Mapping[str, np.ndarray]]:
        """The objects of this process's pages."""
        index, ready = 0, dict[str, np.ndarray]()
        for source in sources:
            reader = read_source(source, channels)
            for page, image in enumerate(reader, 1):
                if page == source.pages:
                    next(reader, None)  # it raises where the file has more pages now
                if shares.is_main and overlay:
                    shown.append(image)
                if shares.is_mine(index):
                    ready = to_arrays(find(image), (image.shape[0], image.shape[1]))
                if ready and shares.ends_turn(index, total):
                    yield ready
                    ready = {}
                index += 1

    pages = shares.collect(own(), total)
    with contextlib.ExitStack() as stack:
        stack.enter_context(shares.together())
        if not shares.is_main:
            collections.deque(pages, maxlen=0)
            sources = []
        else:
            outputs.make_folder()
        complete = stack.enter_context(telling_what_stands(len(sources)))
        rows = stack.enter_context(_results(outputs))
        for source in sources:
            path, labels, of_file = source.path, [], list[dict[str, Any]]()
            label_name, *pictures = names[path]
            for page in range(source.pages):
                found, size = from_arrays(next(pages))
                done += 1
                label = label_of(found, size)
                kind = number_type(int(label.max(initial=0)), path, label_name)
                labels.append(label.astype(kind))
                file_name = Path(name_of(path, Path(input))).with_name(path.name)
                place = {"file_name": file_name.as_posix(), "page": source.number(page)}
                of_file += _rows(
                    found, ids[done - 1], place, instances, label_spec.names
                )
                if overlay:
                    with png_file(outputs, pictures[page]) as write:
                        image = shown.popleft()
                        write(_plotted(image, found, label_spec, instances))
                if progress is not None:
                    progress(done, total, path.name)
            dtype = np.result_type(*(label.dtype for label in labels))
            with page_file(outputs, label_name, source, dtype) as write:
                for label in labels:
                    write(label.astype(dtype))
            finish(outputs, [label_name], source)
            rows.append(of_file)
            complete()
    if shares.is_main:
        log.info("Objects found: %d, in images: %d", sum(map(len, rows)), total)
    return [output / name for name in (*(own[0] for own in names.values()), RESULTS)]


@contextlib.contextmanager
def _results(outputs: Outputs) -> Iterator[list[list[dict[str, Any]]]]:
    """Writes the rows of the files that are complete, also where others are not."""
    rows: list[list[dict[str, Any]]] = []
    try:
        yield rows
    finally:
        if rows:
            with outputs.file(RESULTS) as file:
                write_results(file, list(itertools.chain.from_iterable(rows)))


def _names(source: Source, root: Path, overlay: bool) -> list[str]:
    """The files of an input: its label image, then the picture of each page."""
    path, several = source.path, (source.whole or source).pages > 1
    numbers = [f"_{source.number(i)}" if several else "" for i in range(source.pages)]
    name = name_of(path, root)
    pictures = [f"{name}{number}_overlay.png" for number in numbers]
    label = kind_name(path, root, "instances" if is_zarr(path) else "labels")
    return [label, *pictures * overlay]


def label_of(found: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The label image of what was found in an image of a size; boxes are filled where there
    are no masks.
    """
    if "masks" in found:
        return numbered(found["masks"], size)
    label = np.zeros(size, np.int32)
    for number, box in reversed(list(enumerate(found["boxes"], 1))):
        top, left, bottom, right = np.rint(box).astype(int)
        label[top:bottom, left:right] = number
    return label


def _image_ids(paths: Sequence[Path], counts: Sequence[int]) -> list[int]:
    """The numbers in COCO's files of all pages."""
    stems = [path.stem for path in paths]
    numbers = {int(stem) for stem in stems if stem.isascii() and stem.isdecimal()}
    if len(numbers) == len(stems) and max(counts) == 1:
        return [int(stem) for stem in stems]
    return list(range(1, sum(counts) + 1))


def _rows(
    found: Mapping[str, Any],
    image_id: int,
    own: Mapping[str, Any],
    spec: InstanceSpec,
    names: Sequence[str],
) -> Iterator[dict[str, Any]]:
    rows = coco_results(found, image_id=image_id, category_ids=spec.category_ids)
    for number, (row, k) in enumerate(zip(rows, found["classes"], strict=True), 1):
        yield {**row, "category_name": names[int(k)], **own, "label": number}


def _plotted(
    image: np.ndarray,
    found: Mapping[str, Any],
    label_spec: LabelSpec,
    spec: InstanceSpec,
) -> np.ndarray:
    """The picture of what was found in an image."""
    masks = [decode(rle) for rle in found["masks"]] if found.get("masks") else None
    picture = plot_instances(
        to_display(image),
        found["boxes"],
        found["classes"],
        label_spec.names,
        scores=found["scores"],
        masks=None if masks is None else np.stack(masks),
        keypoints=found.get("keypoints"),
        skeleton=spec.keypoints.skeleton if spec.keypoints else (),
    )
    return np.asarray(picture)
