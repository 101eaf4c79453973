"""Predicting with a trained network: from a run's folder to label files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from segjax.data import chosen_channels
from segjax.errors import UserError
from segjax.output.manifest import NAME as MANIFEST
from segjax.remote.copies import with_copies
from segjax.runs.ensemble import load_ensemble
from segjax.runs.load import TrainedModel
from segjax.training.layout import Spread
from segjax.training.progress import Progress
from segjax.training.task import PageProgress, PredictOptions, require

RGB = 3


def page_progress() -> PageProgress:
    """Makes the display of how many pages are done, and how long the others will take."""
    bars: list[Progress] = []

    def show(done: int, total: int, name: str) -> None:
        if not bars:
            bars.append(Progress(total, unit="pages"))
        bars[0].update(done)
        if done == total:
            bars[0].close()

    return show


def channels_of_images(
    trained: TrainedModel, given: Sequence[int | str] | None
) -> tuple[int | str, ...] | None:
    """Returns the channels that are chosen of images, if any are.

    Args:
      trained: the network, which was trained on some.
      given: the choice of the user, by number from 0 or by name.

    Returns:
      Those of the user, or else those of training; None where neither chooses.

    Raises:
      UserError: they are not as many as in training.
    """
    chosen = chosen_channels(trained.task.config.data)
    if given:
        chosen = tuple(given)
        if len(chosen) == 1 and trained.channels == RGB:
            chosen *= RGB  # as grey images are repeated for a network of RGB
        if len(chosen) != trained.channels:
            raise UserError(
                f"--channels={','.join(map(str, chosen))} chooses {len(chosen)}, but this "
                f"network was trained on {trained.channels}. Choose as many."
            )
    return chosen


@with_copies(read=["input"], write=["output"], first=MANIFEST)
def predict_run(
    workdir: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    best: bool = False,
    step: int | None = None,
    tile: int | None = None,
    channels: Sequence[int | str] | None = None,
    pages: Sequence[int] = (),
    probabilities: bool = False,
    overlay: bool = False,
    crf: bool = False,
    instances: bool = False,
    link: bool = False,
    outlines: str | Collection[str] = (),
    downscale: int | None = None,
    rescale: bool = False,
    overwrite: bool = False,
    progress: PageProgress | None = None,
    allow_code: Collection[str] = (),
    ensemble: Sequence[str | Path] = (),
    tiles_per_device: int | None = None,
    devices_per_image: int = 1,
) -> list[Path]:
    """Labels image files with a checkpoint of a run.

    Of a network that finds objects the label files number them, and `results.json`
    lists them in COCO's form (`segjax.tasks.instance.files`). Where the data set of the run
    made images smaller, so are these, by the same factor, and their labels enlarged again.

    Args:
      workdir: the folder of the run.
      input: an image, a stack, or a folder of them; also an address, such as s3://bucket/images.
      output: the folder to write to; likewise.
      best: whether the best checkpoint predicts instead of the newest.
      step: the step of the checkpoint, if neither of those.
      tile: output side of a tile in pixels, 0 for whole images; None chooses one.
      channels: which are taken of the images, by number from 0 or by name; None: as in
        training.
      pages: numbers of those that are predicted of each file, from 1; empty for all.
      probabilities: whether probabilities are written, too.
      overlay: whether overlays are written, too.
      crf: whether `config.crf` of the run refines the predictions.
      instances: whether objects are found in the pixels, numbered in label files of their
        own and listed in `objects.csv`.
      link: whether objects of neighbouring pages that overlap are one.
      outlines: in which forms the outlines of objects are written, too: "imagej", "geojson".
      downscale: factor by which images are made smaller for the network; None: that of
        the run's data set. Tiles are pixels of the smaller images.
      rescale: whether images are brought to the size of pixels of the training images.
      overwrite: whether files are replaced that segjax did not write, or that were
        changed since.
      progress: called after each finished page.
      allow_code: packages whose code may be imported where the config of the run names it.
      ensemble: further runs, whose probabilities are averaged with those of the first.
      tiles_per_device: tiles at a time for each device; None for one, and of networks that
        find objects for `config.evaluation.batch_size` on all of them.
      devices_per_image: devices that share the rows of each tile, or image.

    Returns:
      The label files.

    Raises:
      UserError: for anything that the user can put right.
    """
    trained = load_ensemble(
        (workdir, *ensemble), best=best, step=step, allow_code=allow_code
    )
    for flag, wanted in (
        ("probabilities", probabilities),
        ("crf", crf),
        ("downscale", downscale is not None),
        ("rescale", rescale),
    ):
        if wanted:
            require(trained.task, flag, f"--{flag}")
    if devices_per_image > 1:
        require(trained.task, "labels", "--devices_per_image")
    if rescale and downscale is not None:
        raise UserError(
            "--rescale and --downscale both say by how much images are made smaller: give "
            "one of them."
        )
    objects = None
    if instances:
        task = require(trained.task, "objects", "--instances")
        outlines = [outlines] if isinstance(outlines, str) else outlines
        objects = task.object_options(link=link, outlines=outlines)
    elif link or outlines:
        flag = "link" if link else "outlines"
        raise UserError(f"--{flag} is about objects: give --instances, too.")
    options = PredictOptions(
        tile=tile,
        channels=channels_of_images(trained, channels),
        pages=tuple(page - 1 for page in pages),
        downscale=downscale,
        rescale=rescale,
        probabilities=probabilities,
        overlay=overlay,
        crf=trained.refinement() if crf else None,
        objects=objects,
        overwrite=overwrite,
        progress=progress,
        spread=Spread(tiles_per_device, devices_per_image),
    )
    return trained.task.predict_files(trained, input, output, options)
