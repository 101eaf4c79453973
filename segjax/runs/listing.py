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
from segjax.pretrained.figures import FIGURES
from segjax.pretrained.hugging_face import REPOSITORIES
from segjax.pretrained.published import PUBLISHED, licence_of
from segjax.pretrained.shipped import shipped_models
from segjax.pretrained.sources import SOURCES
from segjax.shipped_configs import shipped_configs
from segjax.training.hooks import HOOKS
from segjax.training.mixing import MIXES
from segjax.training.optimizers.optim import OPTIMIZERS, SCHEDULES


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

KINDS = {
    "augmentations": "config.pipeline.augment",
    "backbones": "config.model.backbone.name",
    "configs": "--config=NAME, or NAME:PRESET",
    "data": "config.data.name",
    "hooks": "config.hooks",
    "losses": "config.loss.name",
    "metrics": "functions of segjax.metrics; what a run measures is in config.evaluation",
    "mixes": "config.mix.name",
    "models": "config.model.name",
    "optimizers": "config.optimizer.name",
    "schedules": "config.schedule.name",
    "sources": "weights from elsewhere: import --source=NAME, config.initialization.source",
    "trained": "networks that come with segjax: predict --model=NAME, train --continue_from=NAME",
}
"""What there are lists of, and where the names go."""


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
    if kind == "sources":
        return {name: str(FIGURES.get(name, "of your own")) for name in sorted(SOURCES)}
    table = _table(kind)
    return {name: _first_line(_subject(kind, table[name])) for name in sorted(table)}


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
    if kind == "sources":
        return f"{name}: {known[name]}\n\n{_source(name)}"
    if kind not in TABLES:
        return known[name]
    part = TABLES[kind][name]
    texts = (_subject(kind, part), inspect.getdoc(part) or "")
    return "\n\n".join([name + _arguments(part), *dict.fromkeys(texts)]).rstrip()


def _subject(kind: str, part: Callable[..., Any]) -> str:
    """What a part is; of a model its file says it, which names the paper."""
    told = inspect.getmodule(part) if kind == "models" else part
    return inspect.getdoc(told) or ""


def _source(name: str) -> str:
    """How a source is used, and where its file is published."""
    source = SOURCES[name]
    group = f"--config.initialization.source={name}"
    use = group if source.is_backbone else f"segjax import --source={name}, or {group}"
    lines = [use, f'Images are normalised by "{source.normalization}".']
    if source.input_size is not None:
        lines.append("They were {}x{} pixels.".format(*source.input_size))
    if name in PUBLISHED:
        lines.append(f"Published as {PUBLISHED[name]}")
    if name in REPOSITORIES:
        lines.append(f"{REPOSITORIES[name]} of Hugging Face; {licence_of(name)}")
    return "\n".join(lines)


def _table(kind: str) -> Mapping[str, Callable[..., Any]]:
    if kind not in TABLES:
        raise UserError(f'There is no list of "{kind}".{suggestion(kind, KINDS)}')
    return TABLES[kind]


def _arguments(part: Callable[..., Any]) -> str:
    """The arguments as a config gives them: without types, and what Flax adds."""
    signature = inspect.signature(part)
    wanted = [
        parameter.replace(
            annotation=parameter.empty, default=_as_in_a_config(parameter.default)
        )
        for name, parameter in signature.parameters.items()
        if name not in ("parent", "name")
    ]
    plain = signature.replace(
        parameters=wanted, return_annotation=inspect.Signature.empty
    )
    return str(plain)


def _as_in_a_config(default: Any) -> Any:
    """A default as a config writes it: dtypes by their names."""
    is_dtype = isinstance(default, type) and default is not inspect.Parameter.empty
    return default.__name__ if is_dtype else default


def _first_line(text: str | None) -> str:
    """The first sentence of a docstring, as far as it stands on its first lines."""
    paragraph = (text or "").partition("\n\n")[0]
    return " ".join(paragraph.split())
