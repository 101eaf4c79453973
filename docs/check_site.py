"""Checks a site that was built: links inside it lead somewhere, and nothing is fetched from elsewhere.

    python docs/check_site.py docs/_build/html

Exit code 1, and a line for each fault, if a link leads to a file or an anchor that there is not, or if
a script, a style, a picture or a font would come over the network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}
"""Elements that a browser loads without being asked, and the attribute that says from where."""

STYLES = ("stylesheet", "preload", "icon", "modulepreload", "preconnect")
"""What an element `link` can be that a browser loads."""


class Page(NamedTuple):
    """What a page has for others, and what it wants of them.

    Attributes:
      anchors: what can follow a # in a link to it.
      links: targets of its links.
      fetched: addresses of what a browser loads with it.
    """

    anchors: set[str]
    links: list[str]
    fetched: list[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page(set(), [], [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.page.anchors.update(found[x] for x in ("id", "name") if x in found)
        if tag == "a" and "href" in found:
            self.page.links.append(found["href"])
        if tag in FETCHED and FETCHED[tag] in found:
            self.page.fetched.append(found[FETCHED[tag]])
        if tag == "link" and found.get("rel", "") in STYLES and "href" in found:
            self.page.fetched.append(found["href"])


def read(path: Path) -> Page:
    """Reads a page.

    Args:
      path: a file of HTML.

    Returns:
      Its anchors, links, and what is loaded with it.
    """
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def html_files(site: Path) -> list[Path]:
    """The pages of a site.

    Args:
      site: its folder.

    Returns:
      Their paths; what themes keep in `_static` is no page.
    """
    found = sorted(site.rglob("*.html"))
    return [path for path in found if path.relative_to(site).parts[0] != "_static"]


def faults(site: Path) -> Iterator[str]:
    """Looks through a site.

    Args:
      site: its folder.

    Yields:
      A line for each fault, page by page.
    """
    pages = {path.resolve(): read(path) for path in html_files(site)}
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        for address in (*page.links, *page.fetched):
            scheme, place, target, _, anchor = urlsplit(address)
            if scheme or place:
                if address in page.fetched and scheme != "data":
                    yield f"{name}: {address} would be fetched"
                continue
            wanted = (path.parent / unquote(target)).resolve() if target else path
            if not wanted.exists():
                yield f"{name}: there is no {address}"
            elif anchor and wanted in pages and address in page.links:
                known = pages[wanted].anchors
                if anchor not in known and unquote(anchor) not in known:
                    yield f"{name}: there is no {address}"


def main() -> None:
    """Prints the faults of the site that is named."""
    site = Path(sys.argv[1])
    found = sorted(set(faults(site)))
    print("\n".join(found))
    pages = html_files(site)
    size = sum(x.stat().st_size for x in site.rglob("*") if x.is_file())
    print(f"{len(pages)} pages, {size / 1e6:.1f} MB, {len(found)} faults")
    sys.exit(1 if found or not pages else 0)


if __name__ == "__main__":
    main()
