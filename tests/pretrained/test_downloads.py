"""Published weights: fetched over https from a server of this machine, checked, kept."""

from __future__ import annotations

import hashlib
import http.server
import logging
import runpy
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from segjax import pretrained
from segjax.errors import UserError
from segjax.pretrained import downloads, published
from segjax.runs import imported, initialization

CONTENT = np.random.default_rng(0).bytes(300_000)
SOURCE = "torchvision/resnet18"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as `server.site` says, and notes what was asked for."""

    def do_GET(self):
        site = self.server.site
        site.asked.append(dict(self.headers))
        if self.path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path != "/weights.pth":
            self.send_error(404)
            return
        start, body = 0, site.content
        if "Range" in self.headers and self.headers["If-Range"] == site.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start > len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            told = f"bytes {start + site.wrong_by}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", told)
        self.send_header("ETag", site.etag)
        if site.says_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.close_connection = True
        self.wfile.write(body[start : site.cut_at])

    def log_message(self, *args):
        """Says nothing."""


class Site:
    """What the server has, and how it behaves."""

    def __init__(self):
        self.content, self.etag = CONTENT, '"1"'
        self.cut_at, self.says_length, self.wrong_by = None, True, 0
        self.redirects, self.asked = {}, []


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and the certificate that it gave this machine."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed, which makes the certificates")
    folder = tmp_path_factory.mktemp("certificates")
    new = "req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    extensions = (
        *("-addext", "subjectAltName=DNS:localhost"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )
    for name, more in (
        ("ca", ("-addext", "keyUsage=critical,keyCertSign")),
        ("own", ("-CA", "ca.pem", "-CAkey", "ca.key", *extensions)),
    ):
        subject = (
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
        command = ["openssl", *new.split(), *subject, *more]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"this openssl makes no certificates: {ended.stderr}")
    return folder


@pytest.fixture
def site(certificates, tmp_path, monkeypatch):
    """A server that is trusted, whose file is published as that of `SOURCE`."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "own.pem", certificates / "own.key")
    server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    server.handle_error = lambda *args: None  # of clients that do not trust it
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.site = Site()
    server.site.url = f"https://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    publish(monkeypatch, f"{server.site.url}/weights.pth")
    yield server.site
    server.shutdown()
    server.server_close()
    thread.join()


def publish(monkeypatch, url, content=CONTENT, digits=64):
    digest = hashlib.sha256(content).hexdigest()[:digits]
    size = len(content) / published.MEBIBYTE
    row = published.Published(url, digest, size, "to be used by tests")
    monkeypatch.setitem(published.PUBLISHED, SOURCE, row)


def kept():
    """The files of the cache, without the locks."""
    folder = downloads.cache_folder()
    return sorted(x.name for x in folder.iterdir() if x.suffix != ".lock")


def fails(sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        pretrained.download(SOURCE)
    assert "\n" not in str(caught.value)


def test_a_file_is_fetched_once_and_announced_before(site, caplog):
    with caplog.at_level(logging.INFO, "segjax"):
        path = pretrained.download(SOURCE)
    assert path == downloads.cache_folder() / "weights.pth"
    assert path.read_bytes() == CONTENT
    first = caplog.messages[0]
    assert site.url in first
    assert "0 MB" in first
    assert "to be used by tests" in first
    assert pretrained.download(SOURCE) == path
    assert len(site.asked) == 1
    assert kept() == ["weights.pth"]
    path.write_bytes(CONTENT[:-1])  # damaged in the cache
    assert pretrained.download(SOURCE).read_bytes() == CONTENT


def test_another_digest_is_refused_and_not_kept(site, monkeypatch):
    site.content = CONTENT[:-1] + b"?"
    fails("has sent a file with the sha256 .* is not kept")
    assert kept() == []
    site.content = CONTENT
    publish(monkeypatch, f"{site.url}/weights.pth", digits=8)
    assert pretrained.download(SOURCE).read_bytes() == CONTENT


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_that_was_cut_off_goes_on_where_it_ended(site, says_length):
    site.cut_at, site.says_length = 200_000, says_length
    if not says_length:
        fails("has sent a file with the sha256")  # nobody can know that there is more
        assert kept() == []
        return
    fails("was cut off after 200,000 of 300,000 bytes. Give the command again")
    assert kept() == ["weights.pth.part", "weights.pth.part.version"]
    site.cut_at = None
    assert pretrained.download(SOURCE).read_bytes() == CONTENT
    assert site.asked[1]["Range"] == "bytes=200000-"
    assert site.asked[1]["If-Range"] == '"1"'
    assert kept() == ["weights.pth"]


def test_a_part_of_an_older_file_is_fetched_anew(site, monkeypatch):
    site.cut_at = 200_000
    fails("was cut off")
    changed = CONTENT[::-1] + b"more"
    site.content, site.etag, site.cut_at = changed, '"2"', None
    publish(monkeypatch, f"{site.url}/weights.pth", changed)
    assert pretrained.download(SOURCE).read_bytes() == changed
    assert site.asked[1]["If-Range"] == '"1"'


def test_a_server_that_sends_other_parts_is_refused_or_asked_for_all(site):
    site.cut_at = 200_000
    fails("was cut off")
    site.cut_at, site.wrong_by = None, 1
    fails("sends another part than the one from byte 200,000")
    (part,) = downloads.cache_folder().glob("*.part")
    part.write_bytes(bytes(300_001))
    assert pretrained.download(SOURCE).read_bytes() == CONTENT


def test_a_file_that_is_larger_than_published_is_not_read_to_its_end(site):
    site.content = CONTENT * 10
    fails("has 3,000,000 bytes, and the published file at most 301,048: .* not kept")
    assert kept() == []
    site.says_length = False
    fails("has sent more than these bytes, and the published file at most 301,048")
    assert "weights.pth" not in kept()
    assert "weights.pth.part" not in kept()


def test_only_https_is_followed(site, monkeypatch):
    plain = site.url.replace("https", "http")
    site.redirects = {
        "/plain": f"{plain}/weights.pth",
        "/file": "file:///etc/hosts",
        "/safe": f"{site.url}/weights.pth",
    }
    publish(monkeypatch, f"{site.url}/plain")
    fails(r"leads to http://localhost:\d+/weights\.pth, which is not https")
    publish(monkeypatch, f"{site.url}/file")
    fails(
        "leads to file:///etc/hosts, which is not https|cannot be reached|answers 302"
    )
    publish(monkeypatch, f"{site.url}/safe")
    assert pretrained.download(SOURCE).read_bytes() == CONTENT
    publish(monkeypatch, f"{plain}/other.pth")
    fails("cannot be reached")  # plain http is not spoken at all


def test_without_network_trust_or_file_one_sentence_says_what_to_do(
    site, monkeypatch, certificates
):
    publish(monkeypatch, f"{site.url}/missing.pth")
    fails(r"missing\.pth answers 404 \(.*\): download it in another way")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "own.pem"))
    publish(monkeypatch, f"{site.url}/weights.pth")
    fails("localhost shows a certificate that is not trusted .* SSL_CERT_FILE")
    publish(monkeypatch, "https://nowhere.invalid/weights.pth")
    fails(
        r"nowhere\.invalid cannot be reached .*\(https://nowhere\.invalid/weights\.pth\)"
    )
    assert kept() == []


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    fails("cannot be written .* XDG_CACHE_HOME")


def test_nothing_is_fetched_unless_it_is_asked_for(site, tmp_path):
    with pytest.raises(UserError, match="download=True from its published file"):
        pretrained.load(SOURCE)
    with pytest.raises(UserError, match="give one of them"):
        pretrained.load(SOURCE, {}, download=True)
    with pytest.raises(UserError, match="give --weights or --download"):
        imported.import_weights("torchvision/fcn_resnet50", None, tmp_path / "run")
    with pytest.raises(ValueError, match="either input or download=True"):
        initialization.Initialization(SOURCE)
    assert site.asked == []


def test_what_was_fetched_is_read_as_any_other_file(site, monkeypatch):
    made = runpy.run_path(str(Path(__file__).with_name("pth_files.py")))
    site.content = made["new_form"](made["state"](made["tensor"]()))
    publish(monkeypatch, f"{site.url}/weights.pth", site.content)
    with pytest.raises(UserError, match="do not fit the model: 1 not used: w0"):
        pretrained.load(SOURCE, download=True)


def test_an_import_that_cannot_fetch_writes_nothing(site, tmp_path, monkeypatch):
    source = "torchvision/fcn_resnet50"
    row = published.PUBLISHED[SOURCE]
    monkeypatch.setitem(published.PUBLISHED, source, row)
    with pytest.raises(UserError, match="not a whole file of PyTorch"):
        imported.import_weights(source, None, tmp_path / "run", download=True)
    assert len(site.asked) == 1
    assert not (tmp_path / "run").exists()


def test_every_network_of_torchvision_and_tensorflow_lite_is_published():
    theirs = ("torchvision/", "tflite/")
    ours = {name for name in pretrained.SOURCES if name.startswith(theirs)}
    assert ours <= set(published.PUBLISHED)
    for name in ours:
        row = published.PUBLISHED[name]
        assert len(row.sha256) in (8, 64)
        assert row.licence
        if name.startswith("torchvision/"):
            assert row.url.startswith("https://download.pytorch.org/models/")
            assert row.name.removesuffix(".pth").endswith(f"-{row.sha256[:8]}")
        else:
            assert row.url.startswith("https://")
            assert row.name.endswith(".tflite")
    with pytest.raises(UserError, match="caffe/vgg16 have no address"):
        pretrained.download("caffe/vgg16")
