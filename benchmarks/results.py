"""Where a figure comes from, and the file that it goes to."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


def environment(device: str) -> dict[str, Any]:
    """Date, hardware, versions, and the load before the benchmark began."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": device,
        "hardware": gpu_name() if device == "gpu" else cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": list(os.getloadavg()),
        "versions": {name: version(name) for name in PACKAGES},
    }


def commit_of(checkout: str | Path) -> str:
    """The commit of a checkout of segjax; the name of its folder where git knows none."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or Path(checkout).resolve().name


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else "unknown CPU"


def gpu_name() -> str:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]


def ratio(row: dict[str, Any]) -> str:
    """The ratio of a comparison, and its range."""
    low, high = row["ratio_range"]
    return f"**{row['ratio']:.2f}** ({low:.2f} to {high:.2f})"


def save(what: str, result: dict[str, Any], output: str | None) -> None:
    """Writes `<date>-<what>-<hardware>.json` into the folder `output`.

    A comparison with another checkout of segjax (`result["against"]`) is named
    `<what>_against`.
    """
    if result.get("against"):
        what = f"{what}_against"
    result = {"what": what, **result, "load_after": list(os.getloadavg())}
    if output is None:
        return
    hardware = re.sub(r"[^a-z0-9]+", "_", result["hardware"].lower()).strip("_")
    name = f"{result['date']}-{what}-{hardware}_{result['cores']}_cores.json"
    path = Path(output) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")
