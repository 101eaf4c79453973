"""torchvision as a reference, beside a PyTorch that knows no CUDA.

torchvision's wheel is built for CUDA, so beside a CPU build of PyTorch its library of
compiled operators does not load, and `import torchvision` fails at the first of them
that it wants to describe. With a C compiler at hand `torchvision_operators.py` makes it
load. Without one it is enough to declare the operators for classification and
segmentation models, which use none; detection models need the real ones.

Tests ask for the fixture `torchvision` of `conftest.py`.
"""

from __future__ import annotations

import importlib
import runpy
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float threshold) -> Tensor",
)
"""What `import torchvision` describes; nothing here computes it."""

DECLARED: list[Any] = []
"""Keeps the declarations alive: PyTorch forgets them with their `Library`."""


def torchvision() -> types.ModuleType:
    """Imports torchvision with its models, or skips the test and says why.

    Tests that need its operators ask `torchvision.extension._has_ops()`.
    """
    torch = pytest.importorskip("torch")
    operators = runpy.run_path(str(Path(__file__).parent / "torchvision_operators.py"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operators["provide"]()
        try:
            return _import()
        except ImportError as error:
            pytest.skip(f"needs torchvision: {error}")
        except RuntimeError as error:
            if "torchvision::nms does not exist" not in str(error):
                raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in OPERATORS:
            library.define(operator)
        DECLARED.append(library)
        return _import()


def _import() -> types.ModuleType:
    module = importlib.import_module("torchvision")
    importlib.import_module("torchvision.models.segmentation")
    return module
