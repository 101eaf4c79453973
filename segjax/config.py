"""Experiments as data: checking, comparing and storing a config.

A config is a `ml_collections.ConfigDict`. Each of its groups that carries a `name` is
built by looking the name up in one table and passing the other keys as arguments, so a
key of a group *is* the name of an argument.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from segjax import parts
from segjax.errors import UserError, shown, suggestion
from segjax.parts import argument as argument
from segjax.parts import arguments as arguments
from segjax.parts import build as build
from segjax.parts import call as call
from segjax.parts import check_arguments as check_arguments
from segjax.parts import inspect_arguments as inspect_arguments
from segjax.parts import require_group as require_group
from segjax.shipped_configs import located, shipped_configs
from segjax.types import is_integer

KEYS = {
    "seed": "seed of the weights, the order of the records and the augmentation",
    "num_steps": "steps of the optimizer in the whole run",
    "batch_size": "examples a step, over all devices",
    "log_every": "steps between two lines of the log",
    "eval_every": "steps between two evaluations",
    "checkpoint_every": "steps between two checkpoints",
    "data": "the data set: a name of segjax.data.DATASETS and its arguments",
    "pipeline": "from stored images to batches: arguments of pipeline.train_batches",
    "model": "the network: a name of segjax.models.MODELS and its attributes",
    "loss": "a name of segjax.losses.LOSSES and its arguments",
    "optimizer": "a name of segjax.training.optimizers.optim.OPTIMIZERS and its arguments",
    "schedule": "a name of segjax.training.optimizers.optim.SCHEDULES and its arguments",
    "evaluation": "arguments of segjax.tasks.semantic.evaluate.Evaluation",
}
"""The top-level keys that every experiment has, and what they mean."""

OPTIONAL = {
    "task": 'what is found: "semantic", the default, or "instance"',
    "initialization": "weights to begin with: segjax.runs.initialization.Initialization",
    "calibration": "how sure predictions are: fields of segjax.predict.temperature.TemperatureScaling",
    "hooks": "loggers, and hooks of one's own: names of segjax.training.hooks.HOOKS, or groups",
    "early_stopping": "when a run ends before its last step: fields of EarlyStopping",
    "head": 'how logits are read: "softmax", the default, or "sigmoid" (segjax.tasks.semantic.head)',
    "mix": "how the examples of a batch are mixed: a name of segjax.training.mixing.MIXES",
    "crf": "what --crf does to predictions: fields of segjax.tasks.semantic.crf.CRF",
    "fold": "which part of the labelled images validates: arguments of segjax.data.folds.with_fold",
    "ema": "a moving average that is evaluated: fields of segjax.training.optimizers.ema.EMA",
    "step": "a name of segjax.training.optimization.STEPS and its arguments",
    "objects": "how pixels become objects: fields of segjax.objects.separation.Separation",
    "sharding": "how a run lies on its devices: fields of segjax.training.layout.Layout",
    "keep_every": "steps between two checkpoints that are kept for good",
    "checkpoint_every_minutes": "minutes after which a run saves, too, where it logs",
}
"""The top-level keys that an experiment may have besides."""

GROUPS = ("data", "pipeline", "model", "loss", "optimizer", "schedule", "evaluation")
"""Those among the keys that are groups, and so are those of `OPTIONAL` that name fields or arguments."""

CHANGEABLE = (
    *("num_steps", "log_every", "eval_every", "checkpoint_every"),
    *("keep_every", "checkpoint_every_minutes"),
)
"""Keys that a resumed run may change."""

CHANGEABLE_GROUPS = ("calibration", "crf", "objects", "early_stopping", "sharding")
"""Groups that it may change, too: the steps of training do not know of them, and of another
`sharding` no more than rounding."""

CHANGEABLE_HOOKS = "hooks"
"""The key of the hooks, which it may change as well."""


IN_BFLOAT16 = "+bf16"
"""What follows the name of a preset on accelerators."""


def presets(
    default: Callable[[], dict],
    *others: Callable[[], dict],
    **named: Callable[[], dict],
) -> Callable[..., ml_collections.ConfigDict]:
    """Makes the `get_config` of a config file, in which a preset is a function.

    With "+bf16" after its name a preset computes in bfloat16 (`in_bfloat16`), and so does the
    default as "bf16".

    Args:
      default: what the file gives where no preset is asked for.
      *others: presets that have the names of their functions.
      **named: presets of other names, such as `**{"8s": stage8}`.

    Returns:
      `get_config(preset="")`; a preset that there is not raises ValueError.
    """
    known = named | {function.__name__: function for function in others}

    def get_config(preset: str = "") -> ml_collections.ConfigDict:
        name = f"+{preset}".removesuffix(IN_BFLOAT16)[1:]
        if name and name not in known:
            raise ValueError(
                f'no preset "{name}" ({IN_BFLOAT16} may follow one); known: '
                f"{', '.join(known)}"
            )
        config = known.get(name, default)()
        if name != preset:
            config = config | {"model": in_bfloat16(config["model"])}
        return ml_collections.ConfigDict(config)

    return get_config


def in_bfloat16(network: Mapping[str, Any]) -> dict[str, Any]:
    """The group of a network that computes in bfloat16, as accelerators do it fastest.

    Nothing else changes: parameters, running statistics, the sums of norms, logits, losses and
    what the optimizer keeps are float32, as `param_dtype` and the modules say. A CRF computes in
    float32, and so is what it is handed.

    Args:
      network: `config.model`, with the groups of networks in it.

    Returns:
      A copy.

    Example:
      >>> in_bfloat16({"name": "deeplab_v3", "backbone": {"name": "resnet"}})["backbone"]
      {'name': 'resnet', 'dtype': 'bfloat16'}
    """
    inner = {
        key: in_bfloat16(network[key])
        for key in ("network", "backbone")
        if network.get(key) is not None
    }
    own = {} if "network" in inner else {"dtype": "bfloat16"}
    return {**network, **inner, **own}


def load(file_and_preset: str) -> ml_collections.ConfigDict:
    """Calls `get_config` of a config file.

    Args:
      file_and_preset: such as "configs/unet_em.py:isbi", or "unet_em:isbi" for what comes
        with segjax.

    Returns:
      The config.

    Raises:
      UserError: if the file is missing, is not a config, or has no such preset.
    """
    name, _, preset = located(file_and_preset).partition(":")
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"--config={file_and_preset}: there is no file {name}, and no experiment of "
            f"that name comes with segjax.{suggestion(path.stem, shipped_configs())}"
        )
    spec = importlib.util.spec_from_file_location("segjax_config", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config={file_and_preset}: {name} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    executed = False
    try:
        spec.loader.exec_module(module)
        executed = True
        config = module.get_config(preset)
    except UserError:
        raise
    except Exception as error:  # whatever the user's own file can raise
        why = f"{name} cannot be used: {type(error).__name__}: {error}"
        if executed and isinstance(error, ValueError):  # get_config says it in words
            why = str(error)
        raise UserError(f"--config={file_and_preset}: {why}.") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f"--config={file_and_preset}: get_config of {name} returns "
            f"{type(config).__name__}. Let it return an ml_collections.ConfigDict."
        )
    return config


def check_overrides(config: ml_collections.ConfigDict, keys: Iterable[str]) -> None:
    """Checks that each dotted key, such as "model.features", is one of the config's.

    Raises:
      UserError: naming the key, with a suggestion.
    """
    for key in keys:
        node: Any = config
        done = "config"
        for part in key.split("."):
            if not isinstance(node, ml_collections.ConfigDict):
                raise UserError(
                    f"--config.{key}: {done} is a value, not a group of keys."
                )
            if part not in node:
                raise UserError(
                    f'--config.{key}: {done} has no key "{part}".{suggestion(part, node)}'
                )
            if node.get_type(part) is type(None):
                raise UserError(
                    f"--config.{key}: {done}.{part} is None in the config, so that it has "
                    "no type. Write the value into the file, or there "
                    "ml_collections.config_dict.placeholder(int) in place of None."
                )
            node, done = node[part], f"{done}.{part}"
        if isinstance(node, ml_collections.ConfigDict):
            plain = [
                k for k in node if not isinstance(node[k], ml_collections.ConfigDict)
            ]
            example = f", such as --config.{key}.{plain[0]}=..." if plain else ""
            raise UserError(
                f"--config.{key} is a group; set its keys one by one{example}."
            )


def value_of(config: ml_collections.ConfigDict, key: str) -> Any:
    """Returns the value of a dotted key, such as "model.features"."""
    return functools.reduce(operator.getitem, key.split("."), config)


def check(config: ml_collections.ConfigDict) -> None:
    """Checks that all keys are there, and no others but those of `OPTIONAL`.

    Raises:
      UserError: naming the first key that is missing, unknown, or out of range.
    """
    known = KEYS | OPTIONAL
    for key in config:
        if key not in known:
            raise UserError(
                f'The config has an unknown key "{key}".{suggestion(key, known)}'
            )
    for key, meaning in KEYS.items():
        if key not in config:
            raise UserError(f'The config lacks the key "{key}": {meaning}.')
    for key in (*GROUPS, "initialization", "fold", "mix", *CHANGEABLE_GROUPS):
        require_group(config.get(key, {}), f"config.{key}")
    for key in ("ema", "step"):
        if config.get(key) is not None:
            require_group(config[key], f"config.{key}")
    for key in ("batch_size", *CHANGEABLE[:-1]):
        if key not in config:
            continue
        if not is_integer(config[key]) or not 1 <= config[key] < 2**31:
            raise UserError(
                f"config.{key} must be an integer from 1 to 2147483647, got "
                f"{shown(config[key])}."
            )
    minutes = config.get("checkpoint_every_minutes", 1)
    if not isinstance(minutes, int | float) or not 0 < minutes < float("inf"):
        raise UserError(
            "config.checkpoint_every_minutes must be a number greater than 0, got "
            f"{shown(minutes)}."
        )
    if not is_integer(config.seed) or not 0 <= config.seed < 2**32:
        raise UserError(
            "config.seed must be an integer from 0 to 4294967295, got "
            f"{shown(config.seed)}."
        )


def is_changeable(key: str) -> bool:
    """Whether a resumed run may change a key, given with dots."""
    group = key.partition(".")[0]
    return key in (*CHANGEABLE, CHANGEABLE_HOOKS) or group in CHANGEABLE_GROUPS


def to_json(config: ml_collections.ConfigDict) -> str:
    """Writes a config as JSON; tuples become lists."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def from_json(text: str) -> ml_collections.ConfigDict:
    """Reads what `to_json` wrote; lists become tuples again."""
    return from_dict(json.loads(text))


def from_dict(plain: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Makes a config of a dict that came from JSON; lists become tuples again.

    Names of parts from outside are marked (`segjax.parts.StoredName`).

    Raises:
      ValueError: if it is not a dict, or not one that a config can be made of.
    """
    if not isinstance(plain, dict):
        raise ValueError(f"a config is a JSON object, got {shown(plain)}")

    def restore(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(restore(item) for item in value)
        if isinstance(value, dict):
            return {key: restore(item) for key, item in value.items()}
        return parts.stored(value) if isinstance(value, str) else value

    try:
        return ml_collections.ConfigDict(restore(plain))
    except (KeyError, AttributeError) as error:  # a key such as "items"
        raise ValueError(f"a key cannot be used: {error}") from None
    except RecursionError:
        raise ValueError("its groups are nested too deeply") from None


def with_leave(
    config: ml_collections.ConfigDict, allow_code: Collection[str]
) -> ml_collections.ConfigDict:
    """A stored config, in which names of parts from these packages may be imported.

    Raises:
      UserError: if one of them cannot be the name of a package.
    """
    plain = parts.with_leave(config.to_dict(), allow_code)
    return ml_collections.ConfigDict(plain)


def differences(
    old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> dict[str, str]:
    """Compares two configs: dotted key -> "was 4, now 8".

    Example:
      >>> a = ml_collections.ConfigDict({"model": {"name": "unet", "depth": 3}})
      >>> b = ml_collections.ConfigDict({"model": {"name": "unet", "depth": 4}})
      >>> differences(a, b)
      {'model.depth': 'was 3, now 4'}
    """
    left, right = (flattened(from_json(to_json(x))) for x in (old, new))
    found = {}
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) == right.get(key):  # what is not set is None, too
            continue
        was, now = (repr(x[key]) if key in x else "not set" for x in (left, right))
        found[key] = f"was {was}, now {now}"
    return found


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a config by their dotted keys.

    Example:
      >>> flattened(ml_collections.ConfigDict({"seed": 0, "model": {"depth": 3}}))
      {'model.depth': 3, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        group = isinstance(value, ml_collections.ConfigDict)
        flat |= flattened(value, f"{prefix}{key}.") if group else {prefix + key: value}
    return flat
