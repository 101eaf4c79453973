"""Published weights, fetched when they are asked for: over https, checked, and kept.

A file that is not whole lies beside its place as `NAME.part`, with what the server calls
its version (`NAME.part.version`), so that the next try goes on where the last one ended.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import shutil
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from segjax.errors import UserError
from segjax.output.files import locked
from segjax.pretrained.files import file_sha256
from segjax.pretrained.published import Published, lookup

log = logging.getLogger("segjax")

SECONDS = 30
"""How long a server may be silent."""

BLOCK = 1 << 20
CUT = (TimeoutError, ConnectionError, ssl.SSLError, http.client.IncompleteRead)
"""What a connection that ends too early raises, if anything."""

OTHERWISE = "download it in another way, and name the file"


def cache_folder() -> Path:
    """Where files are kept: `segjax/weights` in `XDG_CACHE_HOME`, which is `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "segjax" / "weights"


def download(source: str) -> Path:
    """Fetches the published file of a source, unless it was fetched before.

    Args:
      source: a name of `segjax.pretrained.SOURCES`.

    Returns:
      The file in `cache_folder`, whose digest was found to be the published one.

    Raises:
      UserError: if no address is known, the server cannot be reached, or what it sends is
        larger than published or of another digest.
    """
    published = lookup(source)
    path = cache_folder() / published.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.lock"), wait=True):
            if not _is_whole(path, published):
                _fetch(published, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): free the place, or "
            "name another cache in XDG_CACHE_HOME."
        ) from error
    log.info("Weights    %s", path)
    return path


def _is_whole(path: Path, published: Published) -> bool:
    return path.is_file() and file_sha256(path).startswith(published.sha256)


def _fetch(published: Published, path: Path) -> None:
    log.info("Download   %s", published)
    part = path.with_name(f"{path.name}.part")
    if not _is_whole(part, published):
        free = shutil.disk_usage(path.parent).free
        if free < published.largest:
            raise UserError(
                f"{path.parent} has room for {free:,} bytes, and {published.name} has up to "
                f"{published.largest:,}: name another cache in XDG_CACHE_HOME."
            )
        _fetch_part(published, part)
    sha256 = file_sha256(part)
    if not sha256.startswith(published.sha256):
        part.unlink()
        raise UserError(
            f"{published.url} has sent a file with the sha256 {sha256}, and the published "
            f"one is {published.sha256}: it was changed or damaged, and is not kept."
        )
    os.replace(part, path)


def _fetch_part(published: Published, part: Path) -> None:
    """Fetches a file, or what is missing of it; its digest is not looked at."""
    url, version = published.url, part.with_name(f"{part.name}.version")
    start, known = 0, ""
    if part.is_file() and version.is_file():
        start, known = part.stat().st_size, version.read_text("utf-8")
    asked = {"Range": f"bytes={start}-", "If-Range": known} if start and known else {}
    with _open(url, asked) as answer:
        start = _start(url, answer, start if asked else 0)
        length = answer.headers.get("Content-Length", "")
        whole = start + int(length) if length.isdecimal() else None
        if (whole or 0) > published.largest:
            raise _too_large(published, f"has {whole:,}")
        with part.open("ab" if start else "wb") as file:
            version.write_text(_version(answer), "utf-8")
            size = _copy(answer, file, start, published)
    if size > published.largest:
        part.unlink()
        raise _too_large(published, "has sent more than these")
    if whole is not None and size < whole:
        raise UserError(
            f"{url} was cut off after {size:,} of {whole:,} bytes. Give the command again: "
            "it goes on there."
        )
    version.unlink()


def _open(url: str, asked: dict[str, str]) -> Any:
    """Opens an address; a range that the server cannot give is asked for no more."""
    request = urllib.request.Request(url, headers={"User-Agent": "segjax", **asked})
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
        _HttpsOnly(),
    ):
        opener.add_handler(handler)
    try:
        return opener.open(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and asked:
            return _open(url, {})
        raise UserError(
            f"{url} answers {error.code} ({error.reason}): {OTHERWISE}."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise UserError(
                f"{urlsplit(url).hostname} shows a certificate that is not trusted "
                f"({reason.verify_message}): {OTHERWISE}. Where a proxy has a certificate "
                "of its own, name its authority in SSL_CERT_FILE."
            ) from error
        raise UserError(
            f"{urlsplit(url).hostname} cannot be reached ({_text(reason)}): connect this "
            f"machine, or {OTHERWISE} ({url})."
        ) from error


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows from https to https alone."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise UserError(
                f"{req.full_url} leads to {newurl}, which is not https: nothing was "
                f"fetched; {OTHERWISE}."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _start(url: str, answer: Any, asked: int) -> int:
    """The place in the file at which an answer begins."""
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {asked}-"):
        raise UserError(
            f"{url} sends another part than the one from byte {asked:,}: {OTHERWISE}."
        )
    return asked


def _version(answer: Any) -> str:
    """What the server calls this version of a file, if it is good for `If-Range`."""
    tag = answer.headers.get("ETag", "W/")
    return answer.headers.get("Last-Modified", "") if tag.startswith("W/") else tag


def _copy(answer: Any, file: IO[bytes], size: int, published: Published) -> int:
    """Writes what comes, up to a byte more than there can be; returns the file's size."""
    told = size
    while size <= published.largest:
        block = b""
        with contextlib.suppress(*CUT):
            block = answer.read(min(BLOCK, published.largest + 1 - size))
        if not block:
            break
        size += file.write(block)
        if size - told > published.largest // 4:
            told = size
            log.info("Download   %.0f of %.0f MB", size / 1e6, published.largest / 1e6)
    return size


def _too_large(published: Published, what: str) -> UserError:
    return UserError(
        f"{published.url} {what} bytes, and the published file at most "
        f"{published.largest:,}: it is another one, and is not kept."
    )


def _text(reason: Any) -> str:
    return str(getattr(reason, "strerror", None) or reason).strip(" .") or "no answer"
