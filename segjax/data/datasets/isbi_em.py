"""The ISBI 2012 challenge: neuronal membranes in serial section EM.

30 sections of 512 x 512 pixels of 4 x 4 x 50 nm with labels, 30 without. Albert Cardona
et al., PLoS Biology 8(10), 2010; Ignacio Arganda-Carreras et al., Frontiers in
Neuroanatomy 9:142, 2015. The challenge asks to be cited and allows non-commercial use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.datasets.prepare import (
    expanded,
    files_to_compare,
    open_builder,
    prepare,
    records,
    tfds,
)
from segjax.data.files.images import count_pages, read_label_pages, read_pages
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError

FILES = ("train-volume.tif", "train-labels.tif", "test-volume.tif")
SLICES = 30
SIDE = 512
VALIDATION_SLICES = (12, 13, 14, 27, 28, 29)
"""Blocks, as neighbours look alike; one of each half, as the halves look different."""

LABEL_SPEC = LabelSpec(
    names=("membrane", "cell"),
    colors=((0, 0, 0), (255, 255, 255)),
    ignore=None,
    remap=((255, 1),),
)

_SOURCE = (
    "They belong to the challenge 'Segmentation of neuronal structures in EM stacks' "
    "(ISBI 2012), whose organisers give them out"
)


def isbi_em(*, cache_dir: str | None, data_root: str | None) -> Dataset:
    """Returns the ISBI 2012 stack: 24 slices to train, 6 to validate, 30 unlabelled.

    Args:
      cache_dir: where the prepared data set lies or goes; None is TFDS's own folder.
      data_root: folder with `train-volume.tif`, `train-labels.tif` and
        `test-volume.tif`; needed the first time only, and where it is given later its
        files must be the original ones.

    Returns:
      A `Dataset` with "train", "validation" (slices 12 to 14 and 27 to 29) and "test"
      (no labels). Records also have their `slice`; names are like "train-volume/012".

    Raises:
      UserError: a file is missing, damaged, or not what the challenge gives out, or the
        data set was prepared from others.
    """
    manual = expanded(data_root)
    builder = open_builder(IsbiEm, cache_dir)
    prepare(builder, manual, files_to_compare(builder, manual, _files))
    splits = {name: records(builder, name) for name in builder.info.splits}
    return Dataset("isbi_em", LABEL_SPEC, channels=1, splits=splits)


class IsbiEm(tfds.core.GeneratorBasedBuilder):
    """Writes the three stacks as records, slice by slice and in order.

    Record features: `image` `[512, 512, 1]` uint8, `label` `[512, 512]` uint8 with 0
    membrane and 1 cell (`[0, 512]` in the test split), `slice` int32 and `name`.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {', '.join(FILES)} there. {_SOURCE}."

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="ISBI 2012: membranes in serial section EM of Drosophila.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(SIDE, SIDE, 1), dtype=np.uint8, encoding="bytes"
                    ),
                    "label": tfds.features.Tensor(
                        shape=(None, SIDE), dtype=np.uint8, encoding="bytes"
                    ),
                    "slice": np.int32,
                    "name": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        train, label, test = (Path(dl_manager.manual_dir) / name for name in FILES)
        for path in (train, label, test):
            _require_slices(path)
        validation = VALIDATION_SLICES
        training = tuple(i for i in range(SLICES) if i not in validation)
        return {
            "train": self._generate_examples(train, label, training),
            "validation": self._generate_examples(train, label, validation),
            "test": self._generate_examples(test, None, tuple(range(SLICES))),
        }

    def _generate_examples(
        self, volume: Path, labels: Path | None, slices: tuple[int, ...]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        with contextlib.ExitStack() as stack:
            images = stack.enter_context(contextlib.closing(read_pages(volume)))
            ids = stack.enter_context(contextlib.closing(_label_ids(labels)))
            for i, (image, label) in enumerate(zip(images, ids, strict=True)):
                _require_section(volume, i, image)
                if i in slices:
                    name = f"{volume.stem}/{i:03d}"
                    yield i, {"image": image, "label": label, "slice": i, "name": name}


def _label_ids(path: Path | None) -> Generator[np.ndarray, None, None]:
    """Yields the class ids of every slice, `[0, 512]` where there are no labels."""
    if path is None:
        yield from np.zeros((SLICES, 0, SIDE), np.uint8)
        return
    with contextlib.closing(read_label_pages(path)) as labels:
        for i, raw in enumerate(labels):
            if raw.shape != (SIDE, SIDE):
                raise UserError(_not_the_challenge(path, f"slice {i} is {_size(raw)}"))
            where = f"{path}, slice {i},"
            yield LABEL_SPEC.to_ids(raw, where, remappable=False)


def _files(data_root: Path | None) -> list[Path]:
    """The three stacks; all of them are there."""
    if data_root is None:
        raise UserError(
            f"isbi_em needs {', '.join(FILES)}. {_SOURCE}; name their folder with "
            "--data_root."
        )
    missing = [name for name in FILES if not (data_root / name).is_file()]
    if missing:
        raise UserError(
            f"isbi_em needs {', '.join(FILES)} in {data_root}, where "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. "
            f"{_SOURCE}; put them there or name their folder with --data_root."
        )
    return [data_root / name for name in FILES]


def _require_slices(path: Path) -> None:
    count = count_pages(path)
    if count != SLICES:
        raise UserError(_not_the_challenge(path, f"it has {count} pages"))


def _require_section(path: Path, index: int, image: np.ndarray) -> None:
    if image.shape != (SIDE, SIDE, 1) or image.dtype != np.uint8:
        found = f"slice {index} is {_size(image)}, {image.dtype}"
        raise UserError(_not_the_challenge(path, found))


def _size(image: np.ndarray) -> str:
    return " x ".join(map(str, image.shape))


def _not_the_challenge(path: Path, found: str) -> str:
    return (
        f"{path} is not the stack of the ISBI 2012 challenge: {found}, where {SLICES} "
        f"pages of {SIDE} x {SIDE} grey pixels (uint8) belong. Put the original file "
        "there, or read stacks of your own with the data set 'folder'."
    )
