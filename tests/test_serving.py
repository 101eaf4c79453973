"""The examples of serving: a web service and labels of files, with a program and no segjax."""

from __future__ import annotations

import ast
import http.client
import importlib
import io
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import types
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from segjax.export import loader
from segjax.export.functions import PixelNetwork, tile_functions
from segjax.export.stablehlo import lower, write_stablehlo
from segjax.geometry.input_sizes import Geometry
from segjax.predict.heads import SOFTMAX
from segjax.predict.test_time import TestTimeAugmentation

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "serving"
PAGE = ROOT / "docs" / "serving.md"
MODULES = ("images", "label_files", "loader", "serve")
PROGRAM = "cells.stablehlo.zip"
COLORS = [[0, 0, 0], [9, 200, 30]]


def is_bright(image: np.ndarray) -> np.ndarray:
    """The labels that the network of these tests gives, `[H, W]`."""
    return (image.astype(np.float32).mean(-1) > 102.2).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has: the examples, the loader, and a program of bright pixels of RGB."""
    folder = tmp_path_factory.mktemp("serving")
    for path in (*EXAMPLE.glob("*.py"), Path(loader.__file__)):
        shutil.copy(path, folder)

    def brightness(variables: Any, image: Any) -> Any:
        grey = image.mean(-1, keepdims=True) - variables["threshold"]
        return np.array([-1.0, 1.0], np.float32).reshape(1, 1, 1, 2) * grey

    network = PixelNetwork(
        *(brightness, {"threshold": np.float32(102.2 / 255)}, 3),
        *(Geometry(stride=4, halo=4, minimum=4), SOFTMAX, "range"),
        TestTimeAugmentation(),
    )
    dtype = np.dtype(np.uint8)
    pixels = tile_functions(network, 32, dtype)[0]
    about = {"classes": ["dark", "light"], "colors": COLORS, "classes_overlap": False}
    with (folder / PROGRAM).open("wb") as file:
        write_stablehlo(file, pixels, lower(pixels, 3, dtype), about, "# A card\n")
    return folder


@pytest.fixture(scope="module")
def example(folder: Path) -> Iterator[dict[str, ModuleType]]:
    """The modules of the example, from there."""
    sys.path.insert(0, str(folder))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(folder))
        for name in MODULES:
            sys.modules.pop(name, None)


class Service(NamedTuple):
    """A service that runs, and its program."""

    port: int
    program: Any


@pytest.fixture(scope="module")
def service(folder: Path, example: dict[str, ModuleType]) -> Iterator[Service]:
    most_pixels = Image.MAX_IMAGE_PIXELS
    program = example["loader"].load(folder / PROGRAM)
    server = example["serve"].make_server(program, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Service(server.server_port, program)
    finally:
        server.shutdown()
        thread.join()
        Image.MAX_IMAGE_PIXELS = most_pixels


def send(
    service: Service,
    body: bytes,
    *,
    path: str = "/labels",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """The status and the content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=600)
    connection.request("POST", path, body, headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def picture(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(dtype)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, rows: bytes) -> bytes:
    """A PNG in colour that claims to be of this size."""
    head = struct.pack(">2I5B", width, height, depth, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def pages(*images: np.ndarray) -> bytes:
    first, *others = map(Image.fromarray, images)
    file = io.BytesIO()
    first.save(file, format="TIFF", save_all=True, append_images=others)
    return file.getvalue()


@pytest.mark.parametrize(
    ("image", "body"),
    [
        (picture(30, 41, 3), encoded(picture(30, 41, 3))),
        (picture(70, 33, 3), encoded(picture(70, 33, 3), "WEBP", lossless=True)),
        (picture(40, 28)[..., None], encoded(picture(40, 28), "TIFF")),
        (
            picture(9, 8, 3),
            encoded(np.dstack([picture(9, 8, 3), np.full((9, 8), 255, np.uint8)])),
        ),
    ],
    ids=["RGB", "larger than a tile", "grey", "opaque"],
)
def test_images_of_any_size_are_answered_by_their_labels(
    image: np.ndarray, body: bytes, service: Service
) -> None:
    status, content = send(service, body)
    assert status == 200
    answer = Image.open(io.BytesIO(content))
    assert answer.mode == "P"
    assert answer.getpalette()[:6] == [*COLORS[0], *COLORS[1]]
    np.testing.assert_array_equal(np.asarray(answer), is_bright(image))


def test_an_image_is_turned_upright(service: Service) -> None:
    sideways = Image.Exif()
    sideways[274] = 6  # the row 0 is on the right
    image = picture(12, 20, 3)
    status, content = send(service, encoded(image, exif=sideways.tobytes()))
    assert status == 200
    found = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(found, np.rot90(is_bright(image), -1))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not an image of a known format"),
        (b"hello", "not an image of a known format"),
        (encoded(picture(60, 60, 3))[:5000], "cannot be read (image file is truncated"),
        (png(200_000, 200_000, 8, b""), "cannot be read (Image size (40000000000"),
        (png(2, 1, 16, bytes(13)), "has colours of 16 bits, of which Pillow reads 8"),
        (encoded(picture(5, 6, dtype="uint16")), "is uint16, but this program takes"),
        (encoded(picture(5, 6, 4)), "is transparent in places"),
        (pages(picture(5, 6), picture(5, 6)), "has 2 pages: send them one by one"),
    ],
    ids=["nothing", "text", "cut", "bomb", "deep", "16 bits", "transparent", "pages"],
)
def test_what_cannot_be_labelled_gets_a_sentence(
    body: bytes, message: str, service: Service
) -> None:
    status, content = send(service, body)
    assert status == 422
    assert message in content.decode()
    assert content.endswith(b".\n")
    assert content.count(b"\n") == 1
    assert send(service, encoded(picture(30, 41, 3)))[0] == 200


def test_a_program_of_grey_images_takes_no_colours(
    example: dict[str, ModuleType],
) -> None:
    images, grey = example["images"], types.SimpleNamespace()
    grey.about = {"image": {"channels": 1}}
    for pixels in (picture(4, 5), picture(4, 5, dtype="uint16")):
        found = images.read_image(io.BytesIO(encoded(pixels)), grey)
        np.testing.assert_array_equal(found, pixels)
    with pytest.raises(images.ImageError, match="in colour, but this program takes"):
        images.read_image(io.BytesIO(encoded(picture(4, 5, 3))), grey)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 404),
        ("/labels", {"Transfer-Encoding": "chunked"}, 411),
        ("/labels", {"Content-Length": str(1 << 40)}, 413),
    ],
)
def test_other_requests_are_refused(
    path: str, headers: dict[str, str], status: int, service: Service
) -> None:
    found, content = send(service, b"", path=path, headers=headers)
    assert found == status
    assert content.endswith(b".\n")


def test_the_service_says_what_it_takes(service: Service) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/") as answer:
        about = json.loads(answer.read())
    assert about["classes"] == ["dark", "light"]
    assert about["image"]["channels"] == 3


def test_the_client_of_the_page_gets_labels_and_reasons(
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    block = block.replace(":8000", f":{service.port}")
    monkeypatch.chdir(tmp_path)
    Path("image.png").write_bytes(encoded(picture(30, 41, 3)))
    names: dict[str, Any] = {}
    exec(block, names)
    np.testing.assert_array_equal(names["labels"], is_bright(picture(30, 41, 3)))
    Path("image.png").write_bytes(b"hello")
    exec(block, names)
    assert "422 This is not an image of a known format." in capsys.readouterr().out


def test_a_service_that_is_stopped_answers_what_was_asked(
    folder: Path, patience: float
) -> None:
    body = encoded(picture(30, 41, 3))
    head = f"POST /labels HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    command = [sys.executable, "serve.py", PROGRAM, "--port=0"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        address = ("127.0.0.1", port)
        asked = [socket.create_connection(address, patience) for _ in range(3)]
        for connection in asked:
            connection.sendall(head + body[:100])
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                socket.create_connection(address, patience).close()
            except OSError:  # nobody listens any more
                break
            time.sleep(0.05)
        for connection in asked:
            connection.sendall(body[100:])
            with connection, connection.makefile("rb") as answer:
                status, _, content = answer.read().partition(b"\r\n\r\n")
            assert status.startswith(b"HTTP/1.0 200")
            found = np.asarray(Image.open(io.BytesIO(content)))
            np.testing.assert_array_equal(found, is_bright(picture(30, 41, 3)))
        assert process.wait(patience) == 0


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("none.zip", r"cannot start: .*none\.zip is not a whole program"),
        (PROGRAM, "cannot start: .*[Aa]ddress already in use"),
    ],
)
def test_a_service_that_cannot_start_says_why(
    program: str,
    message: str,
    folder: Path,
    service: Service,
    example: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["serve.py", str(folder / program), f"--port={service.port}"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=message):
        example["serve"].main()


def test_files_are_labelled_and_those_that_cannot_be_are_named(
    folder: Path,
    example: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for i, shape in enumerate(((30, 41, 3), (70, 33, 3))):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture(*shape)))
    (tmp_path / "broken.png").write_bytes(b"hello")
    files = [str(tmp_path / name) for name in ("0.png", "broken.png", "1.png")]
    output = tmp_path / "labels"
    command = ["label_files.py", str(folder / PROGRAM), *files, f"--output={output}"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        example["label_files"].main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == "2 of 3 files are labelled\n"
    assert err == f"{files[1]}: This is not an image of a known format.\n"
    assert sorted(path.name for path in output.iterdir()) == ["0.png", "1.png"]
    for i, shape in enumerate(((30, 41, 3), (70, 33, 3))):
        found = np.asarray(Image.open(output / f"{i}.png"))
        np.testing.assert_array_equal(found, is_bright(picture(*shape)))

    before = (output / "0.png").read_bytes()
    with pytest.raises(
        SystemExit, match=r"0\.png, for the labels of .* is taken: give"
    ):
        example["label_files"].main()
    assert (output / "0.png").read_bytes() == before


def test_the_examples_need_pillow_numpy_and_the_loader_alone() -> None:
    for path in EXAMPLE.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            str(alias.name if isinstance(node, ast.Import) else node.module)
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
        assert others <= {"PIL", "numpy", *MODULES}


@pytest.mark.slow
def test_the_service_stands_under_load(run_benchmark: Any) -> None:
    run_benchmark(
        "load_serving.py", "--requests=60", "--tile=32", "--sides", "24", "40"
    )
