"""Random weights that are alike everywhere, for the tests of this folder."""

from __future__ import annotations

import runpy
import types
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def random_weights() -> types.SimpleNamespace:
    """The functions of `random_weights.py`."""
    path = Path(__file__).with_name("random_weights.py")
    return types.SimpleNamespace(**runpy.run_path(str(path)))
