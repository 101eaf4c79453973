"""From the arguments of the process to a verb: flags, help, and setting the process up.

The grammar is `segjax VERB [NOUN] [THINGS] --flags`. A thing is the value of a flag that
stands without it: `segjax evaluate runs/a` is `segjax evaluate --workdir=runs/a`.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import textwrap
import warnings
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from absl import app, flags, logging

from segjax import config as config_lib
from segjax import ending
from segjax.commands.process_flags import DISTRIBUTED, TOGETHER
from segjax.commands.shared_flags import (
    CONFIG,
    PATHS,
    Flags,
    path_of,
    read_config,
    with_located_config,
)
from segjax.errors import UserError, suggestion
from segjax.remote.address import is_remote, require_local, require_store

if TYPE_CHECKING:
    import ml_collections

DEFAULT = "train"
"""The verb where none is given."""
WIDTH = 78
"""Of the help, in characters."""
_MISSING = "Missing value for flag "
"""How absl begins a sentence about a flag without a value."""


class Program:
    """The command line of a table of verbs."""

    def __init__(self, verbs: Mapping[str, str]):
        """Reads nothing yet.

        Args:
          verbs: the module of each verb, some of them with a noun, as "tune crf".
        """
        self.verbs = verbs
        self.verb = ""
        self.values = Flags()

    def run(self) -> None:
        """Runs the command that the arguments of the process name."""
        app.run(self._run, flags_parser=self._parse)

    def wants_traceback(self) -> bool:
        """Whether errors are shown as tracebacks (--verbosity=1)."""
        return flags.FLAGS.is_parsed() and logging.get_verbosity() > 0

    def remedy(self) -> str:
        """Says what helps where there is not enough memory."""
        module = self._module(self.verb)
        if hasattr(module, "remedy"):
            return module.remedy(self.values)
        from segjax.runs import remedies

        tile = self.values["tile"].value if "tile" in self.values else None
        given = [
            path_of(self.values, x) for x in ("workdir", "model") if x in self.values
        ]
        run = next(filter(None, given), "")
        leave = self.values["allow_code"].value if "allow_code" in self.values else []
        return remedies.for_images(run, self.verb, tile, leave or [])

    def flags_of(self, verb: str) -> Flags:
        """The flags of a verb, unparsed."""
        values = Flags()
        self._module(verb).define(values)
        return values

    def _module(self, verb: str) -> ModuleType:
        return importlib.import_module(self.verbs[verb])

    def _parse(self, argv: list[str]) -> list[str]:
        """Takes verb and things out of the arguments and parses the flags."""
        self.verb, rest = self._verb(argv[1:])
        wants_help = bool({"--help", "-h", "-help"} & set(rest))
        if wants_help and not self.verb:
            ending.say(self._overview())
            sys.exit(0)
        self.verb = self.verb or DEFAULT
        self.values = self.flags_of(self.verb)
        if wants_help:
            ending.say(self._help(self.verb))
            sys.exit(0)
        rest = self._with_flags(rest)
        self._check_places(rest)
        module = self._module(self.verb)
        if hasattr(module, "complete"):
            rest = module.complete(rest)
        rest = with_located_config(rest)
        for argument in rest:
            self._check_use(argument)
        config = read_config(self.values, rest)
        self.values.append_flag_values(flags.FLAGS)  # those of absl, as --verbosity
        try:
            unused = self.values([argv[0], *rest])[1:]
        except (flags.Error, AttributeError, TypeError, ValueError) as error:
            raise UserError(self._flag_sentence(error, config)) from error
        finally:
            flags.FLAGS.mark_as_parsed()
        if unused:
            raise UserError(
                f'"{unused[0]}" is not a flag: flags are written --flag=value.'
            )
        return [argv[0]]

    def _verb(self, arguments: list[str]) -> tuple[str, list[str]]:
        """The verb, with its noun, and the arguments after it; "" where there is none."""
        words = []
        for argument in arguments[:2]:
            if argument.startswith("-"):
                break
            words.append(argument)
        if not words:
            return "", arguments
        for count in (2, 1):
            verb = " ".join(words[:count])
            if len(words) >= count and verb in self.verbs:
                return verb, arguments[count:]
        nouns = [verb for verb in self.verbs if verb.split()[0] == words[0]]
        if nouns:
            raise UserError(
                f'"{words[0]}" needs a noun, such as: segjax {" or segjax ".join(nouns)}.'
            )
        raise UserError(
            f'"{words[0]}" is not a verb.{suggestion(words[0], self.verbs)}'
        )

    def _with_flags(self, arguments: list[str]) -> list[str]:
        """Gives each thing the flag that it is the value of."""
        module = self._module(self.verb)
        names = list(module.THINGS)
        found: list[str] = []
        for argument in arguments:
            if argument.startswith("-") or (found and self._wants_value(found[-1])):
                found.append(argument)
                continue
            more = getattr(module, "MORE", None)
            if not names and more:  # a flag that may be given several times
                found.append(f"--{more}={argument}")
                continue
            if not names:
                raise UserError(
                    f'"{argument}" is not a flag: flags are written --flag=value.'
                )
            name = names.pop(0)
            if any(x.partition("=")[0] == f"--{name}" for x in arguments):
                raise UserError(
                    f'"{argument}" and --{name} are given: one of them is enough.'
                )
            found.append(f"--{name}={argument}")
        return found

    def _wants_value(self, argument: str) -> bool:
        """Whether the value of a flag comes as the next argument, as in `--tile 64`."""
        name = argument.removeprefix("--")
        is_flag = name in self.values and not self.values[name].boolean
        return (
            argument.startswith("--")
            and "=" not in argument
            and (is_flag or name.startswith(f"{CONFIG}."))
        )

    def _check_places(self, arguments: list[str]) -> None:
        """Refuses addresses of remote folders where the verb takes paths alone.

        That is before anything is read, as what --continue_from names is read first.
        """
        remote = getattr(self._module(self.verb), "REMOTE", ())
        for argument, following in itertools.pairwise([*arguments, ""]):
            flag, equals, value = argument.partition("=")
            name, place = flag.lstrip("-"), value if equals else following
            if name not in PATHS or name not in self.values:
                continue
            if name in remote and is_remote(place):
                require_store(place, f"--{name}")
            else:
                require_local(place, f"--{name}")

    def _check_use(self, argument: str) -> None:
        """Checks that the verb has a flag which other verbs have."""
        name = argument.lstrip("-").partition("=")[0].partition(".")[0]
        names = {name, name.removeprefix("no")}
        if names & {*self.values, *flags.FLAGS}:
            return
        users = [verb for verb in self.verbs if names & {*self.flags_of(verb)}]
        if users:
            raise UserError(
                f"{self.verb} does not use --{name}; {', '.join(users)} "
                f"{'do' if len(users) > 1 else 'does'}. Leave it out."
            )

    def _flag_sentence(
        self, error: Exception, config: ml_collections.ConfigDict | None
    ) -> str:
        """Says what absl found wrong with the flags, and what would be right."""
        if isinstance(error, flags.UnrecognizedFlagError):
            flag = f"--{error.flagname}"
            known = [f"--{name}" for name in self.flags_of(self.verb)]
            return f"There is no flag {flag}.{suggestion(flag, known)}"
        text = " ".join(str(error).split()).rstrip(".")
        flag, _, reason = text.removeprefix("flag ").partition(": ")
        is_missing = flag.startswith(_MISSING)
        word, _, value = flag.removeprefix(_MISSING).partition("=")
        key = word.strip("-")
        parser = self.values[key].parser if key in self.values else None
        values = parser.enum_values if isinstance(parser, flags.EnumParser) else ()
        if is_missing or values:
            which = f", {' or '.join(values)}" if values else ""
            other = f", not {value}" if value else ""
            return f"{word} needs a value{which}{other}. See --help."
        name = word.removeprefix(f"--{CONFIG}.")
        if not flag.startswith("--") or not reason:
            return f"{text}. See --help."
        if config is None or name == word:
            return f"{flag} cannot be read: {reason}. See --help."
        value = config_lib.value_of(config, name)
        if value is None:
            return f"{flag} does not fit ({reason}): give another value."
        return f"{flag} does not fit ({reason}): give a value like the config's, {value!r}."

    def _overview(self) -> str:
        """The help of the program: its verbs."""
        width = max(map(len, self.verbs))
        rows = [
            f"  {verb:{width}}  {_first_line(self._module(verb))}"
            for verb in self.verbs
        ]
        return "\n".join(
            [
                "segjax VERB [NOUN] [THINGS] --flag=value ...",
                "",
                *rows,
                "",
                f"Without a verb it is {DEFAULT}. `segjax VERB --help` lists its flags.",
                "Presets of a config come after a colon, --config=unet_em:isbi,",
                "and its keys can be changed one by one: --config.batch_size=8.",
            ]
        )

    def _help(self, verb: str) -> str:
        """The help of a verb: its flags."""
        module = self._module(verb)
        things = "".join(f" [{name.upper()}]" for name in module.THINGS)
        more = getattr(module, "MORE", None)
        things += f" [{more.upper()} ...]" if more else ""
        values = self.flags_of(verb)
        lines = [f"segjax {verb}{things} --flag=value ...", "", _first_line(module), ""]
        for name in values:
            lines += _described(name, values[name])
        lines += ["", "--verbosity=1 shows errors with all that Python knows of them."]
        return "\n".join(lines)

    def _run(self, _: list[str]) -> None:
        """Sets the process up, then hands over to the verb."""
        ending.send_log_to_stderr()
        if logging.get_verbosity() <= 0:
            logging.set_verbosity(logging.ERROR)  # absl's, and so that of Orbax and JAX
        self._set_up_jax()
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", module="(orbax|grain|tensorflow_datasets)"
            )
            self._module(self.verb).run(self.values)

    def _set_up_jax(self) -> None:
        """Joins the other processes, and keeps compiled programs for the next time."""
        import jax

        from segjax.training.cluster import join_processes

        cache = "JAX_COMPILATION_CACHE_DIR"
        if cache not in os.environ:
            home = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
            jax.config.update("jax_compilation_cache_dir", f"{home}/segjax/jax")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        if TOGETHER[0] in self.values:
            coordinator, count, index = (self.values[x].value for x in TOGETHER)
            mode: Any = self.values[DISTRIBUTED].value
            saves = self.verb == DEFAULT
            join_processes(coordinator, count, index, mode, saves_when_preempted=saves)


def _first_line(module: ModuleType) -> str:
    return (module.__doc__ or "").partition("\n")[0]


def _described(name: str, flag: flags.Flag) -> Iterable[str]:
    """The lines of a flag in the help."""
    is_switch = flag.boolean
    default = "" if flag.default in (None, False) else f" Default: {flag.default}."
    yield f"  --{name}" if is_switch else f"  --{name}=..."
    yield from textwrap.wrap(
        f"{flag.help}{default}",
        WIDTH,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
    )
