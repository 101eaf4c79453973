"""What the README and its neighbours say is so."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from absl import flags

from segjax import config as config_lib
from segjax.commands import VERBS
from segjax.data.datasets.folder import folder

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(ROOT.glob("*.md"))
MOST_BYTES_OF_PICTURES = 400_000


def blocks(language: str, text: str = README) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[list[str]]:
    """Yields the arguments of every `segjax` command in the pages."""
    for page in PAGES:
        for block in blocks("bash", page.read_text(encoding="utf-8")):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == "segjax":
                    yield words[1:]


def make_tables() -> ModuleType:
    path = ROOT / "docs" / "make_tables.py"
    spec = importlib.util.spec_from_file_location("make_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ten_lines_of_python_do_what_their_comments_say() -> None:
    block = blocks("python")[0]
    statements = [
        line
        for line in block.splitlines()
        if line and not line.startswith(("import", "from"))
    ]
    assert len(statements) <= 10
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    promised = re.findall(r"^(\w+) = .*# (\[[\d, ]+\])$", block, re.MULTILINE)
    assert len(promised) == 2
    for name, shape in promised:
        assert str(list(names[name].shape)) == shape


def test_the_data_group_of_the_readme_is_understood() -> None:
    names: dict = {}
    exec(compile(blocks("python")[1], "README.md", "exec"), names)
    group = names["data"]
    assert group["name"] == "folder"
    given = config_lib.check_arguments(
        folder, group, "data", given_later=("data_dir", "manual_dir")
    )
    with pytest.raises(config_lib.UserError, match="needs a folder"):
        folder(data_dir=None, manual_dir=None, **given)


def test_the_commands_have_verbs_flags_and_keys_that_exist() -> None:
    found = list(commands())
    assert len(found) >= 8
    for words in found:
        verb = words[0] if not words[0].startswith("-") else "train"
        assert verb in VERBS
        given = [word for word in words if word.startswith("-")]
        assert len(given) == len(words) - (verb == words[0])
        names = [word.removeprefix("--").partition("=")[0] for word in given]
        for name in names:
            assert name in flags.FLAGS or name.partition(".")[0] == "config", words
        experiments = [w.partition("=")[2] for w in given if w.startswith("--config=")]
        keys = [n.removeprefix("config.") for n in names if n.startswith("config.")]
        for experiment in experiments:
            config = config_lib.load(str(ROOT / experiment))
            config_lib.check_overrides(config, keys)


@pytest.mark.parametrize(
    "start",
    ["-m segjax.main", "-c 'from segjax.main import run; run()'"],
    ids=["module", "console command"],
)
def test_help_lists_verbs_and_flags(start: str, patience: float) -> None:
    command = [sys.executable, *shlex.split(start), "--help"]
    shown = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=patience
    ).stdout
    for verb in VERBS:
        assert f"\n  {verb} " in shown
    for flag in ("config", "workdir", "data_dir", "tile"):
        assert re.search(rf"^\s*--(\[no\])?{flag}:", shown, re.MULTILINE), flag


def test_every_verb_and_preset_is_told() -> None:
    for verb in VERBS:
        assert f"| `{verb}` |" in README
    for preset in ("isbi", "paper", "smoke"):
        assert f"`:{preset}`" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [
        target
        for target in targets
        if not target.startswith(("http", "#"))
        and not (ROOT / target.partition("#")[0]).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_code_style_exist(page: Path) -> None:
    known = r"(?:segjax|configs|tests|docs|notebooks|benchmarks|\.ci)"
    named = re.findall(rf"`({known}/[\w./-]*\w)`", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_tables_are_what_the_script_draws() -> None:
    assert make_tables().updated(README) == README, "run: python docs/make_tables.py"


def test_a_measured_value_tells_hardware_and_date() -> None:
    tables = make_tables()
    results = json.loads(tables.RESULTS.read_text(encoding="utf-8"))["results"]
    head, _, *rows = tables.result_table(results).splitlines()
    assert head.count("|") == 8
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        has_numbers = any(cell != "-" for cell in cells[2:6])
        assert has_numbers == (cells[6] != "not measured"), row


def test_a_readme_without_the_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- models -->"):
        make_tables().insert("no tables here", "models", "| a |")


def test_every_benchmark_that_keeps_rows_has_a_table() -> None:
    folder = ROOT / "benchmarks"
    kept = {
        name
        for path in folder.glob("*.py")
        for name in re.findall(
            r'save\("(\w+)", \{.*"rows"', path.read_text(encoding="utf-8")
        )
    }
    tables = (folder / "table.py").read_text(encoding="utf-8").split("TABLES = {")[1]
    assert kept == {name for name in kept if f'"{name}":' in tables}
    assert {"crf", "depthwise", "regions", "systems", "unet"} <= kept


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs").glob("*.png"))
    assert pictures
    assert sum(path.stat().st_size for path in pictures) < MOST_BYTES_OF_PICTURES
