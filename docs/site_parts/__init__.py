"""Parts of the site that Sphinx does not have: an extension of this folder."""

from __future__ import annotations

from sphinx.application import Sphinx

from site_parts import docstrings, formulas, pages


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds formulas without scripts, links and docstrings as they are written."""
    docstrings.setup(app)
    formulas.setup(app)
    pages.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
