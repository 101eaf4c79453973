"""Puts the web service of examples/serving under load: mixed sizes, some images broken.

    python benchmarks/load_serving.py                     # 1,000 requests
    python benchmarks/load_serving.py --requests=100 --clients=4

The labels of every answer are compared with those that segjax gives, and what cannot be
labelled has to get status 422 and a sentence. Then the service is stopped while clients go on
asking: every request that had begun by then has to be answered. Anything else ends with code 1.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import io
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from results import commit_of, environment, save

from segjax.export import loader
from segjax.runs.exports.stablehlo import export_stablehlo
from segjax.runs.load import load_trained

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "serving"
BROKEN_SHARE = 10
"""One of so many requests is broken."""


class Request(NamedTuple):
    """What is sent, and the labels that have to come back; None: it is broken."""

    body: bytes
    labels: np.ndarray | None


class Outcome(NamedTuple):
    """How a request ended.

    Attributes:
      began: when it was sent, by `time.monotonic`; None: nobody took the connection.
      seconds: until the answer.
      wrong: what was wrong with the answer, or nothing.
    """

    began: float | None
    seconds: float = 0.0
    wrong: str = ""


def sides_in_turn(sides: list[int]) -> list[tuple[int, int]]:
    """Heights and widths of images: each side with itself and with the next."""
    return [
        pair
        for a, b in zip(sides, sides[1:] + sides[:1], strict=True)
        for pair in ((a, a), (a, b))
    ]


def make_requests(model: str, sides: list[int]) -> tuple[list[Request], list[Request]]:
    """Images with the labels of segjax, and broken ones."""
    trained, rng = load_trained(model), np.random.default_rng(0)
    whole = []
    for i, (height, width) in enumerate(sides_in_turn(sides)):
        y, x = np.mgrid[:height, :width]
        spots = np.sin(y / 7 + i) * np.sin(x / 9 - i) > 0.3
        pixels = (30 + 150 * spots + rng.normal(0, 9, spots.shape)).clip(0, 255)
        pixels = np.repeat(pixels.astype(np.uint8)[..., None], 3, axis=-1)
        file = io.BytesIO()
        if i % 3:
            Image.fromarray(pixels).save(file, format="PNG")
        else:
            Image.fromarray(pixels).save(file, format="JPEG", quality=90)
            pixels = np.asarray(Image.open(file))
        whole.append(Request(file.getvalue(), trained.labels(pixels)))
    body = whole[1].body
    deep = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(deep, format="PNG")
    bodies = (b"", b"no image", body[: len(body) // 2], b"\0" + body, deep.getvalue())
    return whole, [Request(body, None) for body in bodies]


def ask(port: int, request: Request) -> Outcome:
    """Sends a request, and checks the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.connect()
    except OSError:
        return Outcome(None)
    began = time.monotonic()
    try:
        connection.request("POST", "/labels", request.body)
        answer = connection.getresponse()
        content = answer.read()
        wrong = fault(request, answer.status, content)
    except (OSError, http.client.HTTPException) as error:
        wrong = f"no whole answer: {error!r}"
    finally:
        connection.close()
    return Outcome(began, time.monotonic() - began, wrong)


def fault(request: Request, status: int, content: bytes) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if request.labels is None:
        is_sentence = re.fullmatch(rb"[A-Z].+\.\n", content) is not None
        is_right = status == 422 and is_sentence
        return "" if is_right else f"status {status} for a broken image"
    if status != 200:
        return f"status {status}: {content[:200]!r}"
    found = np.asarray(Image.open(io.BytesIO(content)))
    return "" if np.array_equal(found, request.labels) else "other labels than segjax"


def under_load(port: int, requests: Iterator[Request], clients: int) -> list[Outcome]:
    """Lets clients ask side by side, until there is nothing left or nobody answers."""
    outcomes: list[Outcome] = []
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                request = next(requests, None)
            if request is None:
                return
            outcomes.append(outcome := ask(port, request))
            if outcome.began is None:
                return

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def mixed(whole: list[Request], broken: list[Request], count: int) -> Iterator[Request]:
    rng = np.random.default_rng(1)
    for i in range(count):
        group = broken if i % BROKEN_SHARE == BROKEN_SHARE - 1 else whole
        yield group[rng.integers(len(group))]


def stopped(
    service: subprocess.Popen[str], port: int, requests: Iterator[Request], clients: int
) -> Mapping[str, int]:
    """Stops a service under load, and counts what became of the requests."""
    stop: list[float] = []

    def terminate() -> None:
        stop.append(time.monotonic())
        service.send_signal(signal.SIGTERM)

    timer = threading.Timer(2.0, terminate)
    timer.start()
    outcomes = under_load(port, requests, clients)
    timer.join()
    begun = [x for x in outcomes if x.began is not None and x.began < stop[0]]
    lost = sum(bool(x.wrong) for x in begun)
    return {"begun": len(begun), "lost": lost, "exit_code": service.wait(600)}


def peak_megabytes(process: subprocess.Popen[str]) -> float:
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else float("nan")


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Exports, starts the service from a folder of its own, and puts it under load."""
    for path in (*EXAMPLE.glob("*.py"), Path(loader.__file__)):
        shutil.copy(path, folder)
    program = folder / "program.stablehlo.zip"
    export_stablehlo(arguments.model, program, tile=arguments.tile)
    whole, broken = make_requests(arguments.model, arguments.sides)
    errors = (folder / "errors.txt").open("w+", encoding="utf-8")
    with (
        errors,
        subprocess.Popen(
            [sys.executable, "serve.py", str(program), "--port=0"],
            cwd=folder,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as service,
    ):
        port = int(re.findall(r":(\d+)/", service.stdout.readline())[0])
        # Each size is compiled when it comes first.
        began = time.monotonic()
        first = [ask(port, request) for request in whole]
        compiled = time.monotonic() - began
        began = time.monotonic()
        requests = mixed(whole, broken, arguments.requests)
        outcomes = under_load(port, requests, arguments.clients)
        seconds = time.monotonic() - began
        peak = peak_megabytes(service)
        more = mixed(whole, broken, 1 << 30)
        end = stopped(service, port, more, arguments.clients)
        errors.seek(0)
        tracebacks = errors.read().count("Traceback")
    faults = collections.Counter(x.wrong for x in (*first, *outcomes) if x.wrong)
    times = sorted(1e3 * x.seconds for x in outcomes)
    return {
        "model": arguments.model,
        "requests": len(outcomes),
        "broken": sum(
            i % BROKEN_SHARE == BROKEN_SHARE - 1 for i in range(len(outcomes))
        ),
        "clients": arguments.clients,
        "sides": arguments.sides,
        "sizes": len(whole),
        "first_seconds": compiled,
        "requests_per_second": len(outcomes) / seconds,
        "median_ms": statistics.median(times),
        "p95_ms": times[int(0.95 * (len(times) - 1))],
        "peak_megabytes": peak,
        "faults": dict(faults),
        "tracebacks": tracebacks,
        "stopped": end,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="nuclei", help="a run or a model file")
    parser.add_argument("--tile", type=int, help="output side of the tiles")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 96, 128, 200])
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    found = environment("cpu")
    with tempfile.TemporaryDirectory() as folder:
        row = measure(Path(folder), arguments)
    print(
        f"{row['requests']} requests, {row['broken']} of them broken: "
        f"{row['requests_per_second']:.1f}/s, median {row['median_ms']:.0f} ms, 95 % within "
        f"{row['p95_ms']:.0f} ms, {row['peak_megabytes']:.0f} MB; {row['stopped']}"
    )
    found["commit"] = commit_of(Path(__file__).parent)
    save("serving", {**found, "rows": [row]}, arguments.output)
    end = row["stopped"]
    if row["faults"] or row["tracebacks"] or end["lost"] or end["exit_code"]:
        raise SystemExit(
            f"faults {row['faults']}, {row['tracebacks']} tracebacks, {end}"
        )


if __name__ == "__main__":
    main()
