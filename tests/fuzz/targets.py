"""What reads the damaged files: the public readers, each called as users' code calls it.

A target takes a folder, the damaged file in it, and random numbers for options. It yields
calls, each of which must end in a value or in a `UserError`. What a call returns is
compared: a file that was cut off must not give other values than the whole one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mutators import damaged
from seeds import SIZE

Calls = Iterator[Callable[[], Any]]


class Wrong(Exception):
    """A result that cannot be right."""


def image(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax.data.files import images

    yield lambda: images.count_pages(path)
    yield lambda: list(images.read_pages(path))
    yield lambda: list(images.read_label_pages(path))
    yield lambda: images.read_page(path)
    yield lambda: images.read_label(path)
    yield lambda: images.read_palette(path)


def zarr(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax.data.files import images

    yield lambda: images.read_layout(root / "a.zarr")
    yield lambda: images.read_page(root / "a.zarr")
    yield lambda: images.read_label(root / "a.zarr")


def _records(name: str, root: Path, **options: Any) -> Any:
    """Opens a data set and reads every record."""
    from segjax.data import DATASETS

    places = {"cache_dir": str(root / "data"), "data_root": str(root)}
    dataset = DATASETS[name](**(places | options))
    found = []
    for split, records in dataset.splits.items():
        for i in range(len(records)):
            record = records[i]
            if record["image"].ndim != 3:
                raise Wrong(f"an image of the shape {record['image'].shape}")
            if any(
                m.size != record["image"].shape[:2] for m in record.get("masks", ())
            ):
                raise Wrong("masks of another size than their image")
            found.append((split, record))
    return found


def folder(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    classes = (("a", (0, 0, 0)), ("b", (255, 255, 255)))
    yield lambda: _records("folder", root, classes=classes, test_fraction=0.2)


def renamed(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """A file whose name is damaged; `name` holds it."""
    damaged = path.read_bytes()[:200].replace(b"/", b"").replace(b"\0", b"")
    for part in ("images", "labels"):
        target = os.fsencode(root / part) + b"/" + damaged + b".png"
        with contextlib.suppress(OSError):
            os.rename(root / part / "1.png", target)
    yield from folder(path, root, rng)
    yield lambda: _records("instance_folder", root)


def memory(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """What was remembered of a folder, damaged by values between two readings."""
    before = _records("folder", root)
    for known in (root / "data/segjax_folder").glob("*.json"):
        digest, line, facts = known.read_bytes().rpartition(b"\n")
        known.write_bytes(digest + line + damaged(rng, "json", facts, facts)[1])
    yield lambda: _same(before, _records("folder", root))


def _same(before: Any, after: Any) -> Any:
    if fingerprint(before) != fingerprint(after):
        raise Wrong("other records than before")
    return after


def instance_folder(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    yield lambda: _records("instance_folder", root)


def camvid(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax.data.datasets.camvid import read_list

    yield lambda: read_list(path)


def voc(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    yield lambda: _records("voc", root)


def coco(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    keys = ("keypoints", "masks", "raw_ids", "skip_invalid")
    options: dict[str, Any] = {key: bool(rng.random() < 0.5) for key in keys}
    options |= {"train": path.name, "train_images": "train", "validation": None}
    yield lambda: _records("coco", root, **options)


def _mask(make: Callable[..., Any], given: Any) -> Any:
    from segjax import rle
    from segjax.errors import UserError

    try:
        found = make(given, SIZE)
    except ValueError as error:
        if not str(error).startswith("points "):
            raise
        raise UserError(f"{error}.") from error  # an argument is named, as of functions
    if rle.decode(found).shape != SIZE:
        raise Wrong("a mask of another size")
    return found, rle.boxes_of([found]), rle.union([found, found])


def rle_text(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax import rle

    raw = path.read_bytes()
    yield lambda: _mask(rle.from_string, raw)
    yield lambda: _mask(rle.from_string, raw.decode("latin-1"))


def rle_counts(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax import rle

    counts = json.loads(path.read_bytes())
    if isinstance(counts, list):
        yield lambda: _mask(rle.from_counts, counts)


def polygons(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax.data.datasets.coco.polygons import polygons_to_rle

    given = json.loads(path.read_bytes())
    if isinstance(given, list) and all(
        isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in given
    ):
        yield lambda: _mask(polygons_to_rle, given)


def outlines(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax.data.files.geojson import read_geojson
    from segjax.data.files.imagej_roi import read_rois
    from segjax.data.outlines import fill

    read = read_geojson if path.suffix == ".geojson" else read_rois

    def filled() -> Any:
        found = read(path)
        return found, [fill(outline, SIZE, str(path)) for outline in found]

    yield filled


def weights(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax.pretrained.files import read_state

    yield lambda: read_state(path)


def tflite(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """The graph of a file with all its constants, and the network that it is."""
    from segjax.pretrained.files import read_state
    from segjax.pretrained.flatbuffer import FlatBufferError
    from segjax.pretrained.tflite import damaged, read_graph

    def constants() -> Any:
        graph = read_graph(path)
        used = {i for x in graph.operators for i in x.inputs if i >= 0}
        try:
            tensors = [graph.tensor(i) for i in sorted(used)]
            return [tensor.floats() for tensor in tensors if tensor.is_constant]
        except FlatBufferError as error:
            raise damaged(path, error) from error

    yield constants
    yield lambda: read_state(path)


def config(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """The config of a run, and the experiment that is built from it."""
    from segjax.tasks.table import make_task
    from segjax.training.run_files.workdir import read_config

    yield lambda: read_config(root / "run")
    yield lambda: bool(make_task(read_config(root / "run")))


def rows(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax.training.run_files.writer import read_rows

    def read() -> int:
        found = read_rows(path)
        for (
            row
        ) in found:  # as plots do, for which text and huge integers are no numbers
            for key, value in row.items():
                if key != "split" and value is not None:
                    math.isfinite(value)
        return len(found)

    yield read


def prepared(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """Data sets that TFDS wrote; the arguments are those of `seeds.train`."""
    counts = {"train": 2, "validation": 1, "test": 1}
    name = path.relative_to(root / "data").parts[0]
    size = 128 if name == "em_sections" else 64
    yield lambda: _records(name, root, data_root=None, size=size, **counts)


def trained(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """The newest checkpoint that is whole; its parameters must be those of a step."""
    from segjax.runs.load import load_trained
    from segjax.training.state import parameters_sha256

    def load() -> Any:
        found = load_trained(root / "run")
        if parameters_sha256(found.variables["params"]) != found.parameters_sha256:
            raise Wrong("other parameters than were saved")
        return found.step

    yield load


def archive(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    from segjax.pretrained.archive import read_archive

    yield lambda: read_archive(path)


def model(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """A member of a model file, damaged before the digests were made."""
    from segjax.pretrained.archive import LARGEST, write_archive
    from segjax.runs.load import load_trained

    whole = root / f"{path.name}.segjax"
    with whole.open("wb") as file:
        write_archive(file, {name: (root / name).read_bytes() for name in LARGEST})
    yield lambda: load_trained(whole).step


def resumed(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """A resumed run, which must end with the same bits as the whole one."""
    from segjax.config import load
    from segjax.runs.train import train

    before = json.loads((root.parent / "sha256").read_text())

    def resume() -> None:
        config = load(os.environ["FUZZ_CONFIG"])
        config.checkpoint_every = 1
        found = train(config, root / "run", cache_dir=str(root / "data"))
        if found.parameters_sha256 != before:
            raise Wrong("other parameters than of the run that was not damaged")

    yield resume


def command_line(path: Path, root: Path, rng: np.random.Generator) -> Calls:
    """The command itself, in a process of its own; its output must be readable."""
    run, configs = root.parent / "whole", Path(os.environ["FUZZ_CONFIG"]).parent
    if (root / "run").exists():
        arguments = ["evaluate", f"--workdir={root}/run", f"--cache_dir={run}/data"]
    elif (root / "images").exists():
        mine = f"--config={configs}/unet_folder.py:smoke"
        arguments = ["prepare", mine, f"--data_root={root}", f"--cache_dir={root}/data"]
    else:
        flags = (f"--workdir={run}/run", f"--input={path}", f"--output={root}/out")
        arguments = ["predict", *flags]
    yield functools.partial(_command, arguments)


def _command(arguments: list[str]) -> str:
    from segjax.errors import UserError

    command = [sys.executable, "-m", "segjax.main", *arguments]
    # What lies in the current folder is imported first, so nothing lies there.
    with tempfile.TemporaryDirectory() as empty:
        ended = subprocess.run(command, capture_output=True, cwd=empty, timeout=600)
    text = (ended.stdout + ended.stderr).decode("utf-8", "surrogateescape")
    raw = sorted({c for c in text if not c.isprintable() and c not in "\n\t"})
    if ended.returncode not in (0, 1):
        raise Wrong(f"exit code {ended.returncode}: {text[-200:]}")
    if "Traceback" in text or "Warning:" in text:
        raise Wrong(f"a traceback or a warning of Python: {text[-400:]}")
    if raw or len(text.splitlines()) > 60:
        raise Wrong(f"unreadable output (control characters {raw}): {text[:200]}")
    if ended.returncode:
        raise UserError(text.strip().rpartition("\n")[2])
    return text


def fingerprint(value: Any) -> Any:
    """A value as plain data that can be compared."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, Mapping):
        return {k: fingerprint(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [fingerprint(v) for v in value]
    return repr(value)


FREQUENCIES: dict[Callable[..., Calls], int] = {
    image: 285, zarr: 30, folder: 60, renamed: 20, memory: 20, instance_folder: 50, camvid: 20,
    voc: 30, coco: 130, rle_text: 30, rle_counts: 30, polygons: 30, outlines: 30, weights: 90, tflite: 30,
    config: 40, rows: 20, prepared: 35, trained: 18, resumed: 7, archive: 15, model: 10,
}  # fmt: skip
"""Of a thousand inputs, how many each target takes."""

TARGETS = {target.__name__: target for target in (*FREQUENCIES, command_line)}

WITH_JAX = ("trained", "resumed", "model")
"""Targets that start JAX, which a process must not do before it forks."""

NO_FILE = ("rle_text", "rle_counts", "polygons")
"""Targets that are given no file, so that none can be named."""
