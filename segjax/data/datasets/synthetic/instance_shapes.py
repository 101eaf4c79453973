"""Embedded data of objects: rendered scenes and stick figures, without any download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from segjax.data.dataset import Dataset
from segjax.data.datasets.prepare import open_builder, prepare, tfds
from segjax.data.datasets.synthetic.arguments import SPLITS, check_integer
from segjax.data.datasets.synthetic.instance_scenes import (
    SHAPES,
    InstanceScene,
    render_shapes,
)
from segjax.data.datasets.synthetic.stick_figures import (
    BONES,
    JOINTS,
    SIGMA,
    render_figures,
)
from segjax.data.files.palette import Color
from segjax.data.instance.records import description, from_masks, records, stored
from segjax.data.instance_spec import InstanceSpec, KeypointSpec
from segjax.data.label_spec import LabelSpec

SMALLEST = 32
LARGEST_COUNT = 100
"""Of objects in a scene; they hardly fit beyond."""

JOINT_SPEC = KeypointSpec(JOINTS, BONES, (SIGMA,) * len(JOINTS))

_COLORS: tuple[Color, ...] = (
    (40, 44, 52),
    (228, 87, 70),
    (70, 130, 220),
    (240, 200, 70),
)
_DRAW: dict[str, Callable[..., InstanceScene]] = {
    "shapes": render_shapes,
    "figures": render_figures,
}


@dataclass(kw_only=True)
class InstanceShapesConfig(tfds.core.BuilderConfig):
    """Everything that the rendered pictures depend on; its name states them all.

    Attributes:
      subject: "shapes" or "figures".
      size: side of a scene in pixels.
      num_kinds: classes of objects.
      max_instances: largest number of objects in a scene.
      counts: scenes of "train", "validation" and "test".
      seed: number of the rendering.
    """

    subject: str
    size: int
    num_kinds: int
    max_instances: int
    counts: tuple[int, int, int]
    seed: int


class InstanceShapes(tfds.core.GeneratorBasedBuilder):
    """Renders the scenes and writes them as ArrayRecord (`instance_records`)."""

    VERSION = tfds.core.Version("1.0.0")  # to be raised whenever a rendering changes

    def _info(self) -> tfds.core.DatasetInfo:
        joints = len(JOINTS) if self.builder_config.subject == "figures" else 0
        return description(self, "Rendered scenes of overlapping objects.", joints)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing to download
        return {name: self._generate_examples(name) for name in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config, number = self.builder_config, SPLITS.index(split)
        first = sum(config.counts[:number])
        for i in range(config.counts[number]):
            scene = _DRAW[config.subject](
                (config.seed, number, i),
                config.size,
                num_kinds=config.num_kinds,
                max_instances=config.max_instances,
            )
            record = from_masks(
                scene.image,
                scene.masks,
                scene.classes,
                name=f"{split}/{i:04d}",
                image_id=first + i + 1,
                keypoints=scene.keypoints,
            )
            yield i, stored(record)


def instance_shapes(
    *,
    cache_dir: str | None = None,
    data_root: str | None = None,
    size: int = 128,
    num_kinds: int = 3,
    max_instances: int = 5,
    train: int = 512,
    validation: int = 64,
    test: int = 64,
    seed: int = 0,
) -> Dataset:
    """Rendered scenes of overlapping discs, squares and triangles, each object a mask.

    Rendered on first use, about 5 ms a scene of 128 x 128 pixels. Masks are what is visible
    of each object, at least 0.4 of it.

    Args:
      cache_dir: where TFDS keeps data sets; None is its own default.
      data_root: not needed; every data set is called with it.
      size: side of a scene in pixels, at least 32; objects have 0.17 to 0.4 of it.
      num_kinds: 3 classes for the three kinds, 2 for discs and squares alone, 1 for
        objects of any kind in one class, "object".
      max_instances: largest number of objects in a scene, at most 100; the smallest is 1.
      train: number of scenes to train on.
      validation: number of scenes to choose by.
      test: number of scenes held out.
      seed: number >= 0 of the rendering; another number, other scenes.

    Returns:
      The data set "instance_shapes"; class 0 of its names is the background.

    Raises:
      UserError: if a number is not allowed, or `cache_dir` cannot be written.
    """
    del data_root
    check_integer("num_kinds", num_kinds, 1, len(SHAPES))
    names = ("object",) if num_kinds == 1 else SHAPES[:num_kinds]
    counts = (train, validation, test)
    splits = _prepared(
        "shapes", cache_dir, size, num_kinds, max_instances, counts, seed
    )
    spec = LabelSpec(("background", *names), _COLORS[: 1 + num_kinds], ignore=None)
    objects = InstanceSpec(tuple(range(1, 1 + num_kinds)))
    return Dataset("instance_shapes", spec, 3, splits, objects)


def stick_figures(
    *,
    cache_dir: str | None = None,
    data_root: str | None = None,
    size: int = 128,
    max_instances: int = 2,
    train: int = 512,
    validation: int = 64,
    test: int = 64,
    seed: int = 0,
) -> Dataset:
    """Rendered stick figures of one class, "figure", with a mask and 11 joints each.

    Args:
      cache_dir: where TFDS keeps data sets; None is its own default.
      data_root: not needed; every data set is called with it.
      size: side of a scene in pixels, at least 32; figures are 0.4 to 0.7 of it high.
      max_instances: largest number of figures in a scene, at most 100; the smallest is 1.
      train: number of scenes to train on.
      validation: number of scenes to choose by.
      test: number of scenes held out.
      seed: number >= 0 of the rendering; another number, other scenes.

    Returns:
      The data set "stick_figures"; `instances.keypoints` names its joints.

    Raises:
      UserError: if a number is not allowed, or `cache_dir` cannot be written.
    """
    del data_root
    counts = (train, validation, test)
    splits = _prepared("figures", cache_dir, size, 1, max_instances, counts, seed)
    spec = LabelSpec(("background", "figure"), _COLORS[:2], ignore=None)
    return Dataset("stick_figures", spec, 3, splits, InstanceSpec((1,), JOINT_SPEC))


def _prepared(
    subject: str,
    cache_dir: str | None,
    size: int,
    num_kinds: int,
    max_instances: int,
    counts: tuple[int, int, int],
    seed: int,
) -> dict[str, Any]:
    """Renders what is not there yet, and returns the records of each split."""
    for name, count in zip(SPLITS, counts, strict=True):
        check_integer(name, count, 1)
    check_integer("seed", seed, 0)
    check_integer("size", size, SMALLEST)
    check_integer("max_instances", max_instances, 1, LARGEST_COUNT)
    shown = "_".join(f"{s}{n}" for s, n in zip(SPLITS, counts, strict=True))
    config = InstanceShapesConfig(
        name=f"{subject}{num_kinds}_{size}_most{max_instances}_{shown}_seed{seed}",
        subject=subject,
        size=size,
        num_kinds=num_kinds,
        max_instances=max_instances,
        counts=counts,
        seed=seed,
    )
    builder = open_builder(InstanceShapes, cache_dir, config)
    prepare(builder)
    return {name: records(builder, name) for name in SPLITS}
