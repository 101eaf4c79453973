"""Images and labels: reading, checking, drawing, augmenting, batching.

`DATASETS[name](data_dir=..., manual_dir=..., **arguments)` gives a `Dataset`. A module
is imported when its data set is asked for, so `import segjax.data` costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from segjax.lazy import exports

if TYPE_CHECKING:
    from segjax.data.dataset import Dataset as Dataset
    from segjax.data.files.images import read_label as read_label
    from segjax.data.files.images import read_page as read_page
    from segjax.data.instance_spec import InstanceSpec as InstanceSpec
    from segjax.data.label_spec import LabelSpec as LabelSpec
    from segjax.data.normalization import normalize as normalize

__getattr__, __dir__ = exports(__name__)

_MODULES = {
    "em_sections": "segjax.data.datasets.synthetic.em_sections",
    "isbi_em": "segjax.data.datasets.isbi_em",
    "folder": "segjax.data.datasets.folder",
    "shapes": "segjax.data.datasets.synthetic.shapes",
    "camvid": "segjax.data.datasets.camvid",
    "voc": "segjax.data.datasets.voc",
    "cityscapes": "segjax.data.datasets.cityscapes",
    "ade20k": "segjax.data.datasets.ade20k",
    "instance_shapes": "segjax.data.datasets.synthetic.instance_shapes",
    "stick_figures": "segjax.data.datasets.synthetic.instance_shapes",
    "coco": "segjax.data.datasets.coco.dataset",
    "instance_folder": "segjax.data.datasets.instance_folder",
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
