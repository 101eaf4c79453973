"""What is installed here, what the machine has, and what is missing."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from packaging.requirements import Requirement

import segjax
from segjax.training.sharding import Devices

_EXTRAS = {
    "onnx": "onnx",
    "tensorboard": "tensorboard",
    "tiff": "imagecodecs",
    "wandb": "wandb",
}
"""Extras for all platforms, and the package that each brings."""

_DEVICE_FILES = {
    "an NVIDIA GPU": ("/dev/nvidia0", "cuda12"),
    "a TPU": ("/dev/accel0", "tpu"),
}
"""Files by which Linux shows an accelerator, and the extra for it."""

_LEAST_FREE = 2 * 2**30
"""Bytes on the disk of the caches and of runs below which a word is said."""

_SIDE = 128
"""Of the matrices that a device multiplies."""

_LARGEST_ERROR = 0.02
"""Relative, of a product of float32 on a device; TPUs round its factors to bfloat16."""


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
      rows: of each group, such as "devices", pairs of a name and what it is.
      remarks: sentences on what is missing but not needed.
      faults: sentences on what is wrong, with what to do.
    """

    rows: dict[str, list[tuple[str, str]]]
    remarks: list[str]
    faults: list[str]


def examine() -> Findings:
    """Looks at packages, devices, memory and disk; each device computes a product."""
    found = Findings({}, [], [])
    found.rows["segjax"] = [
        ("version", segjax.__version__),
        ("place", str(Path(segjax.__file__).parent)),
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("machine", f"{platform.system()} {platform.machine()}, {_cores()} cores"),
        ("memory", _gigabytes(_memory())),
    ]
    found.rows["packages"] = list(_packages(found))
    found.rows["devices"] = list(_devices(found))
    found.rows["disk"] = list(_disk(found))
    return found


def text_of(found: Findings) -> str:
    """The findings as lines for a terminal.

    Example:
      >>> print(text_of(Findings({"disk": [("here", "3.0 GB")]}, [], ["It is full."])))
      disk
        here  3.0 GB
      <BLANKLINE>
      It is full.
    """
    lines = []
    for group, rows in found.rows.items():
        width = max((len(name) for name, _ in rows), default=0)
        lines += [group, *(f"  {name:{width}}  {text}" for name, text in rows), ""]
    lines += found.remarks
    lines += found.faults or ["Everything that segjax needs is here."]
    return "\n".join(lines)


def _packages(found: Findings) -> Iterator[tuple[str, str]]:
    """The versions of what segjax needs, and of the extras."""
    try:
        wanted = metadata.requires("segjax") or []
    except metadata.PackageNotFoundError:
        wanted = []
        found.remarks.append(
            "segjax is not installed, but imported from a folder: pip install -e . there "
            "makes `segjax` a command."
        )
    for requirement in map(Requirement, wanted):
        name = requirement.name
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if (version := _version(name)) is None:
            yield name, "missing"
            found.faults.append(
                f"{name} is missing: pip install '{requirement.name}{requirement.specifier}'."
            )
            continue
        yield name, version
        if not requirement.specifier.contains(version, prereleases=True):
            found.faults.append(
                f"{name} is {version}, but segjax needs {requirement.specifier}: "
                f"pip install '{name}{requirement.specifier}'."
            )
    for extra, name in _EXTRAS.items():
        if version := _version(name):
            yield name, version
        else:
            yield name, f"not installed; pip install 'segjax[{extra}]' brings it"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices(found: Findings) -> Iterator[tuple[str, str]]:
    """The devices of JAX, each after a product that was compared with NumPy's."""
    try:
        devices = list(Devices.of_this_process().mesh.devices.flat)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        found.faults.append(f"JAX finds no device ({reason}): see docs/install.md.")
        return
    for device in devices:
        # Of a CPU it tells nothing, or the memory of the machine.
        statistics = device.memory_stats() if device.platform != "cpu" else None
        limit = (statistics or {}).get("bytes_limit")
        memory = f", {_gigabytes(limit)}" if limit else ""
        off = _error_of(device)
        yield str(device), f"{device.device_kind}{memory}, computes"
        if not off < _LARGEST_ERROR:
            found.faults.append(
                f"{device} computes wrong: a product of two matrices is off by {off:.2g}. "
                "Look at its driver, and at the versions of jax and jaxlib."
            )
    for what, (file, extra) in _DEVICE_FILES.items():
        if devices[0].platform == "cpu" and os.path.exists(file):
            found.remarks.append(
                f"This machine has {what}, which JAX does not use: "
                f"pip install 'segjax[{extra}]'."
            )


def _error_of(device: jax.Device) -> float:
    """The largest error of a product of random matrices, over its largest value."""
    factors = np.random.default_rng(0).normal(size=(2, _SIDE, _SIDE)).astype(np.float32)
    with jax.default_device(device):
        product = jax.jit(jnp.matmul)(*factors)
    exact = np.matmul(*factors.astype(np.float64))
    return float(np.abs(np.asarray(product) - exact).max() / np.abs(exact).max())


def _disk(found: Findings) -> Iterator[tuple[str, str]]:
    """Room where runs and caches are written."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    for name, folder in {"here": Path.cwd(), "cache": home / "segjax"}.items():
        there = next(x for x in (folder, *folder.parents) if x.exists())
        free = shutil.disk_usage(there).free
        yield name, f"{_gigabytes(free)} free in {folder}"
        if not os.access(there, os.W_OK):
            found.faults.append(f"{folder} cannot be written: see to its rights.")
        elif free < _LEAST_FREE:
            found.faults.append(f"{folder} has {_gigabytes(free)} left: make room.")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    """Bytes of the machine, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.1f} GB"
