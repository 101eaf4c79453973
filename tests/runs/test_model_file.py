"""Model files: what contradicts itself is refused in one sentence."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.pretrained import archive, shipped
from segjax.runs.load import load_trained
from segjax.runs.model_file import config_of, find_model_file, write_model_file
from segjax.runs.tuned_values import require_writable
from segjax.tasks.table import make_task
from segjax.training.state import parameters_sha256

ROOT = Path(__file__).resolve().parents[2]
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def members() -> Members:
    """Those of a model file of the smallest U-Net, whose parameters are zeros."""
    config = config_lib.load(f"{ROOT}/configs/unet_em.py:smoke")
    task = make_task(config)
    state = jax.eval_shape(lambda: task.init_state(1))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state.variables)
    about = {
        "channels": 1,
        "label_spec": {"names": ["a", "b"], "colors": [[0, 0, 0], [9, 9, 9]]},
        "step": 7,
        "parameters_sha256": parameters_sha256(variables["params"]),
    }
    file = io.BytesIO()
    write_model_file(file, config, variables, about, "# A card\n")
    with zipfile.ZipFile(file) as whole:
        return {name: whole.read(name) for name in archive.LARGEST}


def written(path: Path, members: Members) -> Path:
    with path.open("wb") as file:
        archive.write_archive(file, members)
    return path


def in_json(name: str, change: Callable[[dict[str, Any]], None]) -> Callable:
    def changed(members: Members) -> Members:
        content = json.loads(members[name])
        change(content)
        return members | {name: json.dumps(content).encode()}

    return changed


def in_model(**values: Any) -> Callable:
    return in_json(archive.MODEL, lambda model: model.update(values))


def in_about(**values: Any) -> Callable:
    return in_json(archive.MODEL, lambda model: model["about"].update(values))


def in_config(change: Callable[[dict[str, Any]], None]) -> Callable:
    return in_json(archive.CONFIG, change)


def in_weights(change: Callable[[dict[str, np.ndarray]], object]) -> Callable:
    def changed(members: Members) -> Members:
        arrays = dict(safetensors.numpy.load(members[archive.WEIGHTS]))
        change(arrays)
        return members | {archive.WEIGHTS: safetensors.numpy.save(arrays)}

    return changed


def content(name: str, raw: bytes) -> Callable:
    return lambda members: members | {name: raw}


BIAS = "params/logits/bias"
TWICE = b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}'
WRONG = {
    "another version": (
        in_model(version=2, segjax="9.0"),
        "version 2, and this segjax",
    ),
    "no version": (in_model(version=None), "version None"),
    "another format": (in_model(format="zip"), "not that of a model"),
    "nothing about it": (in_model(about=[]), "says nothing"),
    "a model that is a list": (content(archive.MODEL, b"[]"), "not that of a model"),
    "nested JSON": (content(archive.CONFIG, b"[" * 10**5), "nested too deeply"),
    "no JSON": (content(archive.MODEL, b"{"), "is not JSON"),
    "a config of a list": (content(archive.CONFIG, b"[]"), "a config is a JSON object"),
    "no channels": (in_about(channels=0), "0 channels"),
    "channels that are text": (in_about(channels="1"), "'1' channels"),
    "a billion channels": (in_about(channels=10**9), "1000000000 channels"),
    "other channels": (in_about(channels=3), "by its config float32 [3, 3, 3,"),
    "learned text": (
        in_about(learned={"spread": ["a"]}),
        "it learned {'spread': ['a']}",
    ),
    "counts of no images": (in_about(images=[5]), "it counts [5] images"),
    "hashes of no images": (in_about(train_images=5), "it names 5"),
    "learned too much": (in_about(learned={"low": [1.0, 2.0]}), "it learned"),
    "learned another thing": (in_about(learned={"x": [1]}), "classes or images"),
    "learned NaN": (in_about(learned={"low": [float("nan")]}), "it learned"),
    "no step": (in_about(step=None), "step or its classes are missing"),
    "other parameters": (in_about(parameters_sha256="0"), "not those that it names"),
    "an unknown word on classes": (in_about(label_spec={"x": 1}), "its classes"),
    "too many classes": (
        in_about(label_spec={"names": "abc", "colors": [[0, 0, 0]] * 3}),
        "names 3 classes, and its network has 2",
    ),
    "an unknown key": (in_config(lambda x: x.update(run="rm")), 'unknown key "run"'),
    "an unknown network": (
        in_config(lambda x: x["model"].update(name="os.system")),
        "'os.system', which segjax does not know",
    ),
    "a larger network": (
        in_config(lambda x: x["model"].update(features=[10**6, 10**7])),
        "by its config float32",
    ),
    "an array missing": (in_weights(lambda x: x.pop(BIAS)), f"{BIAS} is missing"),
    "an array more": (
        in_weights(lambda x: x.update(more=np.zeros(1))),
        "more is float64 [1], and by its config has no place",
    ),
    "another shape": (
        in_weights(lambda x: x.update({BIAS: np.zeros(3, np.float32)})),
        f"{BIAS} is float32 [3], and by its config float32 [2]",
    ),
    "another type": (
        in_weights(lambda x: x.update({BIAS: np.zeros(2, np.float16)})),
        f"{BIAS} is float16 [2]",
    ),
    "NaN": (
        in_weights(lambda x: x.update({BIAS: np.full(2, np.nan, np.float32)})),
        f"not finite, in {BIAS}",
    ),
    "no safetensors": (content(archive.WEIGHTS, b"\x80\4pickle"), "its header claims"),
    "an array twice": (
        content(archive.WEIGHTS, len(TWICE).to_bytes(8, "little") + TWICE),
        'it holds "a" twice',
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_contradicts_itself_is_one_sentence(kind, members, tmp_path) -> None:
    change, words = WRONG[kind]
    path = written(tmp_path / "cells.segjax", change(members))
    with pytest.raises(UserError) as caught:
        load_trained(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_model_file_is_loaded_like_a_run(members, tmp_path) -> None:
    path = written(tmp_path / "cells.segjax", members)
    trained = load_trained(path)
    assert (trained.step, trained.channels) == (7, 1)
    assert trained.label_spec.names == ("a", "b")
    for options in ({"best": True}, {"step": 7}):
        with pytest.raises(UserError, match="holds one checkpoint"):
            load_trained(path, **options)
    with pytest.raises(UserError, match="leave out --save"):
        require_writable(path)


def test_models_that_ship_are_found_by_name(
    members, tmp_path, monkeypatch, caplog
) -> None:
    (tmp_path / "shipped").mkdir()
    nuclei = written(tmp_path / "shipped/nuclei.segjax", members)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nuclei").mkdir()  # a folder of images, say
    assert find_model_file("nuclei") == nuclei
    assert config_of("nuclei").model.name == "unet"
    with pytest.raises(UserError, match=r'nuclie, .* Did you mean "nuclei"\?'):
        find_model_file("nuclie")
    with pytest.raises(UserError, match=r"gone\.segjax"):
        find_model_file("elsewhere/gone.segjax")
    (tmp_path / "nuclei/config.json").write_text("{}")  # a run, which is nearer
    caplog.set_level("INFO")
    assert find_model_file("nuclei") is None
    assert caplog.messages[0].startswith("nuclei is what lies in this folder, not the")
    (tmp_path / "nuclei/fold_0").mkdir()  # a run with folds
    (tmp_path / "nuclei/config.json").rename("nuclei/fold_0/config.json")
    assert find_model_file("nuclei") is None
