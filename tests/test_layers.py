"""Who may import whom: the layer table of CONTRIBUTING.md, read from the statements."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "segjax"

BASE = {"types", "errors", "rle", "text_files", "output"}
ISLANDS = {"layers", "losses", "metrics", "data", "viz"}
RUNS = {"train", "predict", "inspect", "export"}
BELOW_RUNS = {"config", "ops", "backbones", "models", "pretrained"} | ISLANDS

OURS: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "rle": {"errors"},
    "text_files": {"errors"},
    "output": {"errors", "text_files"},
    "ending": {"errors"},
    "config": BASE,
    "ops": BASE,
    "layers": BASE | {"ops"},
    "losses": BASE | {"ops"},
    "metrics": BASE | {"ops"},
    "pretrained": BASE | {"ops", "layers", "backbones", "models"},
    "data": BASE,
    "viz": BASE,
    "backbones": BASE | {"ops", "layers"},
    "models": BASE | {"ops", "layers", "backbones"},
    **dict.fromkeys(RUNS, BASE | BELOW_RUNS | RUNS),
    "commands": BASE | {"config", "ending"} | RUNS,
    "main": {"ending", "commands"},
}
"""What each part of the package may import of the package, besides itself."""

ARRAYS = {"jax", "numpy"}
LINEN = ARRAYS | {"chex", "flax"}
RUNNING = LINEN | {"optax", "orbax", "ml_collections", "scipy", "PIL", "tifffile"}

THEIRS: dict[str, set[str]] = {
    "errors": set(),
    "types": ARRAYS,
    "rle": {"numpy"},
    "text_files": set(),
    "output": set(),
    "ending": set(),
    "config": {"jax", "ml_collections"},
    "ops": ARRAYS | {"chex"},
    "layers": LINEN,
    "losses": ARRAYS | {"chex", "optax"},
    "metrics": ARRAYS | {"scipy"},
    "pretrained": {"jax", "numpy", "flax", "safetensors"},
    "data": {"numpy", "scipy", "PIL", "tifffile", "tensorstore", "grain", "etils"}
    | {"tensorflow_datasets", "absl"},
    "viz": {"numpy", "PIL", "matplotlib"},
    "backbones": LINEN,
    "models": LINEN,
    **dict.fromkeys(RUNS, RUNNING | {"tensorboardX"}),
    "commands": {"absl", "jax", "ml_collections"},
    "main": set(),
}
"""What each part may import of other people's, besides the standard library."""

NEVER = {"tensorflow", "torch", "torchvision", "keras", "cv2"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    """The first name below the package: `ops/pooling/windowed.py` belongs to `ops`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Yields the full name of every module that a file imports, wherever it does so."""
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) + 1 - node.level]
                start = ".".join([*above, *filter(None, [start])])
            if start == "segjax":
                yield from (f"segjax.{alias.name}" for alias in node.names)
            else:
                yield start


def outside(path: Path) -> set[str]:
    """The top-level packages that a file imports and that are neither ours nor Python's."""
    names = {name.split(".")[0] for name in imported(path)}
    return names - {"segjax", "__future__"} - sys.stdlib_module_names


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_only_lower_layers_are_imported(path: Path) -> None:
    layer = layer_of(path)
    if layer == "__init__":
        assert not list(imported(path)), "segjax/__init__.py imports nothing"
        return
    used = {name.split(".")[1] for name in imported(path) if name.startswith("segjax.")}
    assert used <= OURS[layer] | {layer}


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_only_the_packages_of_the_layer_are_imported(path: Path) -> None:
    layer = layer_of(path)
    assert outside(path) <= THEIRS.get(layer, set())


def test_tensorflow_and_torch_are_imported_nowhere() -> None:
    folders = (PACKAGE, ROOT / "configs")
    found = {
        identify(path): outside(path) & NEVER
        for folder in folders
        for path in folder.rglob("*.py")
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_every_part_of_the_package_is_in_the_table() -> None:
    parts = {layer_of(path) for path in SOURCES} - {"__init__"}
    assert parts <= OURS.keys()
    assert OURS.keys() == THEIRS.keys()


def test_devices_and_meshes_are_named_in_one_file() -> None:
    named = [
        identify(path)
        for path in SOURCES
        if "Mesh(" in path.read_text(encoding="utf-8")
    ]
    assert named == ["segjax/training/sharding.py"]


def imported_at_start(name: str) -> set[str]:
    """The full names of what a module imports before anything is called."""
    body = ast.parse((PACKAGE / name).read_text(encoding="utf-8")).body
    body += [x for node in body if isinstance(node, ast.Try) for x in node.body]
    found = set()
    for node in body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found - {"__future__.annotations"}


def test_the_commands_import_no_jax_before_a_verb_is_known() -> None:
    at_start = imported_at_start("commands.py")
    assert not {name for name in at_start if name.split(".")[0] == "jax"}
    assert not {name for name in at_start if name.startswith("segjax.train")}


def test_the_program_imports_nothing_before_ctrl_c_has_a_meaning() -> None:
    assert imported_at_start("main.py") == {"os", "segjax.ending"}
    ours = {x for x in imported_at_start("ending.py") if x.startswith("segjax")}
    assert ours == {"segjax.errors.UserError", "segjax.errors.escape_control"}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import segjax.ops.convolution.convolve", "segjax.ops.convolution.convolve"),
        ("from segjax import data", "segjax.data"),
        ("from ..train.loop import train", "segjax.training.loop"),
        ("from . import pool", "segjax.ops"),
    ],
)
def test_every_way_to_import_is_seen(
    statement: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"def f():\n  {statement}")
    assert list(imported(PACKAGE / "ops" / "made_up.py")) == [expected]
