"""The hooks of a run: by the names that configs use, called where something happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from segjax import parts
from segjax.errors import UserError, shown
from segjax.training.hooks.hook import Hook, Metrics, Pictures, Result, RunStart
from segjax.training.hooks.tensorboard_pictures import TensorBoardPictures
from segjax.training.hooks.weights_and_biases import WeightsAndBiases

log = logging.getLogger("segjax")

HOOKS: Mapping[str, Callable[..., Hook]] = {
    "tensorboard_pictures": TensorBoardPictures,
    "wandb": WeightsAndBiases,
}
"""Hooks by name, for `config.hooks`."""

EVENTS = ("on_start", "on_log", "on_evaluate", "on_checkpoint", "on_end")
"""The methods of a hook."""


class Hooks:
    """The hooks of a run.

    One that fails is reported, and left out from then on: what is watched is worth more than
    who watches it. Only a run that begins ends where one cannot start, as nothing is lost then.
    """

    def __init__(self, hooks: Mapping[str, Hook]):
        self._given = dict(hooks)
        self._active: dict[str, Hook] = {}

    def start(self, run: RunStart) -> None:
        """Calls `on_start` of each.

        Raises:
          UserError: if one fails, and the run has not begun.
        """
        for name, hook in self._given.items():
            if _succeeds(name, hook, "on_start", run, must_succeed=run.step == 0):
                self._active[name] = hook

    def log(self, step: int, metrics: Metrics) -> None:
        """Calls `on_log` of each."""
        self._call("on_log", step, metrics)

    def evaluate(
        self, step: int, split: str, metrics: Metrics, pictures: Pictures
    ) -> None:
        """Calls `on_evaluate` of each."""
        self._call("on_evaluate", step, split, metrics, pictures)

    def checkpoint(self, step: int, folder: Path) -> None:
        """Calls `on_checkpoint` of each."""
        self._call("on_checkpoint", step, folder)

    def end(self, result: Result | None) -> None:
        """Calls `on_end` of each that was started, once."""
        self._call("on_end", result)
        self._active.clear()

    def _call(self, event: str, *arguments: Any) -> None:
        for name, hook in list(self._active.items()):
            if not _succeeds(name, hook, event, *arguments):
                del self._active[name]


def _succeeds(
    name: str, hook: Hook, event: str, *arguments: Any, must_succeed: bool = False
) -> bool:
    """Calls a method of a hook; where it fails, says so, or raises a `UserError`."""
    try:
        getattr(hook, event)(*arguments)
    except Exception as error:  # whatever code from outside can raise
        why = str(error) if isinstance(error, UserError) else parts.told(error)
        why = why.rstrip(".")
        if must_succeed:
            raise UserError(
                f"{name} fails in {event}: {why}. Leave it out, or see to it that it can "
                "start."
            ) from error
        log.warning("%s fails in %s and is left out from now on: %s.", name, event, why)
        return False
    return True


def check_hooks(config: ml_collections.ConfigDict) -> None:
    """Checks names and arguments of the hooks of `config.hooks`; makes none.

    Raises:
      UserError: if one is not known, has wrong arguments, or is a class that lacks a method.
    """
    for where, group in _groups(config):
        parts.require_group(group, where)
        hook = parts.find(HOOKS, group.get("name"), f"{where}.name")
        parts.check_arguments(hook, group, where)
        if isinstance(hook, type):
            _require_methods(hook, group, where)


def make_hooks(config: ml_collections.ConfigDict) -> dict[str, Hook]:
    """Makes the hooks of `config.hooks`.

    Args:
      config: the experiment; each of its hooks is a name, or a group with a name and arguments.

    Returns:
      The hooks, by their place in the config.

    Raises:
      UserError: if one is not known, has wrong arguments, or lacks a method or its package.
    """
    hooks: dict[str, Hook] = {}
    for where, group in _groups(config):
        hook = parts.build(HOOKS, group, where)
        _require_methods(hook, group, where)
        hooks[f"{where}, {group['name']!r},"] = hook
    return hooks


def _groups(config: ml_collections.ConfigDict) -> list[tuple[str, Mapping[str, Any]]]:
    """The place of each hook in the config, and its group.

    Raises:
      UserError: if `config.hooks` is no tuple.
    """
    given = config.get("hooks", ())
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise UserError(
            f"config.hooks is {shown(given)}: give a tuple, of names or of groups, such as "
            '({"name": "wandb", "project": "cells"},).'
        )
    groups = [{"name": x} if isinstance(x, str) else x for x in given]
    return [(f"config.hooks[{i}]", group) for i, group in enumerate(groups)]


def _require_methods(hook: Any, group: Mapping[str, Any], where: str) -> None:
    """Raises a `UserError` if a hook, or its class, lacks one of the methods."""
    missing = [name for name in EVENTS if not callable(getattr(hook, name, None))]
    if missing:
        raise UserError(
            f"{where} is {group['name']!r}, which has no {missing[0]}: let it inherit from "
            "segjax.training.hooks.Hook."
        )
