"""The house rules of CONTRIBUTING.md that a program can check."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segjax import config as config_lib
from segjax.data import DATASETS, channels_of, is_synthetic
from segjax.data.augment.augmentations import AUGMENTATIONS
from segjax.losses import INSTANCE_LOSSES, LOSSES
from segjax.models import MODELS
from segjax.tasks.table import Task, make_task
from segjax.training.optimizers.optim import OPTIMIZERS, SCHEDULES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "segjax").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
SCRIPTS = sorted(
    path
    for folder in ("tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
)
TEXTS = sorted(
    path
    for pattern in ("*.md", "*.toml", "*.txt", "Makefile", "*/*.md", "*/*.ipynb")
    for path in ROOT.glob(pattern)
)

MOST_LINES = 400
MOST_SUPPRESSIONS = 10
EMPTY_NAMES = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
MANY_ARGUMENTS = 5


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(read(path))


def lines_matching(paths: list[Path], pattern: str) -> list[str]:
    """Lists "file:line: text" of every line that a pattern is found in."""
    return [
        f"{identify(path)}:{number}: {line.strip()}"
        for path in paths
        if path != Path(__file__)
        for number, line in enumerate(read(path).splitlines(), 1)
        if re.search(pattern, line)
    ]


# Files


def test_no_file_is_a_drawer_for_everything() -> None:
    assert [identify(path) for path in SOURCES if path.name in EMPTY_NAMES] == []


@pytest.mark.parametrize("path", [*SOURCES, *CONFIGS], ids=identify)
def test_no_file_is_longer_than_one_subject_needs(path: Path) -> None:
    assert len(read(path).splitlines()) <= MOST_LINES


def test_nothing_is_left_to_be_done() -> None:
    pattern = r"\b(TODO|FIXME|XXX|NotImplementedError)\b"
    assert lines_matching([*SOURCES, *CONFIGS], pattern) == []


def test_no_path_of_one_machine_is_written_down() -> None:
    pattern = r"(?<![\w.\]}>~])/(work|tmp|home|root|Users|mnt|content)/"
    assert lines_matching([*SOURCES, *CONFIGS, *SCRIPTS, *TEXTS], pattern) == []


def test_checks_are_rarely_switched_off_and_always_with_a_reason() -> None:
    paths = [*SOURCES, *CONFIGS, *SCRIPTS]
    found = lines_matching(paths, r"#\s*(type:\s*ignore|noqa|pyright|pragma)")
    assert len(found) <= MOST_SUPPRESSIONS
    assert [line for line in found if not re.search(r"#.*(#| - ).*\w+", line)] == []


def test_nothing_is_ever_unpickled() -> None:
    pattern = (
        r"\b(import pickle|pickle\.load|allow_pickle=True|torch\.load|dill|joblib)"
    )
    assert lines_matching([*SOURCES, *CONFIGS], pattern) == []


def test_every_requirement_has_its_reason() -> None:
    lines = read(ROOT / "requirements.txt").splitlines()
    required = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(required) > 10
    assert [line for line in required if not re.search(r"  # \w+", line)] == []


# Docstrings


class Definition:
    """A public function or class, and what its docstring says."""

    def __init__(self, path: Path, name: str, node: ast.FunctionDef | ast.ClassDef):
        self.where = f"{identify(path)}:{node.lineno} {name}"
        self.node = node
        self.docstring = ast.get_docstring(node) or ""

    @property
    def arguments(self) -> list[str]:
        """Names of the arguments, without `self` and `cls`."""
        assert isinstance(self.node, ast.FunctionDef)
        args = self.node.args
        names = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
        names += [f"*{args.vararg.arg}"] if args.vararg else []
        names += [f"**{args.kwarg.arg}"] if args.kwarg else []
        return [name for name in names if name not in {"self", "cls"}]

    @property
    def gives_something(self) -> bool:
        """Whether the return annotation is other than None."""
        assert isinstance(self.node, ast.FunctionDef)
        returns = self.node.returns
        return returns is not None and ast.unparse(returns) not in {"None", "Never"}


def section(docstring: str, title: str) -> list[str] | None:
    """Lists the names that a section such as `Args:` explains; None without it."""
    found = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)+)", docstring, re.MULTILINE)
    if found is None:
        return None
    return re.findall(r"^  ([*\w]+):", found.group(1), re.MULTILINE)


def definitions(path: Path) -> Iterator[Definition]:
    """Yields the public functions, classes and methods of a file."""

    def walk(body: list[ast.stmt], prefix: str) -> Iterator[Definition]:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_"):
                continue
            yield Definition(path, prefix + node.name, node)
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, f"{node.name}.")

    yield from walk(parsed(path).body, "")


@functools.cache
def everything() -> list[Definition]:
    return [found for path in SOURCES for found in definitions(path)]


def functions() -> list[Definition]:
    return [x for x in everything() if isinstance(x.node, ast.FunctionDef)]


def overloaded(definition: Definition) -> bool:
    decorators = (ast.unparse(x) for x in definition.node.decorator_list)
    return any(name.endswith("overload") for name in decorators)


def test_every_public_name_has_a_docstring() -> None:
    missing = [x.where for x in everything() if not x.docstring and not overloaded(x)]
    assert missing == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        identify(path)
        for path in [*SOURCES, *CONFIGS]
        if read(path).strip() and not ast.get_docstring(parsed(path))
    ]
    assert silent == []


def test_args_sections_name_the_arguments_in_their_order() -> None:
    wrong = []
    for function in functions():
        explained = section(function.docstring, "Args")
        if explained is not None and explained != function.arguments:
            wrong.append((function.where, explained, function.arguments))
    assert wrong == []


def test_functions_of_many_arguments_explain_them() -> None:
    silent = [
        function.where
        for function in functions()
        if len(function.arguments) >= MANY_ARGUMENTS
        and section(function.docstring, "Args") is None
    ]
    assert silent == []


def test_functions_that_explain_their_arguments_explain_their_result() -> None:
    def tells_result(docstring: str) -> bool:
        return bool(re.search(r"\b([Rr]eturns|[Yy]ields)\b", docstring))

    silent = [
        function.where
        for function in functions()
        if section(function.docstring, "Args") is not None
        and function.gives_something
        and not tells_result(function.docstring)
    ]
    assert silent == []


TABLES: dict[str, tuple[Mapping[str, Callable[..., Any]], set[str]]] = {
    "DATASETS": (DATASETS, {"cache_dir", "data_root"}),
    "AUGMENTATIONS": (AUGMENTATIONS, {"example", "rng"}),
    "MODELS": (MODELS, {"parent", "name"}),
    "LOSSES": (LOSSES, {"outputs", "batch"}),
    "INSTANCE_LOSSES": (INSTANCE_LOSSES, {"outputs", "batch"}),
    "OPTIMIZERS": (OPTIMIZERS, {"learning_rate"}),
    "SCHEDULES": (SCHEDULES, {"num_steps"}),
}
"""What configs choose from, and the arguments that do not come from a config."""


@pytest.mark.parametrize(
    ("table", "name"),
    [(table, name) for table, (entries, _) in TABLES.items() for name in entries],
)
def test_every_key_that_a_config_can_set_is_documented(table: str, name: str) -> None:
    entries, not_from_config = TABLES[table]
    entry = entries[name]
    docstring = inspect.getdoc(entry) or ""
    explained = [
        *(section(docstring, "Args") or ()),
        *(section(docstring, "Attributes") or ()),
    ]
    keys = inspect.signature(entry).parameters.keys() - not_from_config
    assert docstring
    assert keys - set(explained) == set()


# Configs and models


def presets(path: Path) -> list[str]:
    """Names the presets of a config, as it does for one who asks for another."""
    with pytest.raises(config_lib.UserError, match="known: ") as caught:
        config_lib.load(f"{path}:none of them")
    return str(caught.value).partition("known: ")[2].rstrip(".").split(", ")


def builds(path: Path) -> Iterator[str]:
    """Yields `FILE` and `FILE:PRESET` for all that `get_config` takes."""
    yield str(path)
    for preset in presets(path):
        yield f"{path}:{preset}"


EXPERIMENTS = [experiment for path in CONFIGS for experiment in builds(path)]


PARAMETERS: dict[tuple[Any, int], list[str]] = {}
"""Names of parameters, by network: many presets have the same one."""


def parameter_names(task: Task) -> list[str]:
    """Names all parameters of an experiment's network, as "down1/conv1/kernel"."""
    channels = channels_of(task.config.data)
    if (task.model, channels) in PARAMETERS:
        return PARAMETERS[task.model, channels]
    image = jax.ShapeDtypeStruct((1, *task.input_size, channels), jnp.float32)
    init = lambda image: task.model.init(jax.random.key(0), image, train=False)
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(init, image)["params"])
    names = [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves
    ]
    return PARAMETERS.setdefault((task.model, channels), names)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda x: Path(x).name)
def test_every_config_builds(experiment: str) -> None:
    task = make_task(config_lib.load(experiment))
    assert task.input_size
    assert callable(DATASETS[task.config.data.name])


@pytest.mark.parametrize("path", CONFIGS, ids=identify)
def test_every_config_has_a_preset_of_seconds(path: Path) -> None:
    config = config_lib.load(f"{path}:smoke")
    assert config.num_steps == 2
    assert is_synthetic(config.data.name) or config.data.name == "folder"


@pytest.mark.parametrize("path", CONFIGS, ids=identify)
def test_every_config_states_command_and_presets(path: Path) -> None:
    docstring = ast.get_docstring(parsed(path)) or ""
    assert f"python -m segjax.main --config={identify(path)}" in docstring
    assert re.search(r"arXiv|doi", docstring)
    before, written, *_ = read(path).split('"""')
    assert before == ("r" if "\\" in written else "")
    named = {
        experiment.partition(":")[2]
        for experiment in EXPERIMENTS
        if experiment.startswith(f"{path}:")
    }
    assert named >= {"smoke"}
    assert [name for name in sorted(named) if name not in docstring] == []


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda x: Path(x).name)
def test_parameter_names_are_chosen_not_counted(experiment: str) -> None:
    names = parameter_names(make_task(config_lib.load(experiment)))
    assert names
    assert [n for n in names if re.search(r"[A-Z]\w*_\d+(/|$)", n)] == []


def test_names_in_tables_are_lower_case_words() -> None:
    for table, (entries, _) in TABLES.items():
        for name in entries:
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name), (table, name)


def test_importing_a_table_of_data_sets_opens_no_data_set() -> None:
    module = importlib.import_module("segjax.data")
    tree = ast.parse(inspect.getsource(module))
    at_start = [n.module for n in tree.body if isinstance(n, ast.ImportFrom)]
    ours = [name for name in at_start if name and name.startswith("segjax")]
    assert ours == ["segjax.lazy"]
