"""Weights from elsewhere: `model, variables = segjax.pretrained.load(source, state_dict)`.

`SOURCES` names what can be loaded, `read_state` reads a file, and `download` fetches the one
that is published. Everything is imported
when it is first asked for, so `import segjax.pretrained` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.pretrained.downloads import download
    from segjax.pretrained.files import read_state
    from segjax.pretrained.sources import SOURCES, load

__all__ = ["SOURCES", "download", "load", "read_state"]

_MODULES = {
    "SOURCES": "segjax.pretrained.sources",
    "download": "segjax.pretrained.downloads",
    "load": "segjax.pretrained.sources",
    "read_state": "segjax.pretrained.files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
