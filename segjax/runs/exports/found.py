"""What is exported as a program or a graph, and where it goes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from segjax.errors import UserError
from segjax.export.functions import PixelFunction, PixelNetwork, image_function
from segjax.export.objects import ObjectNetwork, object_function
from segjax.output.folder import Outputs
from segjax.pretrained.files import file_sha256
from segjax.runs.exports.model import card, portable, portable_config, suggested
from segjax.runs.load import TrainedModel, load_trained
from segjax.runs.model_file import find_model_file
from segjax.training.about import IMAGE_DTYPES
from segjax.training.task import require

log = logging.getLogger("segjax")

DTYPES = ("uint8", "uint16", "float32")
"""Types of images that programs are made for."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """What is exported, and where it goes.

    Attributes:
      trained: the network.
      network: it, with all that `predict` does around it.
      classes_overlap: whether a pixel can be of several classes.
      dtype: of the images.
      outputs: the file, which nothing of the user's is lost for.
      path: of it.
      description: what the card says first.
    """

    trained: TrainedModel
    network: PixelNetwork | ObjectNetwork
    classes_overlap: bool
    dtype: np.dtype
    outputs: Outputs
    path: Path
    description: str

    def functions(
        self,
        image_size: tuple[int, int] | None,
        of_any_size: Callable[[PixelNetwork, np.dtype], list[PixelFunction]],
    ) -> list[PixelFunction]:
        """The functions that the network can be exported as, the better one first.

        Args:
          image_size: height and width of the images, if they are of one size.
          of_any_size: makes those of a network that labels pixels, if they are not.

        Returns:
          The functions.

        Raises:
          UserError: if there is none.
        """
        if isinstance(self.network, ObjectNetwork):
            return [object_function(self.network, image_size, self.dtype)]
        if image_size:
            return [image_function(self.network, image_size, self.dtype)]
        return of_any_size(self.network, self.dtype)

    @property
    def about(self) -> dict[str, Any]:
        """What is known of classes and weights, JSON."""
        spec = self.trained.label_spec
        return {
            "classes": list(spec.names),
            "colors": [list(color) for color in spec.colors],
            "classes_overlap": self.classes_overlap,
            "step": self.trained.step,
            "parameters_sha256": self.trained.parameters_sha256,
        }

    def card(self, use: Sequence[str]) -> str:
        """Says for people what is exported, and how it is used, in Markdown."""
        config: ml_collections.ConfigDict = portable_config(self.trained.task.config)
        about = portable(self.trained.about)
        return card(self.trained, config, about, self.description, use)

    def written(self, pixels: PixelFunction) -> dict[str, Any]:
        """What the command says of the file, once it is written."""
        channels = self.trained.channels
        return {
            "file": str(self.path),
            "bytes": self.path.stat().st_size,
            "sha256": file_sha256(self.path),
            "step": self.trained.step,
            "kind": pixels.about["kind"],
            "image": [*pixels.image_size, channels, str(self.dtype)],
        }


def find_exported(
    run: str | Path,
    output: str | Path,
    suffix: str,
    *,
    format_name: str,
    best: bool = True,
    step: int | None = None,
    image_size: tuple[int, int] | None = None,
    dtype: str | None = None,
    crf: bool = False,
    description: str = "",
    overwrite: bool = False,
    allow_code: Collection[str] = (),
    objects: bool = False,
) -> Exported:
    """Loads what is to be exported, and finds that it can be written; nothing is traced yet.

    Args:
      run: the folder of the run, a model file, or the name of a model that comes with segjax.
      output: the file.
      suffix: of files of this format.
      format_name: that of the flag --format.
      best: whether the best checkpoint of a run is written instead of the newest.
      step: the step of the checkpoint, if neither of those.
      image_size: height and width of the images, if they are of one size.
      dtype: of the images, one of `DTYPES`; None: that of the training images.
      crf: whether `config.crf` of the run refines the answers.
      description: what the card says first.
      overwrite: whether a file of the user is replaced.
      allow_code: packages whose code may be imported where the config of the run names it.
      objects: whether the format is also for networks that find objects.

    Returns:
      The network and the place of the file.

    Raises:
      UserError: for anything that the user can put right.
    """
    output = Path(output).expanduser()
    if not output.name.endswith(suffix):
        raise UserError(
            f"--output={output} does not end in {suffix}, as files of --format={format_name} "
            f"do: give, for example, {suggested(output, suffix)}."
        )
    file = find_model_file(run)
    best = best and file is None
    trained = load_trained(run, best=best, step=step, allow_code=allow_code)
    finds_objects = objects and "instances" in trained.task.capabilities
    needed = "instances" if finds_objects else "labels"
    task = require(trained.task, needed, f"--format={format_name}")
    stored = np.dtype(_dtype(trained, dtype))
    refinement = _refinement(trained, stored, image_size) if crf else None
    network: PixelNetwork | ObjectNetwork
    if finds_objects:
        network = task.object_network(trained.variables, trained.channels)
    else:
        network = task.pixel_network(trained.variables, trained.channels, refinement)
    overlap = not finds_objects and task.head.overlaps
    made_of = file or Path(run)
    outputs = Outputs(
        output.parent, [(output.name, made_of)], inputs=[made_of], overwrite=overwrite
    )
    return Exported(trained, network, overlap, stored, outputs, output, description)


def _dtype(trained: TrainedModel, given: str | None) -> str:
    """The type of images: that which is asked for, or that of the training images."""
    if given is not None:
        if given not in DTYPES:
            raise UserError(f"dtype is {given!r}; use one of {', '.join(DTYPES)}.")
        return given
    known = trained.about.get(IMAGE_DTYPES)
    if not isinstance(known, list):  # a run from before it was kept
        known = [] if trained.max_intensity is None else ["uint16"]
    if len(known) == 1 and known[0] in DTYPES:
        log.info("The program is for images of %s, as in training.", known[0])
        return known[0]
    if known:
        why = f"was trained on images of {' and '.join(map(str, known))}"
    else:
        why = "does not state the type of its training images"
    raise UserError(
        f"The network {why}, and a program is for images of one of {', '.join(DTYPES)}: give "
        "--dtype=uint8, or what your images are."
    )


def _refinement(
    trained: TrainedModel, dtype: np.dtype, image_size: tuple[int, int] | None
) -> Any:
    """The CRF of `--crf`, where a program can hold it."""
    refinement = trained.refinement()
    if image_size is None:
        raise UserError(
            "--crf relates all pixels of an image, so a program that has it is for images of "
            "one size: give --image_size=HEIGHT,WIDTH, too."
        )
    if dtype == np.float32:
        raise UserError(
            "--crf compares colours as they are stored, which images of float32 do not have: "
            "give --dtype=uint8 or --dtype=uint16."
        )
    if dtype == np.uint16 and refinement.max_intensity is None:
        raise UserError(
            "--crf of images of 16 bits needs to know their largest value, which the run does "
            "not: put config.crf.max_intensity, such as 4095, into its config.json."
        )
    return refinement
