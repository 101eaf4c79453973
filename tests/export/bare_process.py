"""A process that runs programs, in which nothing can be imported but JAX, NumPy and the loader.

    python -I bare_process.py FOLDER_OF_THE_LOADER

Each line that it reads is JSON: the file of a `program`, an `image` as an `.npy`, the file of
the `answers`, an `.npz` with each of the `outputs`. It answers "done", or what was wrong.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import sys
from collections.abc import Sequence
from types import ModuleType

ALLOWED = {"jax", "numpy", "loader"} | {"jaxlib", "ml_dtypes", "opt_einsum", "scipy"}
"""The last four are what JAX needs."""


class Bare(importlib.machinery.PathFinder):
    """Finds no package but those that are allowed, and those of Python itself."""

    @classmethod
    def find_spec(
        cls,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        first = fullname.partition(".")[0]
        is_of_python = first in sys.stdlib_module_names or first.startswith(
            "_sysconfig"
        )
        if first in ALLOWED or is_of_python:
            return super().find_spec(fullname, path, target)
        return None


def main() -> None:
    builtin, frozen = (
        importlib.machinery.BuiltinImporter,
        importlib.machinery.FrozenImporter,
    )
    sys.meta_path[:] = [builtin, frozen, Bare]
    for name in ("segjax", "flax"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        raise SystemExit(f"{name} can be imported")
    sys.path.append(sys.argv[1])
    import loader
    import numpy as np

    for line in sys.stdin:
        asked = json.loads(line)
        try:
            program = loader.load(asked["program"], batch_size=asked["batch_size"])
            image = np.load(asked["image"])
            answers = program(image, asked["outputs"])
        except loader.ProgramError as error:
            print(error, flush=True)
        else:
            np.savez(asked["answers"], **answers)
            print("done", flush=True)


if __name__ == "__main__":
    main()
