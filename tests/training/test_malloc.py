"""The allocator's options, in a process of their own."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from segjax.training.malloc import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def touch():
    block = libc.malloc(1 << 26)
    ctypes.memset(block, 1, 1 << 26)
    libc.free(block)

touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="options of glibc")
def test_memory_that_was_freed_is_used_again_without_page_faults():
    def faults(*arguments):
        command = [sys.executable, "-c", PROGRAM, *arguments]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    kept, returned = faults("keep"), faults()
    assert kept < 100 < returned
