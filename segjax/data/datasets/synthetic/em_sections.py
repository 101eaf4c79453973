"""Embedded data: rendered serial EM sections with labels, without any download.

Each split is rendered from volumes of its own, so nothing of the validation and test
cells was seen in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from segjax.data.dataset import Dataset
from segjax.data.datasets.prepare import open_builder, prepare, records, tfds
from segjax.data.datasets.synthetic.arguments import SPLITS, check_integer
from segjax.data.datasets.synthetic.em_rendering import render_volume
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError

LABEL_SPEC = LabelSpec(
    names=("membrane", "cell"), colors=((20, 20, 60), (235, 225, 190))
)
"""Class 0 is membrane and 1 the inside of a cell, as in the ISBI 2012 challenge."""

_VOLUME_SECTIONS = 12
SMALLEST = 64
"""Smallest side of a section, pixels."""


@dataclass(kw_only=True)
class EmSectionsConfig(tfds.core.BuilderConfig):
    """Everything that the rendered pictures depend on; its name states them all.

    Attributes:
      size: Side of a section in pixels.
      counts: Sections of "train", "validation" and "test".
      seed: Number of the rendering.
    """

    size: int
    counts: tuple[int, int, int]
    seed: int


class EmSections(tfds.core.GeneratorBasedBuilder):
    """Renders the sections and writes them as ArrayRecord.

    Features: `image` uint8 `[H, W, 1]`, `label` uint8 `[H, W]`, `cells` uint16
    `[H, W]` (the cell's number, the same through a volume; 0 on membrane), `name`.
    """

    VERSION = tfds.core.Version("1.0.0")  # to be raised whenever a rendering changes

    def _info(self) -> tfds.core.DatasetInfo:
        def plane(dtype: type, *channels: int) -> tfds.features.Tensor:
            shape = (None, None, *channels)
            return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")

        features = {
            "image": plane(np.uint8, 1),
            "label": plane(np.uint8),
            "cells": plane(np.uint16),
            "name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Rendered serial sections in the style of electron microscopy.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing to download
        return {name: self._generate_examples(name) for name in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        number = SPLITS.index(split)
        count = config.counts[number]
        for start in range(0, count, _VOLUME_SECTIONS):
            sections = render_volume(
                (config.seed, number, start),
                sections=min(_VOLUME_SECTIONS, count - start),
                height=config.size,
                width=config.size,
            )
            for i, section in enumerate(sections, start=start):
                yield (
                    i,
                    {
                        "image": section.image[..., None],
                        "label": section.label,
                        "cells": section.cells,
                        "name": f"{split}/{i:03d}",
                    },
                )


def em_sections(
    *,
    cache_dir: str | None = None,
    data_root: str | None = None,
    size: int = 320,
    train: int = 24,
    validation: int = 6,
    test: int = 8,
    seed: int = 0,
) -> Dataset:
    """Rendered EM sections of 4 nm pixels and 50 nm distance; rendered on first use.

    Each split consists of volumes of up to 12 serial sections, of its own. Records have
    `cells` besides: true cell numbers, uint16 `[H, W]`, 0 on membrane.

    Args:
      cache_dir: Where TFDS keeps data sets; None is its own default.
      data_root: Not needed; every data set is called with it.
      size: Side of a section in pixels, a multiple of 8, at least 64.
      train: Number of sections to train on.
      validation: Number of sections to choose by.
      test: Number of sections held out.
      seed: Number >= 0 of the rendering; another number, other tissue.

    Returns:
      The data set "em_sections" with its three splits.

    Raises:
      UserError: If a number is not allowed, or `cache_dir` cannot be written.
    """
    del data_root
    counts = (train, validation, test)
    for name, count in zip(SPLITS, counts, strict=True):
        check_integer(name, count, 1)
    check_integer("seed", seed, 0)
    check_integer("size", size, SMALLEST)
    if size % 8:
        raise UserError(f"config.data.size is {size}; it must be a multiple of 8.")
    shown = "_".join(f"{s}{n}" for s, n in zip(SPLITS, counts, strict=True))
    config = EmSectionsConfig(
        name=f"{size}x{size}_{shown}_seed{seed}", size=size, counts=counts, seed=seed
    )
    builder = open_builder(EmSections, cache_dir, config)
    prepare(builder)
    return Dataset(
        name="em_sections",
        label_spec=LABEL_SPEC,
        channels=1,
        splits={name: records(builder, name) for name in SPLITS},
    )
