"""Embedded data in colour: rendered scenes with labels, without any download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from segjax.data.dataset import Dataset
from segjax.data.datasets.prepare import open_builder, prepare, records, tfds
from segjax.data.datasets.synthetic.arguments import SPLITS, check_integer
from segjax.data.datasets.synthetic.shape_scenes import KINDS, render_scene
from segjax.data.datasets.tensors import description
from segjax.data.label_spec import LabelSpec

LABEL_SPEC = LabelSpec(
    names=KINDS,
    colors=(
        (40, 44, 52),
        (228, 87, 70),
        (70, 130, 220),
        (240, 200, 70),
        (90, 190, 110),
    ),
)
"""Class 0 is the background; the outlines of objects are ignored."""

SMALLEST = 16


@dataclass(kw_only=True)
class ShapesConfig(tfds.core.BuilderConfig):
    """Everything that the rendered pictures depend on; its name states them all.

    Attributes:
      size: Side of a scene in pixels.
      counts: Scenes of "train", "validation" and "test".
      seed: Number of the rendering.
    """

    size: int
    counts: tuple[int, int, int]
    seed: int


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Renders the scenes and writes them as ArrayRecord.

    Features: `image` uint8 `[H, W, 3]`, `label` uint8 `[H, W]`, `name`.
    """

    VERSION = tfds.core.Version("1.0.0")  # to be raised whenever a rendering changes

    def _info(self) -> tfds.core.DatasetInfo:
        return description(self, "Rendered scenes of four kinds of objects.")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing to download
        return {name: self._generate_examples(name) for name in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config, number = self.builder_config, SPLITS.index(split)
        for i in range(config.counts[number]):
            scene = render_scene((config.seed, number, i), config.size)
            name = f"{split}/{i:04d}"
            yield i, {"image": scene.image, "label": scene.label, "name": name}


def shapes(
    *,
    cache_dir: str | None = None,
    data_root: str | None = None,
    size: int = 96,
    train: int = 64,
    validation: int = 16,
    test: int = 16,
    seed: int = 0,
) -> Dataset:
    """Rendered scenes in colour, five classes: background, disc, box, triangle and ring.

    Every kind is rendered at least once a scene, later ones over earlier ones. Rendered on
    first use, about 5 ms a scene of 96 x 96 pixels.

    Args:
      cache_dir: Where TFDS keeps data sets; None is its own default.
      data_root: Not needed; every data set is called with it.
      size: Side of a scene in pixels, at least 16; objects have 0.2 to 0.4 of it.
      train: Number of scenes to train on.
      validation: Number of scenes to choose by.
      test: Number of scenes held out.
      seed: Number >= 0 of the rendering; another number, other scenes.

    Returns:
      The data set "shapes" with its three splits.

    Raises:
      UserError: If a number is not allowed, or `cache_dir` cannot be written.
    """
    del data_root
    counts = (train, validation, test)
    for name, count in zip(SPLITS, counts, strict=True):
        check_integer(name, count, 1)
    check_integer("seed", seed, 0)
    check_integer("size", size, SMALLEST)
    numbers = "_".join(f"{s}{n}" for s, n in zip(SPLITS, counts, strict=True))
    config = ShapesConfig(
        name=f"{size}_{numbers}_seed{seed}", size=size, counts=counts, seed=seed
    )
    builder = open_builder(Shapes, cache_dir, config)
    prepare(builder)
    splits = {name: records(builder, name) for name in SPLITS}
    return Dataset("shapes", LABEL_SPEC, channels=3, splits=splits)
