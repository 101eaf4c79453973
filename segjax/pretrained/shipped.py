"""Models that come with segjax: files of the package, found by name."""

from __future__ import annotations

from pathlib import Path

from segjax.pretrained.archive import SUFFIX

FOLDER = Path(__file__).resolve().parent.parent / "models_shipped"


def shipped_models() -> dict[str, Path]:
    """The model files that come with segjax, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}
