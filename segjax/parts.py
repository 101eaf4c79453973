"""The parts that a config names: keys of a table, or "package.module:Name", code from outside.

A name that a user writes is imported. One that was read from a run or a model file is a
`StoredName`, which may be anybody's: it is imported once the user gave leave to its package.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import ml_collections

from segjax.errors import UserError, shown, suggestion

T = TypeVar("T")

SEPARATOR = ":"
"""Between module and name of a part from outside."""

HARMLESS = (
    "optax",
    *("segjax.models", "segjax.backbones", "segjax.losses"),
    *("segjax.training.optimizers.optim", "segjax.data.augment"),
)
"""Modules whose own definitions stored names may name without leave.

What they import from elsewhere is not theirs ("segjax.models:x.os.system"), and other modules of
segjax can do more than build a network: `segjax.config.load` runs a file.
"""

_OUTSIDE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class StoredName(str):
    """The name of a part from outside, read from a file that need not be the user's own."""

    __slots__ = ()


class GivenName(StoredName):
    """A name that the user gave in the place of a stored one; it needs no leave."""

    __slots__ = ()


def is_outside(name: object) -> bool:
    """Whether a name is that of a part from outside.

    Example:
      >>> is_outside("my_package.nets:Net"), is_outside("unet")
      (True, False)
    """
    return isinstance(name, str) and _OUTSIDE.fullmatch(name) is not None


def package_of(name: str) -> str:
    """The package of a part from outside, which leave is given to.

    Example:
      >>> package_of("my_package.nets:Net")
      'my_package'
    """
    return name.partition(SEPARATOR)[0].partition(".")[0]


def stored(text: str) -> str:
    """Marks text of a stored config where it is the name of a part from outside.

    Example:
      >>> type(stored("os:system")).__name__, type(stored("unet")).__name__
      ('StoredName', 'str')
    """
    return StoredName(text) if is_outside(text) else text


def with_leave(value: Any, allow_code: Collection[str]) -> Any:
    """Takes the mark from the stored names of some packages.

    Args:
      value: of a config: text, groups, tuples.
      allow_code: the packages; whole names, as "my_package".

    Returns:
      The same value, without those marks.

    Raises:
      UserError: if one of them cannot be the name of a package.
    """
    for package in allow_code:
        if not package.isidentifier():
            raise UserError(
                f"--allow_code={package} is not the name of a package: give the first word "
                "of the name, as my_package of my_package.nets:Net."
            )
    if isinstance(value, StoredName):
        is_allowed = isinstance(value, GivenName) or package_of(value) in allow_code
        return str(value) if is_allowed else value
    if isinstance(value, Mapping):
        return {key: with_leave(item, allow_code) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(with_leave(item, allow_code) for item in value)
    return value


def _require_leave(name: str, where: str, defined_in: object) -> None:
    """Checks that a name does not wait for leave.

    Raises:
      UserError: naming the key, the package and the flag.
    """
    waits = isinstance(name, StoredName) and not isinstance(name, GivenName)
    if waits and not _is_harmless(defined_in):
        raise UserError(
            f"{where} is {shown(name)}, code of the package {package_of(name)} that comes "
            "from a stored run or model: if you trust it, give "
            f"--allow_code={package_of(name)}."
        )


def _is_harmless(module: object) -> bool:
    return any(f"{module}.".startswith(f"{known}.") for known in HARMLESS)


def find(table: Mapping[str, Any], name: object, where: str) -> Any:
    """Finds the part that a config names.

    Args:
      table: such as `segjax.models.MODELS`.
      name: a key of it, or the name of a part from outside.
      where: the place of the name, such as "config.model.name", for messages.

    Returns:
      The entry of the table, or what was imported.

    Raises:
      UserError: if there is no such part, it waits for leave, its module cannot be
        imported, or it cannot be called.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    if not isinstance(name, str) or not is_outside(name):
        hint = ""
        if isinstance(name, str) and {".", SEPARATOR} & set(name):
            hint = ' Code of your own is named "package.module:Name".'
        raise UserError(
            f"{where} is {shown(name)}, which segjax does not know."
            f"{hint or suggestion(str(name), table)}"
        )
    _require_leave(name, where, name.partition(SEPARATOR)[0])
    found = load(name, where)
    _require_leave(name, where, getattr(found, "__module__", None))
    return found


def load(name: str, where: str) -> Callable[..., Any]:
    """Imports a part from outside; leave is the caller's business.

    Args:
      name: such as "my_package.nets:Net".
      where: its place in the config, for messages.

    Returns:
      What has that name, which can be called.

    Raises:
      UserError: if the module cannot be imported, or has no such name that can be called.
    """
    module, _, attributes = name.partition(SEPARATOR)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a module can raise
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            raise UserError(
                f"{where} is {shown(name)}, but Python finds no module {missing}: install "
                "its package, or name its folder in PYTHONPATH."
            ) from error
        raise UserError(
            f"{where} is {shown(name)}, but the import of {module} fails: {told(error)}."
        ) from error
    for attribute in attributes.split("."):
        inside = found
        try:
            found = getattr(inside, attribute)
        except AttributeError as error:
            names = [x for x in dir(inside) if callable(getattr(inside, x, None))]
            public = [x for x in names if not x.startswith("_")]
            raise UserError(
                f"{where} is {shown(name)}, but {module} has no {attribute}."
                f"{suggestion(attribute, public)}"
            ) from error
    if not callable(found):
        raise UserError(
            f"{where} is {shown(name)}, a {type(found).__name__}, which cannot be called: "
            "name a class or a function."
        )
    return found


def told(error: BaseException) -> str:
    """Tells what code from outside raised, and where, in half a sentence.

    Example:
      >>> try:
      ...     [].pop()
      ... except IndexError as error:
      ...     told(error).partition(" (")[0]
      'IndexError: pop from empty list'
    """
    lines = str(error).strip().splitlines()
    first = lines[0].rstrip(".:") if lines else ""
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    place = _place(error)
    return f"{text} ({place})" if place else text


def _place(error: BaseException) -> str:
    """The innermost line of code that belongs neither to Python, nor to JAX, nor to segjax."""
    places = [sysconfig.get_path("stdlib"), "<"]
    for package in ("segjax", "jax", "flax", "optax", "grain", "numpy"):
        file = getattr(sys.modules.get(package), "__file__", None)
        places += [os.path.dirname(file)] if file else []
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(tuple(places)):
            return f"{frame.filename}, line {frame.lineno}"
    return ""


def require_group(value: object, where: str) -> None:
    """Checks that a value of a config is a group; a `UserError` if not."""
    if not isinstance(value, (Mapping, ml_collections.ConfigDict)):
        raise UserError(f"{where} is {shown(value)}; it must be a group, dict(...).")


def arguments(group: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a group but its name, nested groups as plain dicts."""
    plain = group.to_dict() if isinstance(group, ml_collections.ConfigDict) else group
    return {key: value for key, value in plain.items() if key != "name"}


def argument(function: Callable[..., Any], group: Mapping[str, Any], key: str) -> Any:
    """Returns what a group gives a function for an argument, or the function's default."""
    if key in group:
        return group[key]
    return inspect.signature(function).parameters[key].default


def build(
    table: Mapping[str, Callable[..., T]],
    group: Mapping[str, Any],
    where: str,
    **more: Any,
) -> T:
    """Calls the entry of `table` that the group names, with the group as arguments.

    Args:
      table: such as `MODELS`.
      group: such as `config.model`, with a `name` and arguments.
      where: the group's place, such as "config.model", for messages.
      **more: arguments that do not come from the config.

    Returns:
      What the entry makes.

    Raises:
      UserError: if the name or an argument is unknown, one is missing, or the callee
        refuses a value.
    """
    require_group(group, where)
    function = find(table, group.get("name"), f"{where}.name")
    if group["name"] in table:
        return call(function, group, where, **more)
    taken = inspect_arguments(function, where)
    try:
        return call(function, group, where, **{k: more[k] for k in more if k in taken})
    except UserError:
        raise
    except Exception as error:  # whatever code from outside can raise
        raise UserError(f"{where}: {group['name']} fails: {told(error)}.") from error


def call(
    function: Callable[..., T], group: Mapping[str, Any], where: str, **more: Any
) -> T:
    """Calls a function with a config group as arguments; errors say where it stands."""
    given = check_arguments(function, group, where, given_later=tuple(more))
    try:
        return function(**given, **more)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: {str(error).rstrip('.')}.") from error


def check_arguments(
    function: Callable[..., Any],
    group: Mapping[str, Any],
    where: str,
    given_later: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Checks the keys of a group against the arguments of a function.

    Args:
      function: what will be called.
      group: the config group.
      where: its place, such as "config.model", for messages.
      given_later: arguments that do not come from the config.

    Returns:
      The arguments that the group gives.

    Raises:
      UserError: if it is not a group, if a key is not an argument, or an argument without
        default is missing.
    """
    require_group(group, where)
    given = arguments(group)
    parameters = inspect_arguments(function, where)
    allowed = parameters.keys() - {"parent", "name", *given_later}
    takes_any = any(x.kind is x.VAR_KEYWORD for x in parameters.values())
    for argument in given:
        if argument not in allowed and not takes_any:
            raise UserError(
                f'{where} has an unknown key "{argument}".'
                f"{suggestion(argument, allowed)}"
            )
    for name in sorted(allowed - given.keys()):
        parameter = parameters[name]
        is_variadic = parameter.kind in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        if parameter.default is parameter.empty and not is_variadic:
            raise UserError(f'{where} lacks the key "{name}".')
    return given


def inspect_arguments(
    function: Callable[..., Any], where: str
) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function by name; a `UserError` where Python cannot tell them."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where} names {shown(function)}, whose arguments Python cannot tell: name a "
            "class or a function that is written in Python."
        ) from error
