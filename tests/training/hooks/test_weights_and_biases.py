"""Weights & Biases, offline: what is written is read back by wandb's own package."""

import io
import json
import struct
import time

import numpy as np
import pytest
from PIL import Image

from segjax.training.hooks import RunStart
from segjax.training.hooks.weights_and_biases import RUN_ID, WeightsAndBiases

BLOCK, WHOLE, LAST = 32768, 1, 4
"""Of LevelDB's log: bytes of a block, and kinds of the pieces that end a record."""

pytest.importorskip(
    "wandb", reason="needs wandb: pip install -r requirements-parity.txt"
)


def picture():
    with io.BytesIO() as file:
        Image.fromarray(np.full((8, 12, 3), 200, np.uint8)).save(file, "PNG")
        return file.getvalue()


def follow(workdir, step, *, error=False):
    """A run that starts at a step, and does two more."""
    hook = WeightsAndBiases("cells", group="seeds", tags=("smoke",))
    hook.on_start(RunStart(workdir, {"model": {"name": "unet"}}, step, 9))
    hook.on_log(step + 1, {"loss": 0.5, "broken": float("nan")})
    pictures = lambda: {"validation_000.png": picture()}
    hook.on_evaluate(step + 2, "validation", {"mean_iou": 0.25}, pictures)
    hook.on_end(None if error else object())


def records(folder):
    """The records of a file of wandb: LevelDB's log, with wandb's own messages in it."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    content, place, found, parts = path.read_bytes(), 7, [], []
    while place < len(content):
        if (left := BLOCK - place % BLOCK) < 7:  # too little for a header
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (WHOLE, LAST):
            found.append(Record.FromString(b"".join(parts)))
            parts = []
    return found


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_an_offline_run_is_read_back_and_a_resumed_one_is_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    workdir = tmp_path / "run"
    workdir.mkdir()
    follow(workdir, 0, error=True)
    follow(workdir, 2)
    folders = sorted((workdir / "wandb").glob("offline-run-*"))
    # offline-run-TIME-ID, and a number where two began within one second
    assert len({folder.name.split("-")[3] for folder in folders}) == 1
    files = [records(folder) for folder in folders]
    for _ in range(600):  # another process writes them
        if all(any(r.HasField("exit") for r in file) for file in files):
            break
        time.sleep(0.1)
        files = [records(folder) for folder in folders]
    runs = [next(r.run for r in file if r.HasField("run")) for file in files]
    assert {run.run_id for run in runs} == {(workdir / RUN_ID).read_text()}
    assert (runs[0].project, runs[0].display_name, runs[0].run_group) == (
        "cells",
        "run",
        "seeds",
    )
    config = {item.key: item.value_json for run in runs for item in run.config.update}
    assert json.loads(config["model"]) == {"name": "unet"}
    rows = [
        {
            item.key or ".".join(item.nested_key): item.value_json
            for item in r.history.item
        }
        for file in files
        for r in file
        if r.HasField("history")
    ]
    assert [json.loads(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert json.loads(rows[0]["train/loss"]) == 0.5
    assert "train/broken" not in rows[0]
    assert json.loads(rows[3]["validation/mean_iou"]) == 0.25
    assert any("pictures/validation_000" in key for key in rows[1])
    images = sorted(workdir.glob("wandb/offline-run-*/files/media/images/**/*.png"))
    assert len(images) == 2
    assert Image.open(images[0]).size == (12, 8)
    exits = [r.exit.exit_code for file in files for r in file if r.HasField("exit")]
    assert exits == [1, 0]
