"""Keeping freed memory in the process, where giving it back costs more than it saves."""

from __future__ import annotations

import ctypes
import sys

_ROOM = 320 << 20
"""Bytes, beside a block, for what stays."""

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
    if (mallopt := _of_glibc("mallopt")) is None:
        return False
    options = {
        _ARENA_MAX: 1,  # the heaps of further arenas are too small for large blocks
        _MMAP_THRESHOLD: 1 << 30,
        _TRIM_THRESHOLD: (1 << 31) - 1,
        _TOP_PAD: 1 << 26,
    }
    return all(mallopt(name, value) == 1 for name, value in options.items())


def give_back_freed_memory() -> bool:
    """Returns to the system what is freed now: after a compilation, hundreds of megabytes.

    Returns:
      Whether anything was returned.
    """
    malloc_trim = _of_glibc("malloc_trim")
    return malloc_trim is not None and malloc_trim(0) == 1


def keep_together(size: int) -> None:
    """Leaves a hole in the heap for a block that is taken and freed at each step.

    It is larger, by room for what is small and stays, which the C library puts into holes:
    otherwise the block may soon not fit, and the heap grows by a second one. Until it is
    written to, the hole takes no memory. `configs/unet_folder.py` on pages of 4096x4096 peaked at
    1.8 GB instead of 2.5, with what `CompiledStep` does besides.

    Args:
      size: bytes of the block.
    """
    malloc, free = _of_glibc("malloc"), _of_glibc("free")
    if malloc is None or free is None:
        return
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    free(malloc(size + _ROOM))


def _of_glibc(name: str) -> ctypes._NamedFuncPointer | None:
    """A function of glibc; None where that is not the C library."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None
