"""What a config can name: the tables of the parts, and the experiments that come with segjax."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax
import optax.contrib

from segjax import metrics
from segjax.backbones import BACKBONES
from segjax.data import DATASETS
from segjax.data.augment.augmentations import AUGMENTATIONS
from segjax.data.augment.views import INSTANCE_AUGMENTATIONS
from segjax.errors import UserError, suggestion
from segjax.losses import INSTANCE_LOSSES, LOSSES
from segjax.models import MODELS
from segjax.pretrained.hugging_face import LICENCE, REPOSITORIES
from segjax.pretrained.published import PUBLISHED
from segjax.pretrained.shipped import shipped_models
from segjax.pretrained.sources import SOURCES
from segjax.shipped_configs import shipped_configs
from segjax.training.hooks import HOOKS
from segjax.training.mixing import MIXES
from segjax.training.optim import OPTIMIZERS, SCHEDULES


def optax_optimizers() -> dict[str, Callable[..., Any]]:
    """The functions of Optax that make optimizers, by the names that a config has.

    Example:
      >>> optax_optimizers()["optax:lion"] is optax.lion
      True
    """
    found: dict[str, Callable[..., Any]] = {}
    for module in (optax, optax.contrib):
        for name, function in sorted(vars(module).items()):
            if not inspect.isfunction(function) or name.startswith("scale_by_"):
                continue
            made = str(inspect.signature(function).return_annotation)
            is_part = module is optax and function.__module__ != "optax._src.alias"
            if "GradientTransformation" in made and not is_part:
                found[f"{module.__name__}:{name}"] = function
    return found


TABLES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "augmentations": {**INSTANCE_AUGMENTATIONS, **AUGMENTATIONS},
    "backbones": BACKBONES,
    "data": DATASETS,
    "hooks": HOOKS,
    "losses": {**LOSSES, **INSTANCE_LOSSES},
    "metrics": {
        name: vars(metrics)[name]
        for name in metrics.__all__
        if callable(vars(metrics)[name])
    },
    "mixes": MIXES,
    "models": MODELS,
    "optimizers": {**OPTIMIZERS, **optax_optimizers()},
    "schedules": SCHEDULES,
}
"""Classes and functions by the names that configs use."""

KINDS = tuple(sorted([*TABLES, "configs", "trained", "weights"]))
"""What there are lists of; "trained" are models that come with segjax, "weights" sources of
`segjax import`."""


def names(kind: str) -> dict[str, str]:
    """Lists the parts of a kind.

    Args:
      kind: one of `KINDS`.

    Returns:
      What each is, in a line, by name.

    Raises:
      UserError: if there is no such kind.

    Example:
      >>> names("schedules")["constant"]
      'The same rate at every step.'
    """
    if kind == "configs":
        return {
            name: _first_line(ast.get_docstring(ast.parse(file.read_text("utf-8"))))
            for name, file in shipped_configs().items()
        }
    if kind == "trained":
        return {name: f"segjax predict --model={name}" for name in shipped_models()}
    if kind == "weights":
        return {name: f"segjax import --source={name}" for name in sorted(SOURCES)}
    table = _table(kind)
    return {name: _first_line(inspect.getdoc(table[name])) for name in sorted(table)}


def described(kind: str, name: str) -> str:
    """Describes one part: its arguments with their defaults, and its documentation.

    Args:
      kind: one of `KINDS`.
      name: of the part.

    Returns:
      Lines of text.

    Raises:
      UserError: if there is no such kind, or no such part.

    Example:
      >>> described("schedules", "poly").splitlines()[0]
      'poly(*, learning_rate, num_steps, power=0.9, end=0.0)'
    """
    if name not in (known := names(kind)):
        raise UserError(f'There is no "{name}" in {kind}.{suggestion(name, known)}')
    if kind == "configs":
        file = shipped_configs()[name]
        text = ast.get_docstring(ast.parse(file.read_text("utf-8")))
        return f"{file}\n\n{text}"
    if kind == "weights" and name in PUBLISHED:
        return f"{known[name]}\n\nPublished as {PUBLISHED[name]}"
    if kind == "weights" and name in REPOSITORIES:
        return f"{known[name]}\n\n{REPOSITORIES[name]} of Hugging Face; {LICENCE}"
    if kind not in TABLES:
        return known[name]
    part = TABLES[kind][name]
    return f"{name}{_arguments(part)}\n\n{inspect.getdoc(part) or ''}".rstrip()


def _table(kind: str) -> Mapping[str, Callable[..., Any]]:
    if kind not in TABLES:
        raise UserError(f'There is no list of "{kind}".{suggestion(kind, KINDS)}')
    return TABLES[kind]


def _arguments(part: Callable[..., Any]) -> str:
    """The arguments as a config gives them: without types, and what Flax adds."""
    signature = inspect.signature(part)
    wanted = [
        parameter.replace(annotation=parameter.empty)
        for name, parameter in signature.parameters.items()
        if name not in ("parent", "name")
    ]
    plain = signature.replace(
        parameters=wanted, return_annotation=inspect.Signature.empty
    )
    return str(plain)


def _first_line(text: str | None) -> str:
    """The first sentence of a docstring, as far as it stands on its first lines."""
    paragraph = (text or "").partition("\n\n")[0]
    return " ".join(paragraph.split())
