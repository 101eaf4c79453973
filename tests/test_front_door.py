"""What `import segjax` gives: names, each with its docstring, and nothing that takes time."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import segjax

PACKAGE = Path(segjax.__file__).parent
FRONT = ("train", "load", "evaluate", "summarize", "UserError")
PARTS = (
    *("backbones", "classical", "config", "data", "geometry", "layers", "losses"),
    *("metrics", "models", "ops", "predict", "pretrained", "runs", "viz"),
)


def packages() -> Iterator[str]:
    """The packages, but for those of one lazy table."""
    for module in pkgutil.walk_packages([str(PACKAGE)], "segjax."):
        if module.ispkg:
            yield module.name


def exported(package: str) -> list[str]:
    """The names that the `__init__` of a package takes from its modules."""
    source = Path(importlib.import_module(package).__file__ or "").read_text()
    body = ast.parse(source).body
    for_type_checkers = [
        x for node in body if isinstance(node, ast.If) for x in node.body
    ]
    return [
        alias.asname or alias.name
        for node in [*body, *for_type_checkers]
        if isinstance(node, ast.ImportFrom) and (node.module or "") != "segjax.lazy"
        for alias in node.names
        if (node.module or "").startswith("segjax.")
    ]


@pytest.fixture(scope="module", autouse=True)
def _everything_is_imported() -> None:
    """A module that has the name of a function takes its place once it is imported."""
    for module in pkgutil.walk_packages([str(PACKAGE)], "segjax."):
        importlib.import_module(module.name)


def test_the_front_door_has_these_names() -> None:
    found = {name for name in exported("segjax") if name not in PARTS}
    assert found == set(FRONT)
    for name in FRONT:
        assert callable(getattr(segjax, name))
    for name in PARTS:
        assert isinstance(getattr(segjax, name), types.ModuleType)
    assert {*FRONT, *PARTS} <= set(dir(segjax))


@pytest.mark.parametrize("package", list(packages()))
def test_what_a_package_exports_is_explained_and_no_module(package: str) -> None:
    module = importlib.import_module(package)
    for name in exported(package):
        value = getattr(module, name)
        assert not isinstance(value, types.ModuleType), name
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_the_parts_of_the_lectures_are_behind_the_door() -> None:
    for name in (
        *("conv", "conv_transpose", "conv_matrix", "max_pool_with_indices"),
        *("max_unpool", "bed_of_nails", "resize_bilinear", "upsample_nearest"),
        *("spatial_pyramid_pool", "roi_align", "nms", "dense_crf", "mean_field"),
    ):
        assert name in exported("segjax.ops")
    x = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    kernel = np.ones((2, 2, 1, 1), np.float32)
    assert segjax.ops.conv_transpose(x, kernel, stride=2).shape == (1, 4, 4, 1)
    with pytest.raises(AttributeError, match="has no attribute 'convolve2'"):
        _ = segjax.ops.convolve2


def test_importing_it_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import segjax; "
        "print(sorted(set(sys.modules) - before))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert set(ast.literal_eval(shown)) <= {"__future__", "segjax", "segjax.lazy"}


def test_reading_types_needs_no_jax() -> None:
    code = "import sys; import segjax.types, segjax.data; print('jax' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown == "False\n"
