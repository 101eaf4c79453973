"""What a run was made with: versions, code, devices, command line; `environment.json`.

A list with one entry for each start of the run, the newest last. Of the environment's variables
only those are kept that change what JAX computes, so that no secret gets into it.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import segjax
from segjax.errors import UserError
from segjax.output.files import whole_file
from segjax.text_files import parse_json, read_bytes
from segjax.training.run_files.workdir import ENVIRONMENT, writing
from segjax.training.sharding import Devices, process_count

VARIABLES = (
    *("XLA_FLAGS", "LIBTPU_INIT_ARGS", "CUDA_VISIBLE_DEVICES"),
    *("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64", "JAX_DEBUG_NANS"),
    *("JAX_DEFAULT_MATMUL_PRECISION", "JAX_THREEFRY_PARTITIONABLE"),
)
"""The variables that are kept, where they are set."""

LONGEST_DIFF = 1_000_000
"""Of what is kept of changes that are not committed, in characters."""

_SECONDS = 20
"""For which git is waited for."""


def describe_environment(devices: Devices) -> dict[str, Any]:
    """Describes this process: versions, code, devices, command line; JSON.

    Args:
      devices: where it runs.

    Returns:
      `time` (UTC), `command`, `python`, `platform`, `packages` (the version of each that is
      installed), `code` (the state of each git checkout, see `describe_checkout`), `devices`,
      `processes` and `variables`.
    """
    package = Path(segjax.__file__).resolve()
    folders = {"working_directory": Path.cwd()}
    if _git(package.parent, "ls-files", "--error-unmatch", package.name) is not None:
        folders["segjax"] = (
            package.parent
        )  # and not installed somewhere below a checkout
    code = {name: describe_checkout(folder) for name, folder in folders.items()}
    if code.get("segjax") == code["working_directory"]:
        del code["working_directory"]
    now = datetime.datetime.now(datetime.UTC)
    return {
        "time": now.isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(),
        "code": {name: found for name, found in code.items() if found},
        "devices": devices.described,
        "processes": process_count(),
        "variables": {key: os.environ[key] for key in VARIABLES if key in os.environ},
    }


def add_environment(workdir: Path, devices: Devices) -> None:
    """Adds this process to `environment.json` in the folder of a run.

    A file that is damaged begins anew: it is the least of what a run has.

    Args:
      workdir: the folder, held by this process.
      devices: where the run trains.

    Raises:
      UserError: if it cannot be written.
    """
    path, before = workdir / ENVIRONMENT, []
    with contextlib.suppress(OSError, UserError):
        found = parse_json(read_bytes(path), path)
        before = found if isinstance(found, list) else []
    content = json.dumps([*before, describe_environment(devices)], indent=2) + "\n"
    with writing(workdir), whole_file(path) as file:
        file.write(content.encode())


def describe_checkout(folder: Path) -> Mapping[str, Any] | None:
    """The commit of a git checkout, and what is not committed.

    Args:
      folder: in the checkout.

    Returns:
      `commit`, `diff` (of the files that git knows, to that commit; without its end where
      it is longer than a million characters) and `untracked` (names alone); None where the
      folder is not in a checkout, or git is not installed.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    # Programs that a checkout names for showing differences are not run.
    diff = _git(folder, "diff", "HEAD", "--no-ext-diff", "--no-textconv") or ""
    names = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name")
    return {
        "commit": commit.strip(),
        "diff": diff[:LONGEST_DIFF],
        "untracked": sorted((names or "").splitlines())[:1000],
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails."""
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        ended = subprocess.run(
            command,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.decode(errors="replace")


def _packages() -> dict[str, str]:
    """The version of each package that is installed."""
    found = {}
    for package in importlib.metadata.distributions():
        name = package.metadata["Name"]
        if name and name not in found:  # the first is the one that is imported
            found[name] = package.version
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
