"""Random weights that are alike everywhere, for the tests of this folder."""

from __future__ import annotations

import runpy
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def random_weights() -> types.SimpleNamespace:
    """The functions of `random_weights.py`."""
    path = Path(__file__).with_name("random_weights.py")
    return types.SimpleNamespace(**runpy.run_path(str(path)))


@pytest.fixture(scope="session")
def smp_network(torchvision: types.ModuleType) -> Callable[..., Any]:
    """The function of `tests/smp_reference.py` that makes networks, beside torchvision."""
    path = Path(__file__).resolve().parents[1] / "smp_reference.py"
    return runpy.run_path(str(path))["network"]
