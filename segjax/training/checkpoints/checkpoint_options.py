"""Which checkpoints Orbax keeps, and how it opens their folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orbax.checkpoint as ocp


class _Kept:
    """Which checkpoints Orbax keeps."""

    def __init__(self, to_keep: Callable[[Sequence[int]], set[int | None]]):
        self._to_keep = to_keep

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> list[bool]:
        """Answers for each checkpoint; Orbax asks it after each save."""
        kept = self._to_keep([info.step for info in checkpoints])
        return [info.step in kept for info in checkpoints]


def options_of(
    to_keep: Callable[[Sequence[int]], set[int | None]], read_only: bool
) -> ocp.CheckpointManagerOptions:
    """The options of Orbax's manager.

    Args:
      to_keep: gives those steps that are kept, of all that there are.
      read_only: whether nothing may be kept or deleted.

    Returns:
      The options.
    """
    return ocp.CheckpointManagerOptions(
        read_only=read_only,
        cleanup_tmp_directories=not read_only,
        preservation_policy=None if read_only else _Kept(to_keep),
        lightweight_initialize=True,  # else one damaged checkpoint hides the others
    )
