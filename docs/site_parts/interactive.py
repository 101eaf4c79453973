"""Interactive figures in pages: the directive, and the files that browsers load.

    ```{interactive} taps
    ```

puts the figure of that name there. Without JavaScript it is a picture with its caption. Scripts are
plain ones, so that pages work from the file system, and data are scripts, too: made by segjax when
the site is built, and kept until segjax or the figure changes.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from site_parts import figures

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "figures"
FOLDER = "play"
"""Where the files are, in the site's folder of static files."""

SHARED = ("figures.js", "figures.css")


def markup(name: str, static: str, size: tuple[int, int]) -> str:
    """Writes a figure for a page.

    Args:
      name: of the figure.
      static: the way from the page to the folder of its files.
      size: of the still picture, width and height in pixels.

    Returns:
      HTML; `figures.js` has to stand before it on the page.
    """
    figure = figures.module(name)
    caption = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(figure.CAPTION))
    return (
        f'<figure class="play" data-play="{name}" aria-label="{html.escape(figure.TITLE)}">\n'
        f'<img class="play-still" src="{static}/{name}.png" width="{size[0]}" height="{size[1]}" '
        f'alt="{html.escape(figure.ALTERNATIVE)}" loading="lazy">\n'
        f"<figcaption>{caption}</figcaption>\n</figure>\n"
        f'<script defer src="{static}/{name}.data.js"></script>\n'
        f'<script defer src="{static}/{name}.js"></script>\n'
    )


def shared(static: str) -> str:
    """Writes what stands once on a page, before its first figure.

    Args:
      static: as in `markup`.

    Returns:
      HTML.
    """
    return (
        f'<link rel="stylesheet" href="{static}/figures.css">\n'
        f'<script defer src="{static}/figures.js"></script>\n'
    )


def write(
    folder: Path, names: Sequence[str] = figures.NAMES, root: Path = HERE.parents[1]
) -> dict[str, tuple[int, int]]:
    """Writes scripts, data and still pictures, but for those that are there and hold.

    Args:
      folder: where to; it is made if it is not there.
      names: of the figures.
      root: of the repository, whose `segjax` the data hang on.

    Returns:
      Width and height of the still picture of each.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        (folder / name).write_bytes((SOURCES / name).read_bytes())
    common = [*sorted(root.glob("segjax/**/*.py")), SOURCES / "__init__.py"]
    common.append(SOURCES / "scenes.py")
    state = hashlib.sha256(b"".join(path.read_bytes() for path in common))
    sizes = {}
    for name in names:
        key = state.copy()
        key.update((SOURCES / f"{name}.py").read_bytes())
        written, picture = folder / f"{name}.data.js", folder / f"{name}.png"
        first = f"// {key.hexdigest()}\n"
        holds = written.exists() and picture.exists()
        if not (holds and written.read_text(encoding="utf-8").startswith(first)):
            figure = figures.module(name)
            data = json.dumps(figure.data(), separators=(",", ":"))
            still_picture = figure.picture(json.loads(data)).quantize(64)
            still_picture.save(picture, optimize=True)
            written.write_text(
                f"{first}segjax.data.{name} = {data};\n", encoding="utf-8"
            )
        code = SOURCES / f"{name}.js"
        (folder / code.name).write_bytes(code.read_bytes())
        with Image.open(picture) as still:
            sizes[name] = still.size
    return sizes


def setup(app: Sphinx) -> None:
    """Adds the directive, and makes the files before pages are read."""
    from docutils import nodes
    from docutils.parsers.rst import Directive

    sizes: dict[str, tuple[int, int]] = {}
    made = Path(app.confdir) / "_build" / "figures"

    class Interactive(Directive):
        """Puts a figure where it stands."""

        required_arguments = 1

        def run(self) -> list[nodes.Node]:
            """The figure, and before the first of a page what all of them share."""
            document = self.state.document
            depth = document.settings.env.docname.count("/")
            static = f"{'../' * depth}_static/{FOLDER}"
            (name,) = self.arguments
            if name not in sizes:
                raise self.error(f"there is no figure {name!r}; see {SOURCES}")
            document.settings.env.note_dependency(str(SOURCES / f"{name}.py"))
            text = markup(name, static, sizes[name])
            if not document.attributes.get("has_figures"):
                document.attributes["has_figures"] = True
                text = shared(static) + text
            return [nodes.raw("", text, format="html")]

    def prepare(app: Sphinx) -> None:
        sizes.update(write(made / FOLDER))
        app.config.html_static_path.append(str(made))

    app.connect("builder-inited", prepare)
    app.add_directive("interactive", Interactive)
