"""A headless Chromium, driven over a pipe: nothing is installed beside the browser itself.

Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol: messages are JSON, each
with a zero byte at its end, written to descriptor 3 of the browser and read from its 4.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
STARTER = """
import os, sys
program, *ends = sys.argv[1:4]
copies = [os.dup(int(end)) for end in ends]  # either may have the number that the other gets
for place, copy in zip((3, 4), copies):
    os.dup2(copy, place)
    os.set_inheritable(place, True)  # where they are one
os.execv(program, [program, *sys.argv[4:]])
"""
"""Puts the pipes where the browser looks for them. A fork of a process with JAX in it could hang."""

KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def executable() -> str | None:
    """Where a Chromium is installed, if one is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page of the browser."""

    def __init__(self, answers: IO[bytes], asked: IO[bytes]) -> None:
        self._in, self._out = answers, asked
        self._rest = b""
        self._count = 0
        self._session: str | None = None
        self.errors: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Asks the browser, and waits for its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in.fileno(), 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        text, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(text)
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(message["params"]["exceptionDetails"]))
        self._loaded |= message.get("method") == "Page.loadEventFired"
        return message

    _loaded = False

    def open(self, path: Path, width: int = 1400, height: int = 900) -> None:
        """Opens a file, and waits until its scripts have run."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1},
            mobile=width < 600,
        )
        self._loaded = False
        self.send("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._read()

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Presses a key where the focus is."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, modifiers=8 * shift, **code)

    def drag(self, selector: str, *places: tuple[float, float]) -> None:
        """Presses the pointer at the first place of an element, moves it to the others, lets go.

        Places are fractions of the element's width and height.
        """
        left, top, width, height = self.run(
            f"(() => {{ const e = document.querySelector({selector!r});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect();"
            "return [r.left, r.top, r.width, r.height] })()"
        )
        points = [(left + x * width, top + y * height) for x, y in places]
        options = {"button": "left", "clickCount": 1}
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1)]
        for kind, (x, y) in zip(kinds, points, strict=True):
            pressed = {"type": kind, "x": x, "y": y, "buttons": 1}
            self.send("Input.dispatchMouseEvent", **pressed, **options)
        x, y = points[-1]
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **options)

    def picture(self, path: Path) -> None:
        """Writes what is seen as PNG."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def opened(program: str) -> Iterator[Page]:
    """Starts a browser, and ends it."""
    to_browser, writing = os.pipe()
    reading, from_browser = os.pipe()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        options += ["--disable-dev-shm-usage", "--remote-debugging-pipe"]
        options += ["--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"]
        starter = [sys.executable, "-c", STARTER, program]
        process = subprocess.Popen(
            [*starter, str(to_browser), str(from_browser), *options],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (to_browser, from_browser):
            os.close(end)
        with (
            os.fdopen(reading, "rb", 0) as answers,
            os.fdopen(writing, "wb", 0) as asked,
        ):
            try:
                yield Page(answers, asked)
            finally:
                process.terminate()
                process.wait(timeout=30)
