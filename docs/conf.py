"""The documentation as a site: `make docs` builds it in docs/_build/html.

The pages stay where GitHub shows them, so the root of the repository is the folder of the
sources (`sphinx-build -c docs . docs/_build/html`). Nothing is fetched while it is built or
read: formulas become MathML, and the theme brings its fonts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from site_parts import docstrings, formulas, gallery, interactive, pages  # noqa: E402 - beside this file

import segjax  # noqa: E402 - of this clone

# The cells of the chapters run in kernels of their own, which inherit what is set here.
# Their programs run once, so they are compiled quickly, not well, and kept.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(DOCS / "_build" / "jax"))
inherited = os.environ.get("PYTHONPATH")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(DOCS.parent), *([inherited] if inherited else [])]
)

project = "segjax"
author = "the authors of segjax"
version = release = segjax.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/learn/*.md",
    "docs/api/*.rst",
    "benchmarks/README.md",
    "notebooks/*.ipynb",
]
exclude_patterns = [
    ".*",
    "runs",
    "build",
    "dist",
    "docs/_build",
    "docs/api/modules.rst",
]

# Markdown. A chapter is a notebook in Markdown, and its cells are executed once: what they
# wrote is kept until their code changes.
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS / "_build" / "cells")
nb_execution_excludepatterns = ["notebooks/*"]
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# The reference, from the docstrings.
apidoc_modules = [
    {
        "path": str(DOCS.parent / "segjax"),
        "destination": "docs/api",
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
    }
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_admonition_for_examples = False

html_theme = "sphinx_book_theme"
html_title = "segjax"
html_static_path = ["site_parts/static"]
html_css_files = ["segjax.css"]
html_extra_path = ["site_parts/root"]
html_show_sourcelink = False
html_math_renderer = formulas.NAME
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
copyright = "the authors of segjax, Apache License 2.0"


def setup(app: Sphinx) -> None:
    """Adds what is ours: formulas without scripts, figures, the gallery, links and docstrings as they are written."""
    docstrings.setup(app)
    formulas.setup(app)
    gallery.setup(app)
    interactive.setup(app)
    pages.setup(app)
