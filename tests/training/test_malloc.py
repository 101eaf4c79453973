"""The allocator's options, in a process of their own."""

import subprocess
import sys

import pytest

TOUCH = """
import ctypes, resource, sys
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def touch():
    block = libc.malloc(1 << 26)
    ctypes.memset(block, 1, 1 << 26)
    libc.free(block)

def print_faults(*_):
    touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        touch()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

FUNCTION = """
from segjax.training.malloc import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
print_faults()
"""

COMMAND = """
import threading
from segjax import main
from segjax.commands.program import Program

def run(_):
    for _ in range(4):  # heaps are dealt out in turns
        thread = threading.Thread(target=print_faults)
        thread.start()
        thread.join()

Program.run = run
main.run()
"""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="options of glibc"
)


def faults(program, *arguments):
    command = [sys.executable, "-c", TOUCH + program, *arguments]
    done = subprocess.run(command, capture_output=True, check=True)
    return [int(line) for line in done.stdout.split()]


def test_memory_that_was_freed_is_used_again_without_page_faults():
    (kept,), (returned,) = faults(FUNCTION, "keep"), faults(FUNCTION)
    assert kept < 100 < returned


def test_threads_of_the_command_line_keep_freed_memory_too():
    found = faults(COMMAND)
    assert len(found) == 4
    assert max(found) < 100


GIVEN_BACK = """
from segjax.training.malloc import give_back_freed_memory, keep_freed_memory, keep_together

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

keep_freed_memory()
keep_together(1 << 26)
before = resident()
touch()
print(resident() - before)
give_back_freed_memory()
print(resident() - before)
"""


def test_what_a_compilation_freed_goes_back_to_the_system():
    kept, rest = faults(GIVEN_BACK)
    assert 60 < kept < 80
    assert rest < 10
