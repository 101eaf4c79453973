"""From image files to label files: single files, folders, stacks.

Pages are read, predicted and written one after the other, so memory is that of tiles
and of a page, not of a stack. All files are looked at before the first is predicted. Where
there are several processes, pages are dealt out to them, and process 0 writes all files.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.data.files.channels import Channels
from segjax.data.files.listing import name_of
from segjax.data.intensities import scale_of_image, scale_of_stack
from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import ImageNormalization, Normalize
from segjax.errors import UserError
from segjax.output.folder import Outputs
from segjax.predict.heads import Head
from segjax.predict.inputs import (
    Source,
    channel_names,
    list_inputs,
    look_at_all,
    read_source,
)
from segjax.predict.resampled import PixelSize, Resampling, resamplings
from segjax.predict.scaled import ScaledImage
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
from segjax.training import sharding
from segjax.training.page_shares import PageShares
from segjax.training.task import PageProgress


class _Kept(NamedTuple):
    """Of a page in flight: its size, and what the CRF looks at."""

    size: tuple[int, int]
    small: np.ndarray | None


class _Planned(NamedTuple):
    """A prediction that nothing stands in the way of.

    Attributes:
      sources: the inputs.
      results: of each input, the name of each kind of result.
      folder: the writer of all files.
      objects: what finds objects, if they are wanted.
      resampling: how the images of each input meet the network.
    """

    sources: list[Source]
    results: dict[Path, dict[str, str]]
    folder: Outputs
    objects: ObjectFiles | None
    resampling: Mapping[Path, Resampling]


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
    shares = PageShares()
    with sharding.fail_together():
        planned = _planned(
            Path(input),
            Path(output),
            label_spec=label_spec,
            channels=channels,
            chosen=chosen,
            probabilities=probabilities,
            overlay=overlay,
            objects=objects,
            downscale=downscale,
            pixel_size=pixel_size,
            rescale=rescale,
            overwrite=overwrite,
        )
    sources, results, folder, object_files, resampling = planned
    names_of_all = [[*own.values()] for own in results.values()]
    sharding.check_same("list of images", str(names_of_all))
    asked = probabilities or objects is not None
    outputs = ("labels", "probabilities") if asked else ("labels",)
    kept: collections.deque[_Kept] = collections.deque()
    shown: collections.deque[np.ndarray] = collections.deque()
    is_shown = shares.is_main and (overlay or objects is not None)

    places = itertools.count()

    def keep(image: np.ndarray, small: np.ndarray) -> bool:
        """Keeps what is needed of a page, and says whether this process predicts it."""
        is_mine = shares.is_mine(next(places))
        if is_shown:
            shown.append(image)
        if is_mine:
            size = (image.shape[0], image.shape[1])
            kept.append(_Kept(size, small if crf else None))
        return is_mine

    images = _images(sources, channels, normalization, resampling, keep)
    # A page is given when the image of the next one has been taken, or all have been: so
    # what is plotted over is there whenever a page is.
    at_once = crf is None and all(each.is_none for each in resampling.values())
    predicted = predictor.pages(images, outputs if at_once else ("logits",))

    def own() -> Iterator[Mapping[str, np.ndarray]]:
        of_pages = (source for source in sources for _ in range(source.pages))
        for index, source in enumerate(of_pages):
            if shares.is_mine(index):
                page, seen = next(predicted), kept.popleft()
                resample = resampling[source.path]
                head = predictor.head
                yield (
                    page
                    if at_once
                    else _finished(
                        page, seen, crf, resample, outputs, source.path, head
                    )
                )

    done, total = 0, sum(source.pages for source in sources)
    pages = shares.collect(own(), total)
    with contextlib.ExitStack() as last:
        last.enter_context(shares.together())
        if not shares.is_main:
            collections.deque(pages, maxlen=0)
            sources = []
        else:
            folder.make_folder()
        complete = last.enter_context(telling_what_stands(len(sources)))
        table = None
        if object_files and shares.is_main:
            table = last.enter_context(object_files.table(folder))
        for source in sources:
            names, find = results[source.path], None
            if object_files is not None:
                factor = resampling[source.path].factor
                find = object_files.finder(names["instances"], source, factor)
            with result_files(
                folder, names, source, label_spec, object_files, table
            ) as write:
                for index in range(source.pages):
                    page = next(pages)
                    image = shown.popleft() if is_shown else None
                    found = None
                    if find is not None and image is not None:
                        found = find(index, page["probabilities"], image)
                    number = source.number(index)
                    write(PageResult(number, image, page, found))
                    done += 1
                    if progress is not None:
                        progress(done, total, source.path.name)
            complete()
    return [folder.folder / result["labels"] for result in results.values()]


def _planned(
    input: Path,
    output: Path,
    *,
    label_spec: LabelSpec,
    channels: Channels,
    chosen: tuple[int, ...],
    probabilities: bool,
    overlay: bool,
    objects: ObjectOptions | None,
    downscale: int,
    pixel_size: PixelSize | None,
    rescale: bool,
    overwrite: bool,
) -> _Planned:
    """Looks at all inputs and plans all files; the arguments are those of `predict_files`."""
    paths = list_inputs(input)
    kinds = ["labels"]
    kinds += ["probabilities"] * probabilities + ["overlay"] * overlay
    kinds += ["instances"] * (objects is not None)
    results = {
        path: {kind: kind_name(path, input, kind) for kind in kinds} for path in paths
    }
    for path, own in results.items():
        for kind in objects.outlines if objects else ():
            own[kind] = name_of(path, input) + OUTLINES[kind]
    names = {
        path: planned_files(path, own.values(), chosen) for path, own in results.items()
    }
    also = [OBJECTS] if objects else []
    folder = plan_outputs(names, output, also=also, overwrite=overwrite)
    sources = look_at_all(input, paths, channels, chosen)
    object_files = (
        ObjectFiles(objects, label_spec, channel_names(sources, channels))
        if objects
        else None
    )
    resampling = resamplings(sources, downscale, pixel_size, rescale=rescale)
    return _Planned(sources, results, folder, object_files, resampling)


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
    keep: Callable[[np.ndarray, np.ndarray], bool],
) -> Iterator[ScaledImage]:
    """The pages of all files that are kept, as the network wants them, one alive at a time."""
    for source in sources:
        resample = resampling[source.path]
        scale = _scale_of_stack(source, channels, normalization, resample)
        for image in read_source(source, channels):
            small = resample(image)
            is_mine = keep(image, small)
            del image
            if is_mine:
                yield ScaledImage(small, scale or scale_of_image(small, normalization))
            del small


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
