"""From image files to label files: single files, folders, stacks.

Pages are read, predicted and written one after the other, so memory is that of tiles
and of a page, not of a stack. All files are looked at before the first is predicted.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.data.files.channels import Channels
from segjax.data.files.listing import name_of
from segjax.data.intensities import scale_of_stack
from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import ImageNormalization, Normalize, scale_of
from segjax.errors import UserError
from segjax.predict.heads import Head
from segjax.predict.inputs import (
    Source,
    channel_names,
    list_inputs,
    look_at_all,
    read_source,
)
from segjax.predict.resampled import PixelSize, Resampling, resamplings
from segjax.predict.test_time import AveragedPredictor
from segjax.predict.tiled import Predictor
from segjax.predict.writers import (
    kind_name,
    plan_outputs,
    planned_files,
    telling_what_stands,
)
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.object_files import (
    OBJECTS,
    OUTLINES,
    ObjectFiles,
    ObjectOptions,
)
from segjax.tasks.semantic.page_results import PageResult
from segjax.tasks.semantic.result_files import result_files
from segjax.training.task import PageProgress


class _Kept(NamedTuple):
    """Of a page in flight: its size, what the CRF looks at, what is plotted over."""

    size: tuple[int, int]
    small: np.ndarray | None
    image: np.ndarray | None


def predict_files(
    predictor: Predictor | AveragedPredictor,
    input: str | Path,
    output: str | Path,
    *,
    label_spec: LabelSpec,
    channels: Channels,
    normalization: ImageNormalization,
    chosen: tuple[int, ...] = (),
    probabilities: bool = False,
    overlay: bool = False,
    crf: CRF | None = None,
    objects: ObjectOptions | None = None,
    downscale: int = 1,
    pixel_size: PixelSize | None = None,
    rescale: bool = False,
    overwrite: bool = False,
    progress: PageProgress | None = None,
) -> list[Path]:
    """Writes one label file for each image file, with its stem, page count and size.

    A TIFF `STEM.*` gives `STEM.tif`, other formats give `STEM.png`. Both hold
    class ids, 8 bits each, and the colours of the classes as their palette. On demand
    there are, beside them:

    - `STEM_probabilities.tif`: float32 pages, the classes of the first page, then
      those of the second; page `p * K + k` is the probability of class k on page p.
      This keeps a page of `4 * K` bytes per pixel in memory.
    - `STEM_instances.png` or `.tif`: numbers of the objects, 0 where there is none, unique
      in a stack, 16 or 32 bits; `objects.csv` lists those of all files that are complete,
      with their sizes, places, shapes and intensities
      (`segjax.objects.properties.columns`).
    - `STEM_overlay.png` or `.tif`: the classes' colours over the image, RGB, or where objects
      are found each of them in a colour of its own.

    A file appears when it is complete, and takes the place of an older one then, if that
    was written by segjax (`segjax.output`).

    Args:
      predictor: the network.
      input: an image file, or a folder of them.
      output: folder for the results; made if it is not there.
      label_spec: names and colours of the classes.
      channels: how many the network was trained on; images that are grey are given as
        many. Or which are taken, by number or name.
      normalization: that it was trained with (`segjax.data.files.images.normalize`).
      chosen: places of the pages that are predicted of each file, from 0; empty for all.
      probabilities: whether to write probabilities.
      overlay: whether to write overlays.
      crf: where given, what refines each page, once it is predicted as a whole.
      objects: where given, how objects are found and written.
      downscale: whole factor by which images were made smaller in training; they are
        predicted, and refined, as small, and the result is enlarged to their size.
      pixel_size: of the images of training; None where they state none.
      rescale: whether images are brought to that size, and the result to theirs; needs
        files that state the size of their pixels.
      overwrite: whether files are replaced that segjax did not write, or that were
        changed since.
      progress: called after each finished page.

    Returns:
      the label files, in the order of the inputs.

    Raises:
      UserError: an input that is missing, damaged or of other channels; two inputs that
        would have the same result; results that would overwrite inputs or files of the
        user; a folder that cannot be written. Nothing was written then, unless only
        decoding a page told that it is damaged: files before it are complete, and the
        sentence says how many.
    """
    output = Path(output)
    paths = list_inputs(input)
    kinds = ["labels"]
    kinds += ["probabilities"] * probabilities + ["overlay"] * overlay
    kinds += ["instances"] * (objects is not None)
    results = {
        path: {kind: kind_name(path, Path(input), kind) for kind in kinds}
        for path in paths
    }
    for path, own in results.items():
        for kind in objects.outlines if objects else ():
            own[kind] = name_of(path, Path(input)) + OUTLINES[kind]
    names = {
        path: planned_files(path, own.values(), chosen) for path, own in results.items()
    }
    also = [OBJECTS] if objects else []
    folder = plan_outputs(names, output, also=also, overwrite=overwrite)
    sources = look_at_all(input, paths, channels, chosen)
    asked = probabilities or objects is not None
    outputs = ("labels", "probabilities") if asked else ("labels",)
    object_files = (
        ObjectFiles(objects, label_spec, channel_names(sources, channels))
        if objects
        else None
    )
    resampling = resamplings(sources, downscale, pixel_size, rescale=rescale)
    folder.make_folder()

    kept: collections.deque[_Kept] = collections.deque()

    def keep(image: np.ndarray, small: np.ndarray) -> None:
        size = (image.shape[0], image.shape[1])
        shown = overlay or objects is not None
        kept.append(_Kept(size, small if crf else None, image if shown else None))

    images = _images(sources, channels, normalization, resampling, keep)
    at_once = crf is None and all(each.is_none for each in resampling.values())
    predicted = predictor.pages(images, outputs if at_once else ("logits",))

    def next_page(source: Source) -> tuple[Mapping[str, np.ndarray], _Kept]:
        page, seen = next(predicted), kept.popleft()
        if at_once:
            return page, seen
        resample, head = resampling[source.path], predictor.head
        return _finished(page, seen, crf, resample, outputs, source.path, head), seen

    done, total = 0, sum(source.pages for source in sources)
    with contextlib.ExitStack() as last:
        complete = last.enter_context(telling_what_stands(len(sources)))
        table = last.enter_context(object_files.table(folder)) if object_files else None
        for source in sources:
            own, find = results[source.path], None
            if object_files is not None:
                factor = resampling[source.path].factor
                find = object_files.finder(own["instances"], source, factor)
            with result_files(
                folder, own, source, label_spec, object_files, table
            ) as write:
                for index in range(source.pages):
                    page, seen = next_page(source)
                    found = None
                    if find is not None and seen.image is not None:
                        found = find(index, page["probabilities"], seen.image)
                    number = source.number(index)
                    write(PageResult(number, seen.image, page, found))
                    done += 1
                    if progress is not None:
                        progress(done, total, source.path.name)
            complete()
    return [output / result["labels"] for result in results.values()]


def _finished(
    page: Mapping[str, np.ndarray],
    seen: _Kept,
    crf: CRF | None,
    resampling: Resampling,
    outputs: Sequence[str],
    path: Path,
    head: Head,
) -> dict[str, np.ndarray]:
    """Refines the logits of a page and brings them to the size of its image."""
    if crf is not None and seen.small is not None:
        asked = outputs if resampling.is_none else ("logits",)
        try:
            page = crf.page(seen.small, page["logits"], asked)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        if resampling.is_none:
            return dict(page)
    return resampling.answer(page, seen.size, outputs, head)


def _images(
    sources: Sequence[Source],
    channels: Channels,
    normalization: ImageNormalization,
    resampling: Mapping[Path, Resampling],
    keep: Callable[[np.ndarray, np.ndarray], None],
) -> Iterator[np.ndarray]:
    """All pages of all files as the network wants them, one alive at a time."""
    for source in sources:
        resample = resampling[source.path]
        scale = _scale_of_stack(source, channels, normalization, resample)
        for image in read_source(source, channels):
            small = resample(image)
            keep(image, small)
            image = (scale or scale_of(small, normalization))(small)
            del small
            yield image
            del image


def _scale_of_stack(
    source: Source,
    channels: Channels,
    method: ImageNormalization,
    resample: Resampling,
) -> Normalize | None:
    """The scale of all pages of a file, also of those that are not predicted; None if each
    page has its own.
    """
    source = source.whole or source
    pages = (resample(page) for page in read_source(source, channels))
    return scale_of_stack(pages, method) if source.pages > 1 else None
