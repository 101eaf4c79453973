"""Images and labels: reading, checking, drawing, augmenting, batching.

`DATASETS[name](data_dir=..., manual_dir=..., **arguments)` gives a `Dataset`. A module
is imported when its data set is asked for, so `import segjax.data` costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.data.dataset import Dataset

_MODULES = {
    "em_sections": "segjax.data.builders.em_sections",
    "isbi_em": "segjax.data.builders.isbi_em",
    "folder": "segjax.data.folder",
    "shapes": "segjax.data.builders.shapes",
    "camvid": "segjax.data.builders.camvid",
    "voc": "segjax.data.builders.voc",
    "cityscapes": "segjax.data.builders.cityscapes",
    "ade20k": "segjax.data.builders.ade20k",
    "instance_shapes": "segjax.data.builders.instance_shapes",
    "stick_figures": "segjax.data.builders.instance_shapes",
    "coco": "segjax.data.builders.coco",
    "instance_folder": "segjax.data.builders.instance_folder",
}


class _Datasets(Mapping[str, Callable[..., "Dataset"]]):
    """The function of each data set, which has the data set's name."""

    def __getitem__(self, name: str) -> Callable[..., Dataset]:
        return getattr(importlib.import_module(_MODULES[name]), name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


DATASETS: Mapping[str, Callable[..., Dataset]] = _Datasets()
"""Data sets by name; each takes `data_dir`, `manual_dir` and the config's arguments."""

_GREY = ("em_sections", "isbi_em")
DRAWN = ("em_sections", "shapes", "instance_shapes", "stick_figures")
"""Data sets that need no files of yours."""


def channels_of(group: Mapping[str, Any]) -> int:
    """Channels of the images that `config.data` names; no data are read.

    Example:
      >>> channels_of({"name": "isbi_em"}), channels_of({"name": "camvid"})
      (1, 3)
    """
    if group["name"] == "folder":
        return group.get("channels", 1)
    return 1 if group["name"] in _GREY else 3
