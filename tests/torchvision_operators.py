"""Lets torchvision's compiled operators load beside a PyTorch that knows no CUDA.

torchvision's wheel holds its operators for CPU and CUDA in one library, which asks for
symbols of CUDA's runtime and of PyTorch's CUDA half. On a CPU nothing ever calls them.
Here libraries of those names are compiled whose functions end the process; loaded first,
they are what the operators find. It takes a C compiler and `nm`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

LIBRARIES = ("libcudart.so.13", "libc10_cuda.so", "libtorch_cuda.so")
"""What the operators link with and a CPU build does not bring along."""

ALLOWED = ("__cudaRegister", "__cudaUnregister", "__cudaInitModule")
"""What is called when the library is loaded; it may do nothing."""


def provide() -> bool:
    """Loads the libraries that are missing; says whether the operators can load now."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    if torch.version.cuda is not None:
        return True
    operators = Path(spec.origin).parent / "_C.so"
    missing = [name for name in LIBRARIES if not _loads(name)]
    if not operators.is_file():
        return False
    if not missing:
        return True
    if not shutil.which("cc") or not shutil.which("nm"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        for name in missing:
            ctypes.CDLL(
                str(_compile(name, operators, Path(folder))), ctypes.RTLD_GLOBAL
            )
    return True


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _compile(library: str, operators: Path, folder: Path) -> Path:
    """Writes a library of one name that defines what the operators want of it."""
    of_runtime = library.startswith("libcudart")
    names = _wanted(operators, of_runtime) if library != LIBRARIES[1] else []
    body = [
        f"void *{name}(void) {{ {_answer(name)} }}" for name in dict.fromkeys(names)
    ]
    source, result = folder / f"{library}.c", folder / library
    source.write_text("#include <stdlib.h>\n" + "\n".join(body), encoding="utf-8")
    versions = folder / f"{library}.map"
    versions.write_text(f"{library} {{ global: *; }};\n", encoding="utf-8")
    command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", str(source)]
    if of_runtime:
        command.append(f"-Wl,--version-script={versions}")
    subprocess.run([*command, "-o", str(result)], check=True, capture_output=True)
    return result


def _wanted(operators: Path, of_runtime: bool) -> list[str]:
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", str(operators)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    symbols = re.findall(r"U (\S*cuda\S*)", listed, re.IGNORECASE)
    return [s.split("@")[0] for s in symbols if ("@" in s) == of_runtime]


def _answer(name: str) -> str:
    return "return 0;" if name.startswith(ALLOWED) else "abort();"
