"""A data set as the rest of segjax sees it: splits of records, and what labels mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segjax.data.label_spec import LabelSpec
from segjax.types import Record


@dataclass(frozen=True)
class Dataset:
    """Records by split, with the meaning of their labels.

    A record is a mapping with `image` `[H, W, C]` uint8 or uint16, `label` `[H, W]`
    uint8 (class ids, `IGNORE_LABEL` where a pixel does not count) and `name`. A test
    split whose labels nobody published has no `label`. Arrays may be read-only.

    Attributes:
      name: key in `DATASETS`.
      label_spec: names and colours of the classes.
      channels: channels of every image, C.
      splits: records of "train", "validation" and, where there is one, "test".
    """

    name: str
    label_spec: LabelSpec
    channels: int
    splits: Mapping[str, Sequence[Record]]
