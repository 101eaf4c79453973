"""The program `segjax`, or `python -m segjax.main`: gives Ctrl-C its meaning, then imports.

The commands take a while to import, which a person may not want to wait for.
"""

from __future__ import annotations

import os

try:
    from segjax import ending
except KeyboardInterrupt:
    os.write(2, b"segjax: interrupted.\n")
    raise SystemExit(130) from None


def run() -> None:
    """Runs the command line; the entry point of the console command."""
    ending.run(_run, remedy=_remedy, wants_traceback=_wants_traceback)


def _run() -> None:
    from segjax import commands

    commands.run()


def _remedy() -> str:
    from segjax import commands

    return commands.remedy()


def _wants_traceback() -> bool:
    from segjax import commands

    return commands.wants_traceback()


if __name__ == "__main__":
    run()
