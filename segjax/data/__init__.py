"""Images and labels: reading, checking, rendering, augmenting, batching.

`DATASETS[name](cache_dir=..., data_root=..., **arguments)` gives a `Dataset`. A module
is imported when its data set is asked for, so `import segjax.data` costs nothing.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from segjax.lazy import exports

if TYPE_CHECKING:
    from segjax.data.dataset import Dataset as Dataset
    from segjax.data.files.images import read_label as read_label
    from segjax.data.files.images import read_page as read_page
    from segjax.data.instance_spec import InstanceSpec as InstanceSpec
    from segjax.data.label_spec import LabelSpec as LabelSpec
    from segjax.data.normalization import normalize as normalize

__getattr__, __dir__ = exports(__name__)


UNLABELED = "unlabeled"
"""The key of the images without labels: of their group in `config.data`, of their split, and in
a batch.
"""


class _Entry(NamedTuple):
    """Facts about a data set that are known before its module is imported.

    Attributes:
      module: where its function is.
      channels: of its images; None where an argument of that name says it.
      synthetic: whether it is rendered by segjax, so that it needs no files of yours.
    """

    module: str
    channels: int | None = 3
    synthetic: bool = False


_ENTRIES = {
    "em_sections": _Entry(
        "segjax.data.datasets.synthetic.em_sections", channels=1, synthetic=True
    ),
    "isbi_em": _Entry("segjax.data.datasets.isbi_em", channels=1),
    "folder": _Entry("segjax.data.datasets.folder", channels=None),
    "shapes": _Entry("segjax.data.datasets.synthetic.shapes", synthetic=True),
    "camvid": _Entry("segjax.data.datasets.camvid"),
    "voc": _Entry("segjax.data.datasets.voc"),
    "cityscapes": _Entry("segjax.data.datasets.cityscapes"),
    "ade20k": _Entry("segjax.data.datasets.ade20k"),
    "instance_shapes": _Entry(
        "segjax.data.datasets.synthetic.instance_shapes", synthetic=True
    ),
    "stick_figures": _Entry(
        "segjax.data.datasets.synthetic.instance_shapes", synthetic=True
    ),
    "coco": _Entry("segjax.data.datasets.coco.dataset"),
    "instance_folder": _Entry("segjax.data.datasets.instance_folder"),
}


class _Datasets(Mapping[str, Callable[..., "Dataset"]]):
    """The function of each data set, which has the data set's name."""

    def __getitem__(self, name: str) -> Callable[..., Dataset]:
        return getattr(importlib.import_module(_ENTRIES[name].module), name)

    def __iter__(self) -> Iterator[str]:
        return iter(_ENTRIES)

    def __len__(self) -> int:
        return len(_ENTRIES)


DATASETS: Mapping[str, Callable[..., Dataset]] = _Datasets()
"""Data sets by name; each takes `cache_dir`, `data_root` and the config's arguments."""


def is_synthetic(name: str) -> bool:
    """Whether a data set is synthetic, so that it needs no files of yours.

    Example:
      >>> is_synthetic("shapes"), is_synthetic("camvid")
      (True, False)
    """
    return name in _ENTRIES and _ENTRIES[name].synthetic


def channels_of(group: Mapping[str, Any]) -> int:
    """Channels of the images that `config.data` names; no data are read.

    A data set from outside says them by an argument `channels`.

    Raises:
      UserError: if it does not.

    Example:
      >>> channels_of({"name": "isbi_em"}), channels_of({"name": "camvid"})
      (1, 3)
      >>> channels_of({"name": "folder", "channels": ("DAPI", "GFP")})
      2
    """
    from segjax import parts
    from segjax.errors import UserError

    name, where = group["name"], "config.data.name"
    function = parts.find(DATASETS, name, where)
    channels = _ENTRIES[name].channels if name in _ENTRIES else None
    if channels is None:
        if "channels" not in parts.inspect_arguments(function, where):
            raise UserError(
                f"{where} is {name!r}, which has no argument `channels`, so that they are not "
                "known before the data are read."
            )
        channels = parts.argument(function, group, "channels")
    return channels if isinstance(channels, int) else len(channels)


def chosen_channels(group: Mapping[str, Any]) -> tuple[int | str, ...] | None:
    """The channels that `config.data` chooses by number or name; None where it does not.

    Example:
      >>> chosen_channels({"name": "folder", "channels": ("DAPI", "GFP")})
      ('DAPI', 'GFP')
    """
    channels = group.get("channels", 1)
    return tuple(channels) if isinstance(channels, tuple | list) else None


def downscale_of(group: Mapping[str, Any]) -> int:
    """The factor by which the data set of `config.data` makes images smaller.

    Example:
      >>> downscale_of({"name": "camvid", "downscale": 2})
      2
    """
    if "downscale" in group:
        return group["downscale"]
    function = DATASETS.get(str(group.get("name")))
    known = inspect.signature(function).parameters if function else {}
    # Data sets without the argument leave images as large as they are; those from outside
    # do so, too, as prediction imports none of them.
    return known["downscale"].default if "downscale" in known else 1
