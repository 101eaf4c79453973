"""Formulas as MathML, which browsers draw without a script and without a network.

Docutils has the converter; Sphinx has no renderer that uses it.
"""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def render(latex: str, *, block: bool) -> str:
    """Converts a formula.

    Args:
      latex: the formula, without dollars.
      block: on lines of its own; False for one in a sentence.

    Returns:
      The element `<math>`.

    Raises:
      docutils.utils.math.MathError: if it has a command that the converter does not know.
    """
    return latex2mathml.tex2mathml(latex, as_block=block)


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(render(node.astext(), block=False))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{render(node.astext(), block=True)}')
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Makes the renderer known to Sphinx, as `html_math_renderer = "mathml"`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
