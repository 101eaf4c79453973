"""Parts of a config from outside: what is found, what is refused, and in which words."""

import sys

import pytest

from segjax import config as config_lib
from segjax import parts
from segjax.errors import UserError
from segjax.models import MODELS

NAMES = """
VALUE = 3
def plain(*, size: int, depth: int = 1): return size, depth
def anything(**given): return given
def broken(*, size: int): return {}["missing"]
class Kind:
    inner = staticmethod(plain)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A package that can be imported during one test."""
    folder = tmp_path / "own_parts_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "names.py").write_text(NAMES)
    (folder / "torn.py").write_text("import math\n\nmath.sqrt('x')\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "typo.py").write_text("def f(:\n")
    (folder / "needs.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder.name
    for name in [x for x in sys.modules if x.startswith(folder.name)]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none_of_that_name:Net", "Python finds no module none_of_that_name"),
        ("{own}.none:Net", r"Python finds no module \w+\.none: install"),
        ("{own}.names:plian", 'has no plian. Did you mean "plain"?'),
        ("{own}.names:VALUE", "a int, which cannot be called"),
        ("{own}.torn:f", r"fails: TypeError: .*torn\.py, line 3\)"),
        ("{own}.leaves:f", r"fails: SystemExit: 3 .*leaves\.py, line 2\)"),
        ("{own}.typo:f", r"fails: SyntaxError: .*typo\.py, line 1\)"),
        ("{own}.needs:f", "fails: ModuleNotFoundError: No module named 'a_module"),
        ("{own}.names.plain", 'is named "package.module:Name"'),
        ("a:b:c", 'is named "package.module:Name"'),
        (3, "which segjax does not know"),
        ("uney", 'Did you mean "unet"?'),
    ],
)
def test_a_name_that_cannot_be_used_ends_in_a_sentence(own, name, words):
    name = name.format(own=own) if isinstance(name, str) else name
    with pytest.raises(UserError, match=rf"^config\.model\.name is .*{words}"):
        config_lib.build(MODELS, {"name": name}, "config.model")


def test_groups_become_arguments_of_what_is_imported(own):
    def build(name, **group):
        group["name"] = f"{own}.names:{name}"
        return config_lib.build({}, group, "config.data", cache_dir="x")

    assert build("plain", size=2) == (2, 1)
    assert build("Kind.inner", size=3) == (3, 1)
    assert build("anything", size=2) == {"size": 2}
    with pytest.raises(UserError, match=r'config\.data has an unknown key "deep"'):
        build("plain", size=2, deep=1)
    with pytest.raises(UserError, match=r'config\.data lacks the key "size"'):
        build("plain")
    with pytest.raises(
        UserError, match=r"fails: KeyError: 'missing' .*names\.py, line"
    ):
        build("broken", size=2)


def read_back(**groups):
    """A config as it comes out of a file."""
    return config_lib.from_json(config_lib.to_json(config_lib.from_dict(groups)))


@pytest.mark.parametrize(
    "name",
    [
        *("os:system", "os.path:join", "{own}.torn:f"),
        *("segjax.parts:os.system", "segjax.config:load", "segjaxed:f"),
        *("segjax.models.builder:parts.load", "optax._src.base:jnp.save"),
    ],
)
def test_code_named_in_a_file_waits_for_leave(own, name):
    name = name.format(own=own)
    package = name.partition(":")[0].partition(".")[0]
    config = read_back(model={"name": name}, augment=[["flip", {}], [name, {}]])
    for other in ((), (package[:-1],), (f"{package}_more",), ("o",)):
        waiting = config_lib.with_leave(config, other)
        with pytest.raises(UserError, match=rf"give --allow_code={package}\.$"):
            config_lib.build({}, waiting.model, "config.model")
        with pytest.raises(UserError, match="allow_code"):
            parts.find({}, waiting.augment[1][0], "config.pipeline.augment")
    assert f"{own}.torn" not in sys.modules
    given = config_lib.with_leave(config, ["other", package])
    assert type(given.model.name) is str
    assert given.to_dict() == config.to_dict()


def test_optax_segjax_and_the_names_of_a_user_need_no_leave():
    config = read_back(optimizer={"name": "optax:lion", "learning_rate": 0.1})
    made = config_lib.build({}, config.optimizer, "config.optimizer")
    assert hasattr(made, "update")
    model = read_back(name="segjax.models.unet:UNet")
    assert parts.find({}, model.name, "x") is MODELS["unet"]
    assert parts.find({}, "os.path:join", "x")


def test_leave_is_for_whole_names_of_packages():
    with pytest.raises(UserError, match=r"--allow_code=own\.nets is not the name of a"):
        config_lib.with_leave(read_back(a=1), ["own.nets"])
