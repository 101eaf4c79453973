"""Keys of a config on the command line: those that it states, and those that it leaves out.

A key that a config leaves out is one that its part takes nevertheless: an argument of the
network, the optimizer and so on. It has the type of that argument.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from segjax import config as config_lib
from segjax import parts
from segjax.errors import UserError, suggestion
from segjax.training.optimizers.builder import MASKS, RATES, Common

Place = tuple[str, ...]
"""The names of a group and of those around it, such as ("model", "backbone")."""

_BESIDES: Mapping[Place, Collection[str]] = {
    ("data",): ("unlabeled",),
    ("model",): ("remat",),
    ("optimizer",): ("adam_on", "weight_decay"),
    ("schedule",): ("warmup_steps",),
}
"""Keys of groups that are no arguments of the part that the group names."""

_NOT_FROM_CONFIG = frozenset(
    {
        *("parent", "name", "outputs", "batch", "schedule", "num_steps"),
        *("cache_dir", "data_root", "dataset", "split", "learned", "key"),
    }
)
"""Arguments that never come from the group of a part."""


def named_by(arguments: Sequence[str], flag: str) -> ml_collections.ConfigDict | None:
    """Reads the config that a command line names, and checks the keys that it changes.

    Args:
      arguments: of the command line.
      flag: such as "--config"; keys are changed as `--config.model.depth=4`.

    Returns:
      The config without the changes, which states all keys that are changed; None where
      none is named.

    Raises:
      UserError: if it cannot be read, or has no such key.
    """
    files, given = [], {}
    prefixes = tuple(f"--{no}{flag[2:]}." for no in ("", "no"))
    for i, text in enumerate(arguments):
        name, equals, value = text.partition("=")
        value = value if equals else "".join(arguments[i + 1 : i + 2])
        if name in (flag, flag[1:]):
            files.append(value)
        elif name.startswith(prefixes):
            given[name.partition(".")[2]] = value
    if files:
        config = config_lib.load(files[-1])
        state_keys(config, given)
        config_lib.check_overrides(config, given)
        return config
    if given:
        raise UserError(
            f"{flag}.{next(iter(given))} overrides a key of a config, but no {flag}=FILE is "
            "given; the values of a run are in config.json of its folder."
        )
    return None


def state_keys(config: ml_collections.ConfigDict, given: Mapping[str, str]) -> None:
    """States keys that a config leaves out, without a value yet, but of the right type.

    Args:
      config: the experiment; it is changed.
      given: dotted keys, such as "optimizer.b2", and the text that each is given.

    Raises:
      UserError: if what takes the group of a key has no such argument.
    """
    with config.unlocked(), config.ignore_type():
        for key, text in given.items():
            _state(config, key, text, given)


def _state(
    config: ml_collections.ConfigDict, key: str, text: str, given: Mapping[str, str]
) -> None:
    *groups, last = key.split(".")
    node, path = config, Place()
    for part in groups:
        if part not in node or node[part] is None:
            known = _keys(config, path, given)
            _require(key, path, part, node, known)
            node[part] = ml_collections.ConfigDict()
        node, path = node[part], (*path, part)
        if not isinstance(node, ml_collections.ConfigDict):
            return  # `check_overrides` has the sentence
    stated = last in node
    if stated and node[last] is not None and text not in ("None", "none"):
        return
    known = _keys(config, path, given)
    if not stated:
        _require(key, path, last, node, known)
    kind, optional = (object, True) if known is None else known.get(last, (None, False))
    if stated and node.get_type(last) is not type(None) and not optional:
        return
    if kind is not None:
        can_be_none = optional and text in ("None", "none")
        node[last] = placeholder(object if can_be_none else kind)


def _require(
    key: str,
    path: Place,
    part: str,
    node: ml_collections.ConfigDict,
    known: Mapping[str, Any] | None,
) -> None:
    if known is not None and part not in known:
        where = ".".join(("config", *path))
        hint = suggestion(part, {*known, *node})
        raise UserError(f'--config.{key}: {where} has no key "{part}".{hint}')


def _keys(
    config: ml_collections.ConfigDict, path: Place, given: Mapping[str, str]
) -> dict[str, tuple[type, bool]] | None:
    """The keys of a group, the type of each and whether it may be None; None if unknown."""
    if not path:
        known = config_lib.KEYS | config_lib.OPTIONAL
        return dict.fromkeys(known, (object, True))
    function, hidden, besides = _callee(config, path, given)
    if function is None:
        return None
    where = ".".join(("config", *path))
    found = parts.inspect_arguments(function, where)
    if any(x.kind is x.VAR_KEYWORD for x in found.values()):
        return None
    hints = _hints(function)
    keys = {
        name: _type(hints.get(name, parameter.annotation), parameter.default)
        for name, parameter in found.items()
        if name not in {*_NOT_FROM_CONFIG, *hidden}
    }
    if path == ("optimizer",):
        hints = typing.get_type_hints(Common)
        keys = {name: keys[name] for name in keys if name not in (*RATES, *MASKS)} | {
            field.name: _type(hints[field.name], field.default)
            for field in dataclasses.fields(Common)
        }
    return dict.fromkeys(besides, (object, False)) | keys


def _callee(
    config: ml_collections.ConfigDict, path: Place, given: Mapping[str, str]
) -> tuple[Callable[..., Any] | None, Collection[str], Collection[str]]:
    """What takes the keys of a group, what it gets from elsewhere, and the keys besides."""
    from segjax.models.groups import VALUES
    from segjax.tasks.table import task_name

    if path[:2] == ("evaluation", "model_overrides"):
        path = ("model", *path[2:])
    if path[0] == "model" and path[-1] in VALUES:
        return VALUES[path[-1]], (), ()
    named, functions = tables(task_name(config))
    if path in functions:
        return *functions[path], ()
    table = named.get(path)
    if table is None:
        return None, (), ()
    group: Any = config
    for part in path:
        group = group[part] if part in group and group[part] is not None else {}
    name = given.get(".".join((*path, "name")), group.get("name"))
    if name is None or isinstance(name, parts.StoredName):  # leave is given later
        return None, (), ()
    found = parts.find(table, name, ".".join(("config", *path, "name")))
    return found, (), (*_BESIDES.get(path, ()), "name")


def tables(
    task: str,
) -> tuple[
    Mapping[Place, Mapping[str, Any]],
    Mapping[Place, tuple[Callable[..., Any], Collection[str]]],
]:
    """What the groups of a config choose from, and what takes those without a name.

    Args:
      task: "semantic" or "instance".

    Returns:
      Tables of parts by the group whose name chooses one, and by the groups without a name
      what takes their keys, with those of its arguments that it gets from elsewhere.
    """
    from segjax.backbones import BACKBONES
    from segjax.data import DATASETS
    from segjax.data.folds import with_fold
    from segjax.data.normalization import Percentiles
    from segjax.layers.crf import DenseCRF
    from segjax.losses import INSTANCE_LOSSES, LOSSES
    from segjax.models import MODELS
    from segjax.objects.separation import Separation
    from segjax.predict.temperature import TemperatureScaling
    from segjax.runs.initialization import Initialization
    from segjax.tasks.semantic.crf import CRF
    from segjax.training.early_stopping import EarlyStopping
    from segjax.training.layout import Layout
    from segjax.training.mixing import MIXES
    from segjax.training.optimizers.ema import EMA
    from segjax.training.optimizers.optim import OPTIMIZERS, SCHEDULES

    named: dict[Place, Mapping[str, Any]] = {
        ("data",): DATASETS,
        ("model",): MODELS,
        ("model", "backbone"): BACKBONES,
        ("model", "network"): MODELS,
        ("model", "network", "backbone"): BACKBONES,
        ("optimizer",): OPTIMIZERS,
        ("mix",): MIXES,
        ("schedule",): SCHEDULES,
    }
    functions: dict[Place, tuple[Callable[..., Any], Collection[str]]] = {
        ("model", "crf"): (DenseCRF, ()),
        ("pipeline", "percentiles"): (Percentiles, ()),
        ("initialization",): (Initialization, ()),
        ("crf",): (CRF, ()),
        ("fold",): (with_fold, ()),
        ("objects",): (Separation, ()),
        ("ema",): (EMA, ()),
        ("early_stopping",): (EarlyStopping, ()),
        ("sharding",): (Layout, ()),
        ("calibration",): (TemperatureScaling, ()),
    }
    if task == "semantic":
        from segjax.tasks.semantic import evaluate
        from segjax.tasks.semantic import task as semantic

        named["loss",] = LOSSES
        functions["pipeline",] = semantic.train_batches, semantic.GIVEN_TO_PIPELINE
        functions["evaluation",] = evaluate.Evaluation, ()
    elif task == "instance":
        from segjax.tasks.instance import evaluate as of_objects
        from segjax.tasks.instance import task as instance

        named["loss",] = INSTANCE_LOSSES
        functions["pipeline",] = instance.instance_batches, instance.GIVEN_TO_PIPELINE
        functions["evaluation",] = of_objects.InstanceEvaluation, ()
    return named, functions


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The types of arguments; nothing where Python cannot find their names."""
    try:
        return typing.get_type_hints(function)
    except (
        NameError,
        TypeError,
        AttributeError,
    ):  # names that type checkers alone import
        return {}


def _type(hint: Any, default: Any) -> tuple[type, bool]:
    """The type by which the text of an argument is read, and whether it may be None.

    Example:
      >>> _type(float | None, None), _type(tuple[int, int], ()), _type(int | str, 1)
      ((<class 'float'>, True), (<class 'tuple'>, False), (<class 'object'>, False))
    """
    origin = typing.get_origin(hint)
    options = (hint,)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
    kinds = {typing.get_origin(x) or x for x in options} - {types.NoneType}
    optional = len(options) > len(kinds) or default is None
    if kinds <= {inspect.Parameter.empty, Any} and type(default) in _READ:
        kinds = {type(default)}
    if kinds == {int, float}:
        kinds = {float}
    kind = kinds.pop() if len(kinds) == 1 else object
    kind = tuple if kind is Sequence else kind
    return (kind if kind in _READ else object), optional


_READ = (bool, int, float, str, tuple)
"""Types whose text is read as such; that of others is read as Python writes values."""
