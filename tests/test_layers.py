"""Who may import whom: the diagram of CONTRIBUTING.md, read from the statements."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "segjax"


def order() -> dict[str, int]:
    """The rooms of the diagram in CONTRIBUTING.md, and the line on which each stands."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    diagram = text.partition("```text\n")[2].partition("```")[0]
    lines = [re.split(r" {2,}", line)[0] for line in diagram.splitlines()]
    return {room: i for i, line in enumerate(lines) for room in line.split(" | ")}


LINE = order()

ARRAYS = {"jax", "numpy"}
LINEN = ARRAYS | {"chex", "flax"}
RUNNING = LINEN | {"optax", "orbax", "ml_collections", "scipy", "PIL", "tifffile"}

THEIRS: dict[str, set[str]] = {
    "errors": set(),
    "lazy": set(),
    "shipped_configs": set(),
    "types": ARRAYS,
    "parts": {"ml_collections"},
    "rle": {"numpy"},
    "text_files": set(),
    "output": set(),
    "remote": {"fsspec", "etils"},
    "ending": set(),
    "config": {"jax", "ml_collections"},
    "geometry": {"numpy"},
    "ops": ARRAYS | {"chex"},
    "layers": LINEN,
    "losses": ARRAYS | {"chex", "optax"},
    "metrics": ARRAYS | {"scipy"},
    "classical": {"numpy", "scipy", "skimage"},
    "objects": {"numpy", "scipy", "skimage"},
    "data": {"numpy", "scipy", "PIL", "tifffile", "tensorstore", "grain", "etils"}
    | {"tensorflow_datasets", "absl"},
    "viz": {"numpy", "PIL", "matplotlib"},
    "backbones": LINEN,
    "models": LINEN | {"ml_collections"},
    "pretrained": {"jax", "numpy", "flax", "safetensors"},
    "predict": ARRAYS | {"PIL", "tifffile", "tensorstore"},
    "training": RUNNING | {"tensorboardX", "wandb"},
    "inspect": LINEN,
    "export": ARRAYS | {"onnx", "onnxruntime"},
    "tasks": RUNNING,
    "runs": RUNNING | {"packaging"},
    "commands": {"absl", "jax", "ml_collections"},
    "main": set(),
}
"""What each part may import of other people's, besides the standard library."""

NEVER = {"tensorflow", "torch", "torchvision", "keras", "cv2"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module below the package: `ops/cpu/x` belongs to `ops/cpu`."""
    two = "/".join(parts[:2])
    return two if two in LINE else parts[0]


def parts_of(path: Path) -> tuple[str, ...]:
    """`segjax/ops/cpu/x.py` becomes `("ops", "cpu", "x")`, a package its own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """The full names of all modules that a file imports, wherever it does so."""
    return frozenset(names_in(path))


def names_in(path: Path) -> Iterator[str]:
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
def test_only_lower_rooms_are_imported(path: Path) -> None:
    parts = parts_of(path)
    if not parts:  # the front door, which exports from everywhere
        return
    room = room_of(parts)
    ours = [name for name in imported(path) if name.startswith("segjax.")]
    others = {room_of(tuple(name.split(".")[1:])) for name in ours} - {room}
    assert {other for other in others if LINE[other] <= LINE[room]} == set()


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_only_the_packages_of_the_room_are_imported(path: Path) -> None:
    parts = parts_of(path)
    assert outside(path) <= (THEIRS[parts[0]] if parts else set())


def test_tensorflow_and_torch_are_imported_nowhere() -> None:
    folders = (PACKAGE, ROOT / "configs")
    found = {
        identify(path): outside(path) & NEVER
        for folder in folders
        for path in folder.rglob("*.py")
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_every_room_is_in_the_drawing() -> None:
    rooms = {room_of(parts) for path in SOURCES if (parts := parts_of(path))}
    assert rooms == LINE.keys()
    assert {room.partition("/")[0] for room in LINE} == THEIRS.keys()


def files_with(pattern: str) -> list[str]:
    """The files whose text has a match."""
    texts = {identify(path): path.read_text(encoding="utf-8") for path in SOURCES}
    return [name for name, text in texts.items() if re.search(pattern, text)]


def test_devices_and_meshes_are_named_in_one_file() -> None:
    asked = r"\bjax\.(local_)?devices\(|\bMesh\(|\bjax\.process_(index|count)\("
    assert files_with(asked) == ["segjax/training/sharding.py"]


def test_the_backend_is_asked_for_where_forms_are_chosen() -> None:
    """Ops do not see `training`: without a context they ask for it in one place."""
    forms = "segjax/ops/base/forms.py"
    assert files_with(r"\bjax\.default_backend\(") == [forms]
    counted = files_with(r"\bjax\.(local_)?device_count\(")
    assert counted == [forms, "segjax/training/sharding.py"]


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
    for path in (PACKAGE / "commands").glob("*.py"):
        at_start = imported_at_start(f"commands/{path.name}")
        assert not {name for name in at_start if name.split(".")[0] == "jax"}
        assert not {name for name in at_start if name.startswith("segjax.training")}


def test_the_program_imports_nothing_before_ctrl_c_has_a_meaning() -> None:
    at_start = imported_at_start("main.py")
    memory = "segjax.training.malloc"
    ours = {"segjax.ending", f"{memory}.keep_freed_memory"}
    assert at_start == {"os", "functools", "typing.TYPE_CHECKING", *ours}
    assert imported_at_start("training/malloc.py") == {"ctypes", "sys"}
    ours = {x for x in imported_at_start("ending.py") if x.startswith("segjax")}
    assert ours == {"segjax.errors.UserError", "segjax.errors.escape_control"}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import segjax.ops.convolution.convolve", "segjax.ops.convolution.convolve"),
        ("from segjax import data", "segjax.data"),
        ("from ..training.loop import fit", "segjax.training.loop"),
        ("from . import pool", "segjax.ops"),
    ],
)
def test_every_way_to_import_is_seen(
    statement: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"def f():\n  {statement}")
    assert list(names_in(PACKAGE / "ops" / "made_up.py")) == [expected]
