"""Every notebook runs from its first cell to its last, in two steps of training."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LECTURES = sorted((ROOT / "notebooks" / "lectures").glob("*.ipynb"))
SECONDS_A_CELL = 1800


@pytest.fixture
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny data, two steps, and folders of the test's own for all that is written."""
    monkeypatch.setenv("SEGJAX_STEPS", "2")
    monkeypatch.setenv("SEGJAX_PRESET", "smoke")
    monkeypatch.setenv("SEGJAX_WORKDIR", str(tmp_path / "run"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(ROOT), *([inherited] if inherited else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return tmp_path


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that the cells wrote to stdout."""
    return "".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )


def pictures(notebook: nbformat.NotebookNode) -> int:
    """How many pictures the cells drew."""
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def executed(name: str) -> nbformat.NotebookNode:
    """A notebook after its last cell."""
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
    )
    client.execute()
    return notebook


def test_the_unet_notebook_runs(small_world: Path) -> None:
    notebook = executed("01_unet_em.ipynb")
    assert "step 2, parameters " in printed(notebook)
    assert "Largest difference of the logits" in printed(notebook)
    assert pictures(notebook) == 4
    assert (small_world / "run" / "checkpoints" / "2").is_dir()


@pytest.mark.slow
def test_the_upsampling_notebook_runs(
    small_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGJAX_OPERATORS", "index_unpooling,skip")
    notebook = executed("02_upsampling.ipynb")
    rows = {
        line[:30].strip(): line[30:].split() for line in printed(notebook).split("\n")
    }
    assert [len(rows[name]) for name in ("index unpooling", "skip")] == [5, 5]
    assert rows["SegNet-Basic, bilinear"] == ["77.9", "61.1", "43.3", "20.8"]
    assert pictures(notebook) == 8
    for name in ("index_unpooling", "skip"):
        assert (small_world / "run" / name / "checkpoints" / "2").is_dir()


@pytest.mark.slow
def test_the_receptive_field_notebook_runs(small_world: Path) -> None:
    notebook = executed("03_receptive_field.ipynb")
    assert "rates 2, 2, 2, 2: 28% of the pixels" in printed(notebook)
    assert "rates 1, 2, 5: 100% of the pixels" in printed(notebook)
    assert "17 x 17    435     19.4" in printed(notebook)
    assert pictures(notebook) == 7


@pytest.mark.slow
def test_the_instances_notebook_runs(small_world: Path) -> None:
    notebook = executed("04_instances.ipynb")
    for line in (
        "RoIAlign                   off by up to 0.00 cells",
        "RoIPool                    off by up to 0.72 cells",
        "half a cell to the right: RoIAlign changes by 0.50",
        "half a cell to the right: RoIPool changes by 0.00",
        "255 anchors: 10 answer for an object, 221 are background, 24 neither",
        "step 2, parameters ",
        "instance_shapes: train 4, validation 2, test 1",
    ):
        assert line in printed(notebook)
    lines = [line.split() for line in printed(notebook).split("\n")]
    rows = {line[0]: line[1:] for line in lines if len(line) == 3}
    watershed = [rows[name][1] for name in ("f1@0.5", "mask_AP50", "mask_AP75")]
    assert watershed == ["0.400", "0.505", "0.000"]
    assert 0 <= float(rows["f1@0.5"][0]) <= 1
    assert pictures(notebook) == 11
    assert (small_world / "run" / "shapes" / "checkpoints" / "2").is_dir()


@pytest.mark.slow
def test_the_crf_notebook_runs(small_world: Path) -> None:
    notebook = executed("05_crf.ipynb")
    for line in (
        "E(x_A) = 0.62 + 4.85 = 5.47   (base 10, as in the lecture)",
        "E(x_B) = 1.57 + 0.00 = 1.57   (base 10, as in the lecture)",
        "after 5 steps P(foreground) of the centre is 0.933",
    ):
        assert line in printed(notebook)
    assert pictures(notebook) == 6


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_notebooks_import_what_is_there(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    lines = re.findall(r"^from (segjax\S*) import (?:\(([^)]*)\)|(.+))$", code, re.M)
    assert lines
    for module, several, one in lines:
        for name in re.findall(r"(\w+)(?: as \w+)?,?", several or one):
            found = importlib.import_module(module)
            if not hasattr(found, name):
                importlib.import_module(f"{module}.{name}")


def test_the_upsampling_notebook_knows_all_experiments_of_its_config() -> None:
    source = (ROOT / "notebooks" / "02_upsampling.ipynb").read_text(encoding="utf-8")
    config = runpy.run_path(str(ROOT / "configs" / "upsampling_camvid.py"))
    assert ",".join(config["OPERATORS"]) in source


def test_notebooks_are_what_the_chapters_and_the_first_cell_say() -> None:
    files = runpy.run_path(str(ROOT / "docs" / "make_notebooks.py"))["files"]()
    assert sorted(files) == sorted([*NOTEBOOKS, *LECTURES])
    old = [
        path.name
        for path, text in files.items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert old == [], "run: python docs/make_notebooks.py"


def first_cell() -> str:
    """The source of the cell that finds or installs segjax."""
    return (ROOT / "notebooks" / "first_cell.py").read_text(encoding="utf-8")


def test_first_cell_far_from_the_clone_takes_the_segjax_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(compile(first_cell(), "first cell", "exec"), found)
    assert found["ROOT"] == ROOT


def test_first_cell_says_in_a_sentence_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="set REPOSITORY in this cell"):
        exec(compile(first_cell(), "first cell", "exec"), {})
    assert list(tmp_path.iterdir()) == []


def test_first_cell_asks_for_a_restart_where_a_loaded_package_was_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run: list[list[str]] = []
    monkeypatch.chdir(ROOT / "notebooks" / "lectures")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: run.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(compile(first_cell(), "first cell", "exec"), {})
    assert [command[1:4] for command in run] == [["-m", "pip", "install"]]
    monkeypatch.setattr(numpy, "__version__", "2.0.2")
    with pytest.raises(
        SystemExit, match="a newer numpy than this session has loaded: restart"
    ):
        exec(compile(first_cell(), "first cell", "exec"), {})


@pytest.mark.parametrize("path", [*NOTEBOOKS, *LECTURES], ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_notebook_has_a_test_that_runs_it(path: Path) -> None:
    assert f'"{path.name}"' in Path(__file__).read_text(encoding="utf-8")
