"""How long an import of real size takes, and how much memory.

    python benchmarks/import_weights.py

Draws a state dict of torchvision's `deeplabv3_resnet101` with its auxiliary head (244 MB
as safetensors), and imports it with `python -m segjax.main import` in a process of its
own, whose wall time and largest resident memory are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import results
import safetensors.numpy

ROOT = Path(__file__).resolve().parent.parent
SECONDS, GIGABYTES = 20.0, 2.0
"""The time and memory that an import may take."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="torchvision/deeplabv3_resnet101")
    parser.add_argument("--output", default=str(results.FOLDER))
    options = parser.parse_args()
    result = results.environment("cpu")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        safetensors.numpy.save_file(random_state_dict(options.source), file)
        result |= {"source": options.source, "file_bytes": file.stat().st_size}
        result |= measure(options.source, file, Path(folder) / "run")
    result |= {"seconds_allowed": SECONDS, "gigabytes_allowed": GIGABYTES}
    print(f"{result['seconds']:.1f} s, {result['gigabytes']:.2f} GB")
    results.save("import_weights", result, options.output)
    if result["seconds"] > SECONDS or result["gigabytes"] > GIGABYTES:
        sys.exit("more than an import may take")


def random_state_dict(source: str) -> dict[str, np.ndarray]:
    """Weights of the names and shapes that torchvision gives."""
    tests = ROOT / "tests"
    with np.load(tests / "golden" / "pretrained.npz") as arrays:
        shapes = json.loads(arrays[f"{source} shapes"].tobytes())
    make = runpy.run_path(str(tests / "pretrained" / "random_weights.py"))["state_dict"]
    return make({name: tuple(shape) for name, shape in shapes.items()})


def measure(source: str, file: Path, workdir: Path) -> dict[str, float]:
    """Imports in a process of its own."""
    command = [sys.executable, "-m", "segjax.main", "import"]
    command += [f"--source={source}", f"--weights={file}", f"--workdir={workdir}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    began = time.perf_counter()
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if ended.returncode:
        sys.exit(ended.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "gigabytes": used.ru_maxrss * 1024 / 1e9,
    }


if __name__ == "__main__":
    main()
