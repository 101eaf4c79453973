"""The program `segjax`, or `python -m segjax.main`: the table of its verbs.

It gives Ctrl-C its meaning before it imports anything, as the commands take a while to import,
and says how freed memory is kept before it starts a thread.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

try:
    import segjax.ending as ending
    from segjax.training.malloc import keep_freed_memory
except KeyboardInterrupt:
    os.write(2, b"segjax: interrupted.\n")
    raise SystemExit(130) from None

if TYPE_CHECKING:
    from segjax.commands.program import Program

VERBS = {
    "train": "segjax.commands.train",
    "evaluate": "segjax.commands.evaluate",
    "predict": "segjax.commands.predict",
    "sweep": "segjax.commands.sweep",
    "compare": "segjax.commands.compare",
    "report": "segjax.commands.report",
    "tune crf": "segjax.commands.tune_crf",
    "tune instances": "segjax.commands.tune_instances",
    "tune temperature": "segjax.commands.tune_temperature",
    "export": "segjax.commands.export",
    "list": "segjax.commands.list_parts",
    "doctor": "segjax.commands.doctor",
    "summary": "segjax.commands.summary",
    "plan": "segjax.commands.plan",
    "prepare": "segjax.commands.prepare",
    "import": "segjax.commands.import_weights",
}


def run() -> None:
    """Runs the command line; the entry point of the console command."""

    @functools.cache
    def program() -> Program:
        from segjax.commands.program import Program

        return Program(VERBS)

    keep_freed_memory()
    ending.run(
        lambda: program().run(),
        remedy=lambda: program().remedy(),
        wants_traceback=lambda: program().wants_traceback(),
    )


if __name__ == "__main__":
    run()
