"""Keeping freed memory in the process, where giving it back costs more than it saves."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""Names of the options in glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Tells the C library to keep what XLA frees, as the next step needs it again.

    By default glibc maps each large block anew and returns it after each step, so a
    training step on CPU touches all its memory for the first time: for the network of
    `configs/unet_em.py:isbi` 108,000 page faults a step, 0.36 s of system time in 1.4 s.
    With these options there are none. It is a setting of the whole process, hence for
    programs: nothing in the library calls it. Call it before any thread starts: one that has
    a heap of its own by then keeps it, and leaves it to the next thread.

    Returns:
      Whether it took effect; other C libraries than glibc are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    options = {
        _ARENA_MAX: 1,  # the heaps of further arenas are too small for large blocks
        _MMAP_THRESHOLD: 1 << 30,
        _TRIM_THRESHOLD: (1 << 31) - 1,
        _TOP_PAD: 1 << 26,
    }
    return all(mallopt(name, value) == 1 for name, value in options.items())
