"""The experiments that come with segjax, by name: `configs/` of a clone, or of the installation."""

from __future__ import annotations

import functools
from pathlib import Path

_CLONE = Path(__file__).resolve().parent.parent
_INSTALLED = "share/segjax/configs"
"""Where an installation has them, below its prefix; pyproject.toml says the same."""


@functools.cache
def shipped_configs() -> dict[str, Path]:
    """The files of the experiments that come with segjax, by name."""
    if (_CLONE / "pyproject.toml").is_file():
        files = [*(_CLONE / "configs").glob("*.py")]
    else:
        from importlib import metadata  # it takes a while, and clones need none

        try:
            parts = metadata.files("segjax") or []
        except metadata.PackageNotFoundError:
            parts = []
        ours = [x for x in parts if x.parent.as_posix().endswith(_INSTALLED)]
        files = [Path(str(part.locate())).resolve() for part in ours]
    return {file.stem: file for file in sorted(files) if file.suffix == ".py"}


def located(file_and_preset: str) -> str:
    """Puts the path of a shipped experiment in the place of its name.

    Args:
      file_and_preset: such as "unet_em:isbi", "configs/unet_em.py", or a file of the user's.

    Returns:
      The same where there is such a file, or no such experiment.

    Example:
      >>> located("unet_em:isbi").endswith("configs/unet_em.py:isbi")
      True
      >>> located("mine.py:isbi")
      'mine.py:isbi'
    """
    name, colon, preset = file_and_preset.partition(":")
    if Path(name).is_file():
        return file_and_preset
    stem = name.removeprefix("configs/").removesuffix(".py")
    file = shipped_configs().get(stem)
    return file_and_preset if file is None else f"{file}{colon}{preset}"
