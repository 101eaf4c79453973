"""What the README, the pages of docs/ and their neighbours say is so."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import make_tables
import numpy as np
import pytest
from PIL import Image

import segjax
from segjax import config as config_lib
from segjax.commands.program import Program
from segjax.data.augment.augmentations import AUGMENTATIONS
from segjax.data.augment.views import INSTANCE_AUGMENTATIONS
from segjax.data.datasets.folder import folder
from segjax.losses import LOSSES
from segjax.main import VERBS
from segjax.runs.load import load_trained
from segjax.runs.overrides import state_keys
from segjax.training.mixing import MIXES

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
CHAPTERS = sorted((ROOT / "docs" / "learn").glob("*.md"))
OTHERS = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md"]
PAGES = [*OTHERS, *DOCS, *CHAPTERS]
FRONT = ROOT / "docs" / "index.md"
DOORS = ["Learn", "Do", "Look up", "Understand"]
MOST_LINES_OF_THE_README = 160
MOST_BYTES_OF_PICTURES = 400_000


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(language: str, page: Path) -> list[str]:
    """The code blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL
    )


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """The targets of the links and pictures of a page to files and headings."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not target.startswith("http")]


def anchors(page: Path) -> set[str]:
    """What can follow a # in a link to a page: its headings, as GitHub writes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def commands() -> Iterator[list[str]]:
    """Yields the arguments of every `segjax` command in the pages."""
    for page in PAGES:
        for block in blocks("bash", page):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == "segjax":
                    yield words[1:]


def test_ten_lines_of_python_do_what_their_comments_say() -> None:
    block = blocks("python", README)[0]
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


def test_the_loop_of_your_own_is_short_and_learns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (block,) = blocks("python", ROOT / "docs" / "own_loop.md")
    code = [x for x in block.splitlines() if x and not x.startswith(("import", "from"))]
    assert len(code) <= 30
    exec(compile(block, "own_loop.md", "exec"), {})
    first, *_, mean_iou = capsys.readouterr().out.splitlines()
    assert first.startswith("20 {")
    assert float(mean_iou) > 0.8


@pytest.mark.slow
def test_the_page_on_fine_tuning_does_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    *_, block = blocks("python", ROOT / "docs" / "fine_tuning.md")
    rng = np.random.default_rng(0)
    for name, classes in (("images", 256), ("labels", 2)):
        (tmp_path / "more_cells" / name).mkdir(parents=True)
        for i in range(4):
            page = Image.fromarray(rng.integers(0, classes, (40, 40), np.uint8))
            page.save(tmp_path / "more_cells" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    smoke = config_lib.load("unet_folder:smoke")
    segjax.train(smoke, "runs/cells", data_root="more_cells")
    quick = block.replace('"unet_folder"', '"unet_folder:smoke"')
    quick = quick.replace("num_steps = 300", "num_steps = 3")
    quick = quick.replace("warmup_steps = 30", "warmup_steps = 1")
    exec(compile(quick, "fine_tuning.md", "exec"), {})
    trained = load_trained("runs/tuned")
    assert trained.step == 3
    assert trained.about["initialization"]["source"] == "segjax/run"
    assert trained.task.config.optimizer.layer_decay == 0.7


def test_the_data_group_of_the_page_is_understood() -> None:
    names: dict = {}
    (block,) = blocks("python", ROOT / "docs" / "own_images.md")
    exec(compile(block, "own_images.md", "exec"), names)
    group = names["data"]
    assert group["name"] == "folder"
    given = config_lib.check_arguments(
        folder, group, "config.data", given_later=("cache_dir", "data_root")
    )
    with pytest.raises(config_lib.UserError, match="needs a folder"):
        folder(cache_dir=None, data_root=None, **given)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_imports_what_exists_and_passes_arguments_that_exist(page: Path) -> None:
    for block in blocks("python", page):
        tree = ast.parse(block)
        imported: dict = {}
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(ast.unparse(node), imported)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called.partition(".")[0] in imported and "(" not in called:
                given = {keyword.arg: None for keyword in node.keywords}
                function = eval(called, imported)
                inspect.signature(function).bind(*node.args, **given)


def test_the_commands_have_verbs_flags_and_keys_that_exist() -> None:
    found = list(commands())
    assert len(found) >= 30
    for words in found:
        given = [word for word in words if word.startswith("-")]
        plain = [word for word in words if word not in given]
        verb = next(x for x in (" ".join(plain[:2]), *plain[:1]) if not x or x in VERBS)
        verb = verb or "train"
        names = [word.removeprefix("--").partition("=")[0] for word in given]
        flags = Program(VERBS).flags_of(verb)
        for name in names:
            assert name.partition(".")[0] in flags, words
        experiments = [w.partition("=")[2] for w in given if w.startswith("--config=")]
        keys = [n.removeprefix("config.") for n in names if n.startswith("config.")]
        for experiment in experiments:
            config = config_lib.load(str(ROOT / experiment))
            state_keys(config, dict.fromkeys(keys, ""))
            config_lib.check_overrides(config, keys)


@pytest.mark.parametrize(
    "start",
    ["-m segjax.main", "-c 'from segjax.main import run; run()'"],
    ids=["module", "console command"],
)
def test_help_lists_verbs(start: str, patience: float) -> None:
    command = [sys.executable, *shlex.split(start), "--help"]
    shown = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=patience
    ).stdout
    for verb in VERBS:
        assert f"\n  {verb} " in shown


def test_every_verb_and_preset_is_documented() -> None:
    page = read(ROOT / "docs" / "command_line.md")
    for verb in VERBS:
        assert f"| `{verb}` |" in page
    for preset in ("isbi", "paper", "smoke"):
        assert f"`:{preset}`" in page


def test_the_readme_is_one_page_with_its_two_commands() -> None:
    text = read(README)
    assert len(text.splitlines()) <= MOST_LINES_OF_THE_README
    assert "not measured" not in text
    for command in ("make demo", "make test", "pip install -e ."):
        assert re.search(rf"^    {re.escape(command)} ", text, re.MULTILINE)


def test_the_page_of_recipes_names_all_that_a_config_may_name() -> None:
    tables = (LOSSES, MIXES, AUGMENTATIONS, INSTANCE_AUGMENTATIONS)
    page = read(ROOT / "docs" / "recipes.md")
    assert [name for table in tables for name in table if f"`{name}`" not in page] == []


def test_the_front_page_has_four_doors_to_every_page() -> None:
    assert re.findall(r"^## (.+)$", read(FRONT), re.MULTILINE) == DOORS
    pages = {page.name for page in DOCS} - {FRONT.name}
    assert pages <= set(links(FRONT))
    assert {f"docs/{page}" for page in pages} <= set(links(README))
    assert {f"learn/{page.name}" for page in CHAPTERS} <= set(links(FRONT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    missing = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_in_code_style_exist(page: Path) -> None:
    known = r"(?:segjax|configs|tests|docs(?!/_build)|notebooks|benchmarks|\.ci)"
    named = re.findall(rf"`({known}/[\w./-]*\w)`", read(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", make_tables.PAGES, ids=name)
def test_tables_are_what_the_script_writes(page: Path) -> None:
    assert make_tables.updated(page) == read(page), "run: python docs/make_tables.py"


def test_a_measured_value_states_hardware_and_date() -> None:
    results = make_tables.measured_results()
    written = {
        "results": make_tables.result_table(results["results"]),
        "camvid": make_tables.camvid_table(results["camvid"]),
        "instances": make_tables.instance_table(results["instances"]),
    }
    for table in written.values():
        head, _, *rows = table.splitlines()
        columns = [cell.strip() for cell in head.strip("|").split("|")]
        first = 1 if columns[0] == "system" else 2
        assert columns[-1] == "measured"
        for row in rows:
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            has_numbers = any(cell != "-" for cell in cells[first:-1])
            assert has_numbers == (cells[-1] != "not measured"), row


def test_the_short_table_has_nothing_that_was_not_measured() -> None:
    results = make_tables.measured_results()
    front = [{"system": "configs/unet_em.py:paper", "baseline": None}]
    with pytest.raises(ValueError, match=r"unet_em\.py:paper` was not measured"):
        make_tables.front_table({**results, "front": front})


def test_a_page_without_the_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- models -->"):
        make_tables.insert("no tables here", "models", "| a |")


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
