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

from segjax import viz
from segjax.data.files.channels import Channels
from segjax.data.files.listing import name_of
from segjax.data.intensities import scale_of_stack
from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import ImageNormalization, Normalize, scale_of
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
from segjax.predict.test_time import AveragedPredictor
from segjax.predict.tiled import Predictor
from segjax.predict.writers import (
    Write,
    finish,
    kind_name,
    page_file,
    plan_outputs,
    planned_files,
)
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.object_files import (
    OBJECTS,
    OUTLINES,
    ObjectFiles,
    ObjectOptions,
)
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
    - `STEM_overlay.png` or `.tif`: the classes' colours over the image, RGB.

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
        user; a folder that cannot be written. Nothing was written then, unless only a
        later page of a stack turned out to be damaged: files before it are complete.
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
    if objects is not None and objects.outlines:
        for path, own in results.items():
            ending = OUTLINES[objects.outlines]
            own["outlines"] = name_of(path, Path(input)) + ending
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
    done, total = 0, sum(source.pages for source in sources)
    with contextlib.ExitStack() as last:
        table = object_files.table(folder) if object_files else None
        add_file = last.enter_context(table) if table else None
        for source in sources:
            with contextlib.ExitStack() as files:
                writers = {
                    kind: files.enter_context(
                        object_files.file(
                            folder,
                            results[source.path],
                            source,
                            resampling[source.path].factor,
                        )
                        if object_files is not None and kind == "instances"
                        else _writer(folder, name, kind, source, label_spec)
                    )
                    for kind, name in results[source.path].items()
                    if kind != "outlines"
                }
                for number in range(source.pages):
                    page, seen = next(predicted), kept.popleft()
                    if not at_once:
                        page = _finished(
                            page,
                            seen,
                            crf,
                            resampling[source.path],
                            outputs,
                            source.path,
                            predictor.head,
                        )
                    if overlay and seen.image is not None:
                        page["overlay"] = viz.overlay(
                            seen.image, page["labels"], label_spec.value_colors
                        )
                    _write_page(
                        writers,
                        page,
                        seen.image,
                        source.number(number),
                        label_spec.names,
                    )
                    done += 1
                    if progress is not None:
                        progress(done, total, source.path.name)
            finish(folder, results[source.path].values(), source)
            if add_file is not None:
                add_file()
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


def _writer(
    outputs: Outputs, name: str, kind: str, source: Source, label_spec: LabelSpec
) -> contextlib.AbstractContextManager[Write]:
    names = label_spec.names
    if kind == "labels":
        names = label_spec.value_names
    if kind == "probabilities":
        return page_file(
            outputs,
            name,
            source,
            np.float32,
            values_per_pixel=len(names),
            class_names=names,
            are_channels=True,
        )
    if kind == "overlay":
        return page_file(outputs, name, source, np.uint8, values_per_pixel=3)
    colors = label_spec.value_colors
    return page_file(outputs, name, source, np.uint8, colors=colors, class_names=names)


def _write_page(
    writers: dict[str, Write],
    page: dict[str, np.ndarray],
    image: np.ndarray | None,
    number: int,
    names: Sequence[str],
) -> None:
    for kind, write in writers.items():
        if kind == "instances":
            write(page, image)
        elif kind == "probabilities":
            for k, name in enumerate(names):
                write(np.ascontiguousarray(page[kind][..., k]), f"{number}: {name}")
        else:
            write(page[kind])
