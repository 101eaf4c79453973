"""Flags that several verbs have, and their values."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from segjax.errors import UserError
from segjax.parts import GivenName, StoredName
from segjax.shipped_configs import located

if TYPE_CHECKING:
    import ml_collections


class _NameParser(flags.ArgumentParser):
    """Reads --config.model.name=... where it replaces a name of a stored config."""

    def parse(self, argument: str) -> GivenName:
        return GivenName(argument)


_MOST_PAGES = 1 << 20
_CHECKPOINTS = ("latest", "best")


class _CheckpointParser(flags.EnumParser):
    """Reads --checkpoint: one of two words, or a step."""

    def __init__(self) -> None:
        super().__init__([*_CHECKPOINTS, "a step"])

    def parse(self, argument: str) -> str:
        if argument in _CHECKPOINTS or re.fullmatch(r"\d{1,10}", argument, re.ASCII):
            return argument
        raise ValueError(f"value should be one of {', '.join(self.enum_values)}")


class WordsParser(flags.EnumParser):
    """Reads one or several of some words, with commas between them."""

    def parse(self, argument: str) -> Any:
        """Returns the words, each once; a ValueError where one is another."""
        words = dict.fromkeys(argument.split(","))
        return tuple(super(WordsParser, self).parse(word) for word in words)


config_flags.register_flag_parser_for_type(StoredName, _NameParser())

Flags = flags.FlagValues

CONFIG = "config"
PATHS = (
    *("workdir", "model", "ensemble", "runs", "continue_from", "weights"),
    *("cache_dir", "data_root", "input", "output", "write_images"),
)
"""The flags whose values are paths. Those of a verb that may be addresses of remote folders, too,
stand in its `REMOTE`."""


class _Loaded(flags.ArgumentParser):
    """Gives the config that `named_by` has read, which states the keys that are changed."""

    def __init__(self, config: ml_collections.ConfigDict):
        self.config = config.lock()

    def parse(self, _: str) -> ml_collections.ConfigDict:
        return self.config


def define_config(values: Flags, arguments: Sequence[str] | None = None) -> None:
    """Defines --config, and with it --config.KEY for each of its keys.

    Args:
      values: the flags.
      arguments: those that change keys; None for those of the process.
    """
    config_flags.DEFINE_config_file(
        CONFIG,
        None,
        "The experiment: a file, and a preset after a colon. --config.KEY=VALUE changes "
        "a key.",
        flag_values=values,
        sys_argv=None if arguments is None else [*arguments],
    )


def read_config(values: Flags, arguments: Sequence[str]) -> Any:
    """Reads the config that arguments name, before they are parsed, and keeps it for that.

    Args:
      values: the flags, unparsed.
      arguments: of the command line.

    Returns:
      The config without the changes of the arguments; None where none is named.

    Raises:
      UserError: if it cannot be read, or has no such key.
    """
    from segjax.runs.overrides import named_by

    config = named_by(arguments, f"--{CONFIG}")
    if config is not None and CONFIG in values:
        values[CONFIG].parser = _Loaded(config)
    return config


def define_workdir(values: Flags) -> None:
    """Defines --workdir."""
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder of the run: config, checkpoints, logs.",
        flag_values=values,
    )


def define_data(values: Flags) -> None:
    """Defines where prepared and own data lie."""
    flags.DEFINE_string(
        "cache_dir",
        None,
        "Where prepared data sets lie; default: that of TFDS.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data_root",
        None,
        "Your own files: stacks of a challenge, images/ and labels/.",
        flag_values=values,
    )


def define_split(values: Flags, default: str) -> None:
    """Defines --split; `default` says which it is without."""
    flags.DEFINE_string(
        "split",
        None,
        f"The split of the data set; default: {default}.",
        flag_values=values,
    )


def define_model(values: Flags) -> None:
    """Defines --model, which says the same as --workdir."""
    flags.DEFINE_string(
        "model",
        None,
        "In place of --workdir: a model file, or the name of a model that comes with segjax.",
        flag_values=values,
    )


def define_checkpoint(values: Flags, default: str = "latest") -> None:
    """Defines --checkpoint."""
    flags.DEFINE(
        _CheckpointParser(),
        "checkpoint",
        default,
        "Which checkpoint of the run: latest, best, or a step.",
        flag_values=values,
    )


def define_measure(values: Flags) -> None:
    """Defines --measure."""
    flags.DEFINE_list(
        "measure",
        [],
        "Measures these, too: keys of config.evaluation such as calibration,boundary_iou, or "
        "metrics of your own, package.module:Name.",
        flag_values=values,
    )


def define_ensemble(values: Flags) -> None:
    """Defines --ensemble, which further runs are values of."""
    flags.DEFINE_multi_string(
        "ensemble",
        [],
        "Further runs or models, whose probabilities are averaged with those of the first: "
        "segjax VERB runs/a runs/b runs/c.",
        flag_values=values,
    )


def define_tile(values: Flags) -> None:
    """Defines --tile."""
    flags.DEFINE_integer(
        "tile",
        None,
        "Output side of a tile in pixels, 0 for whole images; default: one that suits "
        "the image.",
        lower_bound=0,
        flag_values=values,
    )


def define_crf(values: Flags) -> None:
    """Defines --crf."""
    flags.DEFINE_bool("crf", False, "Refines labels by config.crf.", flag_values=values)


def define_allow_code(values: Flags) -> None:
    """Defines --allow_code."""
    flags.DEFINE_list(
        "allow_code",
        [],
        "Packages whose code may be imported where the config of the run or model names it.",
        flag_values=values,
    )


def define_overwrite(values: Flags) -> None:
    """Defines --overwrite."""
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Replaces files that segjax did not write, too.",
        flag_values=values,
    )


def before_parsing(arguments: Sequence[str], flag: str) -> str | None:
    """The last value that arguments give a flag, before they are parsed.

    Example:
      >>> before_parsing(["--config", "a.py", "--tile=8"], "config")
      'a.py'
    """
    found = None
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in (f"--{flag}", f"-{flag}"):
            found = value if equals else "".join(arguments[i + 1 : i + 2])
    return found


def with_located_config(arguments: Sequence[str]) -> list[str]:
    """Puts the paths of experiments that come with segjax in the place of their names.

    Example:
      >>> with_located_config(["--config", "unet_em:isbi", "--tile=8"])[1][-15:]
      'unet_em.py:isbi'
    """
    found = list(arguments)
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in (f"--{CONFIG}", f"-{CONFIG}"):
            if equals:
                found[i] = f"{name}={located(value)}"
            elif i + 1 < len(found):
                found[i + 1] = located(found[i + 1])
    return found


def define_pages(values: Flags, verb: str) -> None:
    """Defines --channels and --pages, what is taken of the files of --input.

    Args:
      values: the flags.
      verb: what is done to pages, such as "Predicts".
    """
    flags.DEFINE_list(
        "channels",
        None,
        "Takes these channels of the images of --input, by name or by number from 0, such "
        "as DAPI,GFP; default: as in training.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "pages",
        None,
        f"{verb} these pages of each file of --input, counted from 1, such as 1,5,9-12; "
        "default: all.",
        flag_values=values,
    )


def pages_of(values: Flags) -> list[int]:
    """The numbers of --pages, in their order, each once; none where it is not given.

    Raises:
      UserError: it is no list of numbers and ranges.
    """
    numbers: list[int] = []
    for part in values.pages.split(",") if values.pages else ():
        found = re.fullmatch(
            r"\s*([1-9]\d{0,8})(?:-([1-9]\d{0,8}))?\s*", part, re.ASCII
        )
        first, last = (found[1], found[2] or found[1]) if found else ("1", "0")
        if not int(first) <= int(last) < int(first) + _MOST_PAGES:
            raise UserError(
                f"--pages={values.pages} is no list of pages. Give numbers from 1 and ranges "
                "of them, such as --pages=1,5,9-12."
            )
        numbers += range(int(first), int(last) + 1)
    return list(dict.fromkeys(numbers))


def config_of(values: Flags) -> ml_collections.ConfigDict:
    """The experiment of --config.

    Raises:
      UserError: if there is none.
    """
    if values[CONFIG].value is None:
        raise UserError("Give an experiment, as --config=unet_em (--help).")
    return values[CONFIG].value


def workdir_of(values: Flags) -> Path:
    """The folder of the run.

    Raises:
      UserError: if none is given.
    """
    return Path(required(values, "workdir", "the folder of the run"))


def run_of(values: Flags) -> str:
    """The run, of --workdir or --model.

    Raises:
      UserError: if none is given, or two are.
    """
    if values.model and values.workdir:
        raise UserError(
            "--workdir and --model are given: one of them is enough, as both name what "
            "predicts."
        )
    if values.model:
        return required(values, "model", "a model file")
    return required(
        values, "workdir", "the folder of the run, or --model=..., a model file"
    )


def path_of(values: Flags, flag: str) -> str | None:
    """The value of a flag; ~ is the user's own folder."""
    value = values[flag].value
    return None if value is None else os.path.expanduser(value)


def required(values: Flags, flag: str, meaning: str) -> str:
    """The value of a flag that has to be given.

    Raises:
      UserError: saying what it means, if it is not.
    """
    value = path_of(values, flag)
    if not value:
        raise UserError(f"Give --{flag}=..., {meaning}.")
    return value


def checkpoint_of(values: Flags) -> dict[str, Any]:
    """The checkpoint of --checkpoint, as the arguments `best` and `step` of a run."""
    which = values.checkpoint
    named = which in _CHECKPOINTS
    return {"best": which == "best", "step": None if named else int(which)}


def height_and_width(given: Sequence[str]) -> tuple[int, int] | None:
    """Reads a size in pixels.

    Args:
      given: the parts of HEIGHT,WIDTH.

    Returns:
      The size; None where it is not one.

    Example:
      >>> height_and_width(["360", "480"]), height_and_width(["360"])
      ((360, 480), None)
    """
    sides = [x for x in given if re.fullmatch(r"[1-9]\d{0,4}", x, re.ASCII)]
    return (int(sides[0]), int(sides[1])) if len(sides) == len(given) == 2 else None
