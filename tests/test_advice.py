"""What sentences advise exists: flags, verbs that take them, keys of a config."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax import config as config_lib
from segjax.backbones import BACKBONES
from segjax.commands.program import Program
from segjax.data import DATASETS
from segjax.data.folds import with_fold
from segjax.data.instance.batches import instance_batches
from segjax.data.semantic.batches import train_batches
from segjax.errors import UserError
from segjax.losses import LOSSES
from segjax.main import VERBS
from segjax.models import MODELS
from segjax.objects.separation import Separation
from segjax.runs.initialization import Initialization
from segjax.tasks.instance.evaluate import InstanceEvaluation
from segjax.tasks.instance.loss import INSTANCE_LOSSES
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.evaluate import Evaluation
from segjax.training.early_stopping import EarlyStopping
from segjax.training.experiment import schedule_from
from segjax.training.layout import Layout
from segjax.training.optimizers.builder import Common
from segjax.training.optimizers.optim import OPTIMIZERS, SCHEDULES

PACKAGE = Path(__file__).resolve().parents[1] / "segjax"
OF_OTHERS = {
    *("help", "verbosity", "upgrade", "flag", "check"),
    *("array", "chdir", "job", "requeue", "signal"),
    *("error", "exclude", "full", "no", "others"),
}
"""Flags of absl, of pip and of sha256sum, and a hole; of SLURM; first words of those of git."""
STYLE_SHEETS = ("report", "report_style")
"""Modules with style sheets, whose variables look like flags."""
FLAGS = {verb: Program(VERBS).flags_of(verb) for verb in VERBS}
EVERY = {name: values[name] for values in FLAGS.values() for name in values}
HOLE = "\N{WHITE SQUARE}"
"""Stands for what a sentence is filled in with."""
OWNERS = {
    "channels": ("folder",),
    "folder_check": ("folder",),
    "groups": ("folder", "instance_folder"),
    "label_files": ("folder",),
    "label_meanings": ("folder",),
    "label_spec": ("folder",),
    "pairing": ("folder", "instance_folder"),
    **dict.fromkeys(
        (path.stem for path in (PACKAGE / "data/datasets/coco").glob("*.py")), ("coco",)
    ),
}
"""The data sets that a module belongs to, beside those of its name."""


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module but its docstrings, with their lines."""
    tree = ast.parse(path.read_text())
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    passed = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, documented)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            passed |= {id(part) for part in node.values}
            texts = (getattr(part, "value", HOLE) for part in node.values)
            yield node.lineno, "".join(x if type(x) is str else HOLE for x in texts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, re.sub(r"%[sdgr]", HOLE, node.value)


def fields(table) -> set[str]:
    return {field.name for entry in table for field in dataclasses.fields(entry)}


def arguments(functions) -> set[str]:
    return {name for one in functions for name in inspect.signature(one).parameters}


KEYS = {
    "data": arguments(DATASETS[name] for name in DATASETS),
    "pipeline": arguments((train_batches, instance_batches)),
    "model": fields(MODELS.values()) | fields(BACKBONES.values()),
    "loss": arguments((*LOSSES.values(), *INSTANCE_LOSSES.values())),
    "optimizer": arguments(OPTIMIZERS.values()) | fields((Common,)) | {"weight_decay"},
    "schedule": arguments(SCHEDULES.values()) | {"warmup_steps"},
    "evaluation": fields((Evaluation, InstanceEvaluation)),
    "initialization": fields((Initialization,)),
    "crf": fields((CRF,)),
    "objects": fields((Separation,)),
    "early_stopping": fields((EarlyStopping,)),
    "sharding": fields((Layout,)),
    "fold": arguments((with_fold,)),
}
"""The keys that groups can have; `name` besides."""


def wrong(text: str, module: str) -> list[str]:
    """What a sentence names that there is not."""
    found = []
    for flag, value in re.findall(r"--([a-z]\w*)\b(?:=(\w+))?", text):
        if flag not in EVERY and flag not in OF_OTHERS:
            found.append(f"--{flag}")
        parser = EVERY[flag].parser if flag in EVERY else None
        allowed = getattr(parser, "enum_values", None)
        if value and allowed and value not in allowed:
            found.append(f"--{flag}={value}")
    for verb, rest in re.findall(r"segjax ([a-z]+(?: [a-z]+)?)((?: --\S+)+)", text):
        flags = re.findall(r"--(\w+)", rest)
        found += [f"{verb} --{x}" for x in flags if x not in FLAGS.get(verb, ())]
    owners = OWNERS.get(module, (module,))
    for path in re.findall(rf"\bconfig\.([a-z_{HOLE}]\w*(?:\.[\w{HOLE}]+)*)", text):
        group, *rest = path.split(".")
        keys = KEYS.get(group, set()) | {"name"}
        if group == "data" and set(owners) <= DATASETS.keys():
            each = [arguments((DATASETS[owner],)) for owner in owners]
            keys = set.intersection(*each) | {"name"}
        if group == HOLE or path == "json":
            continue
        if group not in config_lib.KEYS | config_lib.OPTIONAL:
            found.append(f"config.{group}")
        elif rest and HOLE not in rest[0] and rest[0] not in keys:
            found.append(f"config.{group}.{rest[0]}")
    return found


def test_flags_verbs_and_keys_that_sentences_name_are_there():
    looked_at, faults = 0, []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name == "viz" and path.stem in STYLE_SHEETS:
            continue
        for line, text in sentences(path):
            looked_at += "--" in text or "config." in text
            faults += [f"{path}:{line}: {x}" for x in wrong(text, path.stem)]
    assert looked_at > 100
    assert not faults


def test_every_module_of_data_that_names_a_key_belongs_to_data_sets():
    naming = {
        path.stem
        for path in (PACKAGE / "data").rglob("*.py")
        for _, text in sentences(path)
        if re.search(r"\bconfig\.data\.\w", text)
    }
    assert naming - OWNERS.keys() - DATASETS.keys() == set()
    assert {"pairing", "entries", "categories"} <= naming


@pytest.mark.parametrize(
    ("text", "module", "fault"),
    [
        ("Give --work_dir=RUN.", "main", "--work_dir"),
        ("Use --checkpoint=newest.", "main", "--checkpoint=newest"),
        ("segjax predict --save finds them", "main", "predict --save"),
        ("Set config.optimiser.", "main", "config.optimiser"),
        ("Set config.crf.sigma to 1.", "main", "config.crf.sigma"),
        ("Set config.data.remap.", "voc", "config.data.remap"),
        ("Set config.data.masks.", "folder_check", "config.data.masks"),
        ("Set config.data.remap.", "entries", "config.data.remap"),
        ("Set config.data.border_width.", "pairing", "config.data.border_width"),
    ],
)
def test_what_is_not_there_is_found(text, module, fault):
    assert wrong(text, module) == [fault]


def test_remap_is_advised_by_data_sets_that_have_it_alone():
    """Who turns stored values into ids says whether there is such a key."""
    advising, others = set(), set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ".to_ids"
            ):
                is_remappable = any(x.arg == "remappable" for x in node.keywords)
                (others if is_remappable else advising).add(path.stem)
    assert advising == {"folder_records", "folder_check"}
    assert others == {"camvid", "isbi_em", "image_lists"}
    having = {x for x in DATASETS if "remap" in arguments((DATASETS[x],))}
    assert having == {"folder"}


def test_labels_of_a_fixed_data_set_are_read_by_folder_as_advised(tmp_path):
    from segjax.data.datasets.voc import LABEL_SPEC

    label = np.arange(36, dtype=np.uint8).reshape(6, 6) % 22
    with pytest.raises(UserError) as caught:
        LABEL_SPEC.to_ids(label, "a.png", remappable=False)
    sentence = str(caught.value)
    assert "read labels of your own with the data set 'folder', whose key remap" in (
        sentence
    )
    assert "remap=" not in sentence
    for name in ("a", "b", "c"):
        for kind, values in (("images", label), ("labels", label)):
            path = tmp_path / "own" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    dataset = DATASETS["folder"](
        cache_dir=str(tmp_path / "d"),
        data_root=str(tmp_path / "own"),
        classes=tuple(zip(LABEL_SPEC.names, LABEL_SPEC.colors, strict=True)),
        remap=((21, 255),),
        channels=1,
    )
    found = dataset.splits["train"][0]["label"]
    np.testing.assert_array_equal(found, np.where(label == 21, 255, label))


@pytest.mark.parametrize(
    "preset", ["fcn_camvid.py:smoke", "mask_rcnn_coco.py", "unet_folder.py"]
)
def test_a_group_is_answered_with_an_override_that_works(preset):
    config = config_lib.load(str(PACKAGE.parent / "configs" / preset))
    groups = [key for key in config if hasattr(config[key], "keys")]
    assert "model" in groups
    for group in groups:
        with pytest.raises(UserError, match="is a group; set its keys") as caught:
            config_lib.check_overrides(config, [group])
        (advised,) = re.findall(r"such as --config\.([\w.]+)=", str(caught.value))
        config_lib.check_overrides(config, [advised])
    config.model = {"backbone": {"name": "resnet"}}
    with pytest.raises(UserError, match=r"set its keys one by one\.$"):
        config_lib.check_overrides(config, ["model"])


def test_a_warm_up_that_is_too_long_is_answered_with_one_that_is_not():
    config = config_lib.load(str(PACKAGE.parent / "configs/fcn_camvid.py:smoke"))
    config.schedule.warmup_steps = config.num_steps
    with pytest.raises(UserError) as caught:
        schedule_from(config)
    (advised,) = re.findall(r"warmup_steps=(\d+)\.$", str(caught.value))
    config.schedule.warmup_steps = int(advised)
    schedule_from(config)
